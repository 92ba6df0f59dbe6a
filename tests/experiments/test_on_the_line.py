import dataclasses
import json

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from typer.testing import CliRunner

import cde_nets as cn
from experiments import on_the_line as experiment


@pytest.fixture
def small(monkeypatch, looks, unchecked):
    monkeypatch.setattr(experiment, "INTERVALS", 2)
    monkeypatch.setattr(experiment, "FINE", 64)
    monkeypatch.setattr(experiment, "STEERED", 3)
    cases = tuple(dataclasses.replace(case, steps=6) for case in experiment.CASES)
    monkeypatch.setattr(experiment, "CASES", cases)


def test_a_gap_obeys_its_linear_equation_and_the_order_is_kept(small):
    row = experiment.carry(3)
    fields = experiment.family(1, 3)
    generator = torch.Generator().manual_seed(3)
    values = experiment.SIZE * torch.randn(
        experiment.INTERVALS, experiment.LINE[0], dtype=torch.float64, generator=generator
    )
    pair = torch.linspace(-1, 1, experiment.CARRIED, dtype=torch.float64)[4:6, None]

    def right(t, y, u):
        v = fields.velocity(torch.from_numpy(y[:2, None].copy()), u)[:, 0].numpy()
        # The logarithm of the gap, by the divided difference.
        return [*v, (v[1] - v[0]) / (y[1] - y[0])]

    y = np.array([*pair[:, 0].tolist(), 0.0])
    for n, u in enumerate(values):
        span = (n / len(values), (n + 1) / len(values))
        y = solve_ivp(right, span, y, "DOP853", args=(u,), rtol=1e-8, atol=1e-10).y[:, -1]
    gaps = np.diff(row["path"][:, :, 0], axis=1)
    assert gaps[-1, 4] == pytest.approx(gaps[0, 4] * np.exp(y[2]), rel=1e-4)
    assert row["least_gap"] == gaps.min() > 0


def test_euler_swaps_what_its_own_ode_does_not_and_the_order_is_reached(small):
    same, swapped, euler, _ = experiment.CASES
    found = experiment.steer(same, 1)
    assert (found["status"], experiment.reached([found])) == ("SOLVED", 1)
    assert (np.diff(np.array(found["targets"])[:, 0]) > 0).all()
    found = experiment.steer(euler, 1)
    assert found["residual"] < 1e-9 < 0.1 < found["ode_residual"]
    assert found["taken"][1].shape == (euler.steps + 1, experiment.STEERED, 1)
    assert (np.diff(found["taken"][1][-1, :2, 0]) < 0).all()
    assert (np.diff(found["ode"][1][:, :, 0], axis=1) > 0).all()
    found = experiment.steer(dataclasses.replace(swapped, seconds=0.1), 1)
    assert found["status"] in ("NOT_SOLVED", "COARSE")
    # Two points in one order, their targets a gap apart in the other: one is at least half the gap away.
    gap = found["targets"][0][0] - found["targets"][1][0]
    assert found["ode_residual"] >= gap / 2 > 0


def test_lost_points_are_infinitely_far_and_null_in_json():
    # dx = 1 + x^2 leaves the line at t = pi/2 - atan(x).
    fields = cn.PolynomialFields(torch.tensor([[[1.0, 0.0, 1.0]]], dtype=torch.float64), 2)
    x = torch.tensor([[-1.0], [0.5]], dtype=torch.float64)
    _, path = experiment.follow(fields, 2 * torch.ones(1, 1, dtype=torch.float64), x, "rk4", 100)
    assert path[-1, 0, 0] == pytest.approx(np.tan(2 - np.pi / 4), rel=1e-5)
    assert np.isnan(path[-1, 1, 0])
    distance = experiment._distance(path, x)
    assert distance == np.inf
    assert experiment._without_paths({"seed": 0, "ode_residual": distance, "ode": path}) == {
        "seed": 0,
        "ode_residual": None,
    }


def test_numbers_figure_and_table(small, monkeypatch, tmp_path):
    monkeypatch.setattr(experiment, "CASES", tuple(dataclasses.replace(c, seconds=0.1) for c in experiment.CASES))
    for folder in ("images", "results"):
        (tmp_path / "docs" / folder).mkdir(parents=True)
    arguments = ["--out", str(tmp_path / "out"), "--seed", "2", "--seeds", "1", "--publish", str(tmp_path / "docs")]
    ran = CliRunner().invoke(experiment.app, arguments, env={"COLUMNS": "160"})
    assert ran.exit_code == 0, ran.output
    content = json.loads((tmp_path / "docs" / "results" / "on_the_line.json").read_text())
    assert [row["case"] for row in content["steered"]] == [case.name for case in experiment.CASES]
    # Four coefficients of a cubic; at three points fewer values.
    assert content["proofs"][0]["universal_proved"]
    assert "3 of 3" in content["proofs"][0]["points"]
    assert "order" in content["proofs"][0]["universal"]
    assert content["carried"][0]["least_gap"] > 0
    assert f"{content['carried'][0]['least_gap']:.1e}" in ran.output
    assert (tmp_path / "docs" / "images" / "on_the_line.png").read_bytes()[:4] == b"\x89PNG"
