"""Pictures are tested by what is in them: data of the artists, labels, files; no display and no global state."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import cde_nets as cn
from cde_nets import plot
from cde_nets.plot.style import figure

SMALL = cn.ImageNetworkConfig(channels=10, intervals=(2, 1), count=6)


@pytest.fixture(autouse=True)
def no_global_figures():
    yield
    assert plt.get_fignums() == [], "pyplot was not asked for a figure"


@pytest.fixture
def control():
    return cn.PiecewiseConstantControl.random(3, 6, scale=1.0, seed=0)


def test_control_map_shows_the_values(control):
    ax = plot.control_map(control)
    np.testing.assert_allclose(ax.images[0].get_array(), control.values.detach().numpy().T)
    low, high = ax.images[0].get_clim()
    assert -low == high == pytest.approx(float(control.values.detach().abs().max()))
    assert ax.get_xlabel() == "t"


def test_control_curves_name_the_fields_of_largest_energy(control):
    with torch.no_grad():
        control.values[:, 4] = 100.0
    ax = plot.control_curves(control)
    named = {text.get_text(): text.xy[1] for text in ax.texts}
    assert len(named) == 5
    assert named["$u_{5}$"] == pytest.approx(100.0)
    assert len(ax.patches) == 6
    np.testing.assert_allclose(ax.patches[-5].get_data().values, 100.0)


def flow_of(control, *, tied):
    families = [cn.LinearFields.random(2, control.count, seed=n) for n in range(1 if tied else control.steps)]
    return cn.ControlledODE(families, control)


def test_controls_of_all_stages_share_one_scale(control):
    other = cn.PiecewiseConstantControl.random(2, 6, scale=9.0, seed=1)
    made = plot.controls([flow_of(control, tied=True), flow_of(other, tied=False)])
    limits = {ax.images[0].get_clim() for ax in made.axes if ax.images and ax.get_ylabel() == "field i"}
    assert len(limits) == 1
    energy = sum(float(c.values.detach().square().sum()) / c.steps for c in (control, other))
    assert f"{energy:.3g}" in made.get_suptitle()
    assert "30 trained controls" in made.get_suptitle()
    titles = [ax.get_title() for ax in made.axes if ax.get_title()]
    assert titles == ["stage 1, tied fields", "stage 2, fresh fields on each interval"]


def test_control_sizes_fall():
    control = cn.PiecewiseConstantControl(2, 3, values=torch.tensor([[1.0, -4.0, 2.0], [0.0, 5.0, -5.0]]))
    ax = plot.control_sizes(control)
    assert [list(line.get_ydata()) for line in ax.lines] == [[4, 2, 1], [5, 5, 0]]


def test_curves_show_the_metrics_and_the_chosen_epoch():
    rows = [
        {"epoch": n, "loss": 1.0 / n, "train_accuracy": 1 - 0.2 / n, "validation_accuracy": 1 - 0.1 / n}
        for n in (1, 2, 3)
    ]
    left, right = plot.curves(rows, chosen_epoch=2).axes
    np.testing.assert_allclose(left.lines[0].get_ydata(), [1, 1 / 2, 1 / 3])
    np.testing.assert_allclose(right.lines[1].get_ydata(), [10, 5, 10 / 3])
    assert right.lines[2].get_xdata()[0] == 2


def test_confusion_counts_mistakes_and_leaves_the_diagonal_white():
    matrix = np.array([[50, 2], [3, 45]])
    ax = plot.confusion(matrix)
    assert "5 mistakes in 100 images" in ax.get_title()
    assert [text.get_text() for text in ax.texts] == ["50", "2", "3", "45"]
    assert ax.images[0].get_array().mask.tolist() == [[True, False], [False, True]]


def test_one_class_has_a_confusion_matrix_too():
    assert plot.confusion(np.array([[3]])).get_title() == "0 mistakes in 3 images"


def test_a_perfect_confusion_matrix_is_drawn():
    assert "0 mistakes" in plot.confusion(np.diag([3, 4])).get_title()


def test_axes_that_are_given_are_drawn_on(control):
    ax = figure().subplots()
    assert plot.control_map(control, ax) is ax
    assert plot.confusion(np.eye(2, dtype=int), figure().subplots()) is not None


def test_the_flow_of_images_ends_with_the_networks_logits():
    network = cn.image_network(SMALL)
    images, labels = torch.rand(2, 28, 28), torch.tensor([3, 7])
    made = plot.image_flow(network, images, labels)
    assert isinstance(made, Figure)
    columns = 1 + 1 + sum(SMALL.intervals) + 1
    assert len(made.axes) == 2 * columns
    bars = [bar.get_height() for bar in made.axes[columns - 1].patches]
    np.testing.assert_allclose(bars, network(images)[0].detach().numpy(), rtol=1e-5, atol=1e-6)
    lifted = network.start(images).reshape(2, 14, 14, 10)[1, :, :, 7]
    np.testing.assert_allclose(made.axes[columns + 1].images[0].get_array(), lifted.numpy(), rtol=1e-6)


def test_the_flow_of_images_wants_an_image_network(bad_input):
    fields = cn.LinearFields.random(3, 2, seed=0)
    flow = cn.ControlledODE(fields, cn.PiecewiseConstantControl(1, 2))
    network = cn.Network(None, [cn.Stage(flow)], cn.DifferenceReadout())
    with pytest.raises(ValueError, match="ConvLift"):
        plot.image_flow(network, torch.rand(1, 3, 3), torch.tensor([0]))


def test_pictures_of_an_unfinished_run_are_refused(tmp_path, waves):
    with pytest.raises(ValueError, match="not a finished run"):
        plot.run_pictures(cn.Run(tmp_path), cn.image_network(SMALL), waves.test)


def test_saving(tmp_path, control):
    plot.save(plot.control_map(control), tmp_path / "a.png")
    plot.save(plot.controls([flow_of(control, tied=True)]), tmp_path / "b.svg")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert b"<svg" in (tmp_path / "b.svg").read_bytes()
