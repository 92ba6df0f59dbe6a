import json

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from typer.testing import CliRunner

from experiments import planar as experiment


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(experiment, "DATA", ("circles",))
    monkeypatch.setattr(experiment, "TRAINED_POINTS", 20)
    monkeypatch.setattr(experiment, "DRAWN_POINTS", 50)
    monkeypatch.setattr(experiment, "INTERVALS", 2)
    monkeypatch.setattr(experiment, "FINE", 2)


def test_curves():
    s = np.linspace(0, 1, 101)
    for label, radius in ((0, 1.0), (1, 0.5)):
        np.testing.assert_allclose(np.linalg.norm(experiment.curve("circles", label, s), axis=1), radius)
    for data, apart in (("moons", 0.15), ("spirals", 0.15)):
        first, second = (experiment.curve(data, label, s) for label in (0, 1))
        # Half a turn takes one to the other.
        np.testing.assert_allclose(first, -second)
        assert np.linalg.norm(first[:, None] - second, axis=2).min() > apart
    x, labels = experiment.training_points("moons", 3)
    nearest = [np.linalg.norm(x.numpy()[:, None] - experiment.curve("moons", k, s), axis=2).min(1) for k in (0, 1)]
    assert (np.argmin(nearest, 0) == labels.numpy()).all()


def test_planes_and_spaces_have_the_same_trained_numbers_and_the_fine_steps_follow_the_ode(small):
    planar, spatial = (experiment.Network(experiment.Cell("circles", dim, 1)) for dim in (2, 3))
    numbers = [sum(p.numel() for p in net.parameters() if p.requires_grad) for net in (planar, spatial)]
    row = experiment.train(experiment.Cell("circles", 3, 1), 2)
    assert numbers == [experiment.INTERVALS * experiment.FIELDS + 1] * 2 == [row["trained_numbers"]] * 2
    network = experiment.Network.of(row, factor=4)
    fields = network.flow.families[0]
    x = np.array([0.3, -0.4, 0.0])
    for n, u in enumerate(torch.tensor(row["control"], dtype=torch.float64)):
        span = (n / experiment.INTERVALS, (n + 1) / experiment.INTERVALS)

        def right(t, y, u=u):
            return fields.velocity(torch.from_numpy(y[None].copy()), u)[0].numpy()

        x = solve_ivp(right, span, x, "DOP853", rtol=1e-8, atol=1e-10).y[:, -1]
    logits = row["scale"] / 3**0.5 * network.readout.anchors.numpy() @ x
    with torch.no_grad():
        np.testing.assert_allclose(network(torch.tensor([[0.3, -0.4]], dtype=torch.float64))[0], logits, atol=1e-5)


def test_training_lowers_the_loss_and_the_row_says_what_it_reached(small):
    cell = experiment.Cell("circles", 3, 0)
    ticks = []
    row = experiment.train(cell, 12, lambda: ticks.append(1))
    assert len(ticks) == row["evaluations"]
    x, labels = experiment.training_points("circles", 0)
    with torch.no_grad():
        before = torch.nn.functional.cross_entropy(experiment.Network(cell)(x), labels)
    assert row["loss"] < 0.9 * before
    x, labels = experiment.points_on_curves("circles")
    ode = experiment.Network.of(row)
    with torch.no_grad():
        every = float((ode(x).argmax(1) == labels).double().mean())
    assert row["test_accuracy_ode"] == every
    assert row["energy"] == pytest.approx(np.square(row["control"]).sum() / experiment.INTERVALS)


def test_means_are_those_of_the_seeds():
    rows = [{"data": "moons", "dim": 2, **dict.fromkeys(experiment.ACCURACIES, value)} for value in (0.5, 0.7)]
    said = experiment.means(rows)[0]["test_accuracy"]
    assert said["mean"] == pytest.approx(0.6)
    assert said["spread"] == pytest.approx(0.02**0.5)
    assert said["best"] == 0.7
    assert experiment.means(rows[:1])[0]["test_accuracy"]["spread"] is None
    assert experiment._percent(0.9999) == "99.9"


def test_numbers_figure_and_a_second_call_reads_networks_back(small, monkeypatch, tmp_path):
    for folder in ("images", "results"):
        (tmp_path / "docs" / folder).mkdir(parents=True)
    out = tmp_path / "out"
    arguments = ["--out", str(out), "--seeds", "1", "--evaluations", "2", "--publish", str(tmp_path / "docs")]
    ran = CliRunner().invoke(experiment.app, arguments, env={"COLUMNS": "160"})
    assert ran.exit_code == 0, ran.output
    first = (out / "planar.json").read_text()
    content = json.loads(first)
    assert [(row["data"], row["dim"]) for row in content["rows"]] == [("circles", 2), ("circles", 3)]
    # By chance or by training: a flow of the plane does not divide the circles.
    assert content["rows"][0]["test_accuracy_ode"] < 1
    assert (tmp_path / "docs" / "images" / "planar.png").read_bytes()[:4] == b"\x89PNG"
    lines = (out / "networks.jsonl").read_text().splitlines()
    (out / "networks.jsonl").write_text(lines[0] + "\n")
    trained = []
    whole = experiment.train
    monkeypatch.setattr(experiment, "train", lambda cell, *rest: trained.append(cell) or whole(cell, *rest))
    again = CliRunner().invoke(experiment.app, arguments)
    assert again.exit_code == 0, again.output
    assert trained == [experiment.Cell("circles", 3, 0)]
    assert (out / "planar.json").read_text() == first
    # Networks of other evaluations are others.
    arguments[arguments.index("--evaluations") + 1] = "3"
    assert CliRunner().invoke(experiment.app, arguments).exit_code == 0
    assert len(trained) == 3
    assert len((out / "networks.jsonl").read_text().splitlines()) == 4
