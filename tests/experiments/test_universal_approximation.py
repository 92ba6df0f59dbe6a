import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import cde_nets as cn
from experiments import universal_approximation as experiment


@pytest.fixture(autouse=True)
def quick(monkeypatch, unchecked):
    for name, value in {"WIDTHS": (2, 4, 8, 16, 32), "BLOCKS": (1, 2, 3), "QUICK_DEPTHS": (1, 2)}.items():
        monkeypatch.setattr(experiment, name, value)
    monkeypatch.setattr(experiment, "EVALUATIONS", 12)


@pytest.mark.parametrize("n", [2, 7, 40])
def test_rectified_units_draw_the_polygon_through_the_samples(n):
    x = np.linspace(0, 1, 301)
    knots = np.linspace(0, 1, n + 1)
    wanted = np.interp(x, knots, experiment.target(knots))
    np.testing.assert_allclose(experiment.polygon(experiment.target, n)(x), wanted, rtol=0, atol=1e-11)
    error = experiment.largest(experiment.target, experiment.polygon(experiment.target, n))
    assert error <= experiment.CURVATURE / (8 * n**2)


def test_of_a_parabola_the_bound_is_attained():
    for n in (4, 10):
        error = experiment.largest(np.square, experiment.polygon(np.square, n))
        assert error == pytest.approx(1 / (4 * n**2), rel=1e-2)


@pytest.mark.parametrize("m", [1, 2, 3, 6])
def test_residual_blocks_square_within_the_exact_error(m):
    assert experiment.largest(np.square, experiment._called(experiment.square(m))) == pytest.approx(
        4.0 ** -(m + 1), rel=0.01
    )
    # It is the polygon of 2^m pieces.
    knots, x = np.linspace(0, 1, 2**m + 1), np.random.default_rng(0).random(100)
    found = experiment._called(experiment.square(m))(x)
    np.testing.assert_allclose(found, np.interp(x, knots, knots**2), rtol=0, atol=1e-14)


def test_random_units_are_the_least_squares_of_numpy():
    n, x = 6, np.linspace(0, 1, 400)
    rng = np.random.default_rng(3)
    slopes, kinks = rng.uniform(-10, 10, n), rng.uniform(0, 1, n)
    layer = np.column_stack([*(np.tanh(s * (x - k)) for s, k in zip(slopes, kinks, strict=True)), np.ones(400)])
    q, _ = np.linalg.qr(layer)
    wanted = q @ (q.T @ experiment.target(x))
    np.testing.assert_allclose(experiment.units(n, 3)(x), wanted, rtol=0, atol=1e-9)


def test_a_deepened_network_is_the_same_one():
    generator = torch.Generator().manual_seed(0)
    values = 0.3 * torch.randn(3, experiment.COUNT, dtype=torch.float64, generator=generator)
    x = np.linspace(0, 1, 20)
    one, other = (experiment.approximation(1, v)(x) for v in (values, experiment.deepened(values, 12)))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-13)
    # And the network is Euler's method, by hand.
    made, states = experiment.flow(1, values), experiment.lifted(x)
    for u in values:
        states = states + made.families[0].velocity(states, u) / 3
    np.testing.assert_allclose(one, states[:, 1], rtol=0, atol=1e-13)
    assert isinstance(made.families[0], cn.Cutoff)


def test_deeper_flows_come_nearer(monkeypatch):
    monkeypatch.setattr(experiment, "EVALUATIONS", 60)
    rows = experiment.train(0, (1, 2, 4))
    errors = [row["error"] for row in rows]
    assert [row["numbers"] for row in rows] == [5, 10, 20]
    # One step is quadratic in x: no parabola is within 0.6 of a sine.
    assert errors[0] > 0.6
    assert errors[2] < errors[1] < errors[0] / 4


def test_numbers_figure_and_refusal_of_a_quick_run(tmp_path):
    arguments = ["--out", str(tmp_path / "out"), "--seed", "1", "--quick"]
    ran = CliRunner().invoke(experiment.app, arguments, env={"COLUMNS": "160"})
    assert ran.exit_code == 0, ran.output
    content = json.loads((tmp_path / "out" / "quick" / "universal_approximation.json").read_text())
    assert [row["steps"] for row in content["flows"]] == [1, 2]
    assert f"{content['flows'][1]['error']:.1e}" in ran.output
    assert (tmp_path / "out" / "quick" / "universal_approximation.png").read_bytes()[:4] == b"\x89PNG"
    refused = CliRunner().invoke(experiment.app, [*arguments, "--publish", str(tmp_path)])
    assert refused.exit_code == 2
