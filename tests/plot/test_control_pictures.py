"""Controls of many intervals, and those that are no staircases: what is drawn is u."""

import numpy as np
import pytest
import torch

import cde_nets as cn
from cde_nets import plot


def test_a_map_of_many_intervals_shows_values_and_no_lines_over_them():
    control = cn.PiecewiseConstantControl.random(96, 40, scale=1.0, seed=0)
    ax = plot.control_map(control)
    np.testing.assert_allclose(ax.images[0].get_array(), control.values.detach().numpy().T)
    assert not ax.lines
    assert len(ax.get_xticks()) < 10
    assert ax.get_yticks().tolist() == [1, 5, 10, 15, 20, 25, 30, 35, 40]
    few = plot.control_map(cn.PiecewiseConstantControl.random(5, 6, scale=1.0, seed=0))
    assert len(few.lines) == 4
    np.testing.assert_allclose(few.get_xticks(), np.arange(6) / 5)
    assert few.get_yticks().tolist() == [1, 2, 3, 4, 5, 6]


def test_a_smooth_control_is_sampled():
    coefficients = torch.tensor([[0.0, 1.0], [3.0, 0.0]], dtype=torch.float64)
    control = cn.SpectralControl(2, 2, coefficients=coefficients)
    shown = plot.control_map(control).images[0].get_array()
    t = (np.arange(shown.shape[1]) + 0.5) / shown.shape[1]
    np.testing.assert_allclose(shown, [3 * np.sqrt(2) * np.cos(np.pi * t), np.ones_like(t)], atol=1e-12)
    lines = plot.control_curves(control).lines
    t = lines[0].get_xdata()
    assert (t[0], t[-1]) == (0, 1)
    drawn = sorted((line.get_ydata() for line in lines), key=np.ptp)
    np.testing.assert_allclose(drawn[0], 1)
    np.testing.assert_allclose(drawn[1], 3 * np.sqrt(2) * np.cos(np.pi * t), atol=1e-12)


def test_jumps_are_drawn_upright_over_any_span():
    def u(t):
        return torch.where(t < 1.5, t, -t)[..., None]

    control = cn.CallableControl(u, 1, breakpoints=(1.5,), span=(1.0, 3.0))
    ax = plot.control_curves(control)
    assert ax.get_xlim() == (1, 3)
    (line,) = ax.lines
    t, values = line.get_data()
    np.testing.assert_allclose(values[t == 1.5], [1.5, -1.5])
    np.testing.assert_allclose(values, np.where(np.arange(len(t)) < len(t) / 2, t, -t))
    assert ax.texts[0].xy[1] == pytest.approx(-3)
    assert plot.control_map(control).images[0].get_extent() == [1, 3, 1.5, 0.5]


def test_staircases_of_many_intervals_have_lanes():
    control = cn.PiecewiseConstantControl.random(96, 8, scale=1.0, seed=0)
    values = control.values.detach().numpy()
    ax = plot.control_curves(control)
    strongest = np.argsort(-(values**2).sum(0))[:5]
    assert [text.get_text() for text in ax.get_yticklabels()] == [f"$u_{{{i + 1}}}$" for i in strongest]
    bound = abs(values[:, strongest]).max()
    assert f"{bound:.3g}" in ax.get_ylabel()
    colours = set()
    for zero, i, stairs in zip(ax.get_yticks(), strongest, ax.patches, strict=True):
        np.testing.assert_allclose((stairs.get_data().values - zero) * bound, values[:, i], atol=1e-6)
        np.testing.assert_allclose(stairs.get_data().baseline, zero)
        colours.add(stairs.get_facecolor())
    assert len(colours) == 5
    low, high = ax.get_ylim()
    assert all(low <= (p.get_data().values).min() and (p.get_data().values).max() <= high for p in ax.patches)


def test_a_control_of_zero_is_drawn():
    assert len(plot.control_curves(cn.PiecewiseConstantControl(96, 3)).patches) == 3


def test_names_of_ends_neither_meet_nor_leave():
    ax = plot.control_curves(cn.PiecewiseConstantControl(2, 5, values=torch.tensor([[-1.0] * 5, [1.0] * 5])))
    low, high = ax.get_ylim()
    places = np.sort([text.xy[1] for text in ax.texts])
    assert np.diff(places).min() > 0.1 * (high - low)
    assert low <= places[0]
    assert places[-1] <= high


def test_sizes_of_many_intervals_have_a_scale_in_place_of_names():
    control = cn.PiecewiseConstantControl.random(24, 6, scale=1.0, seed=0)
    ax = plot.control_sizes(control)
    assert ax.get_legend() is None
    assert len(ax.lines) == 24
    assert len({line.get_color() for line in ax.lines}) == 24
    np.testing.assert_allclose(ax.lines[3].get_ydata(), -np.sort(-abs(control.values[3].detach().numpy())))
    assert ax.get_figure().axes[1].get_ylabel() == "t"


def test_a_row_of_a_control_a_row():
    path = torch.rand(3, 4, 2, dtype=torch.float64)
    control = cn.DataControl([0.0, 1.0, 2.0, 4.0], path)
    for i, line in enumerate(plot.control_curves(control, row=1).lines):
        t, values = line.get_data()
        assert t[-1] == 4
        slopes = (path[1].diff(dim=0) / torch.tensor([[1.0], [1.0], [2.0]])).numpy()
        assert any(np.isclose(values[-1], slopes[2, k]) for k in range(2)), i
    with pytest.raises(ValueError, match=r"a control for each of 3 rows; row is None, expected one of 0 to 2"):
        plot.control_map(control)
    with pytest.raises(ValueError, match="row is 3, expected one of 0 to 2"):
        plot.control_curves(control, row=3)
    with pytest.raises(ValueError, match="row is 0, but all rows share this SpectralControl"):
        plot.control_map(cn.SpectralControl(2, 2), row=0)


@pytest.mark.parametrize("limit", [-1.0, float("nan"), float("inf")])
def test_limits_of_colours_that_are_none(limit):
    control = cn.PiecewiseConstantControl.random(5, 6, scale=1.0, seed=0)
    with pytest.raises(ValueError, match=f"limit is {limit}, expected a number from 0 up"):
        plot.control_map(control, limit=limit)


@pytest.mark.usefixtures("bad_input")
@pytest.mark.parametrize("draw", [plot.control_map, plot.control_curves])
def test_what_is_no_control(draw):
    control = cn.PiecewiseConstantControl.random(5, 6, scale=1.0, seed=0)
    with pytest.raises(ValueError, match=r"control must be a Control, such as flow.control; got a Parameter"):
        draw(control.values)


def test_no_flows_have_no_controls():
    with pytest.raises(ValueError, match="there are none: expected one or more"):
        plot.controls([])


def test_pictures_are_saved_where_text_says(tmp_path):
    ax = plot.control_map(cn.PiecewiseConstantControl.random(5, 6, scale=1.0, seed=0))
    plot.save(ax, str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    for name in ("a", "a.xyz"):
        with pytest.raises(ValueError, match=f"The file is '{name}', expected a name that ends in one of"):
            plot.save(ax, tmp_path / name)
