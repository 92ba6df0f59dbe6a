import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import cde_nets as cn
from experiments import cycle_influence as experiment


@pytest.fixture(autouse=True)
def quick(monkeypatch, bad_input):
    # The shape checker would take most of the time.
    monkeypatch.setattr(experiment, "NODES", 12)


def walks(q, nodes):
    """The column of (I - q P)^{-1} by numpy."""
    P = (np.roll(np.eye(nodes), 1, 0) + np.roll(np.eye(nodes), -1, 0)) / 2
    return np.linalg.inv(np.eye(nodes) - q * P)[:, 0]


@pytest.mark.parametrize("q", [0.1, 0.5, 0.95, 0.999])
@pytest.mark.parametrize("nodes", [3, 8, 25])
def test_the_closed_form_is_the_inverse(q, nodes):
    found = [experiment.on_the_cycle(q, min(d, nodes - d), nodes) for d in range(nodes)]
    np.testing.assert_allclose(found, walks(q, nodes), rtol=1e-10)


@pytest.mark.parametrize("q", [0.3, 0.8, 0.95])
def test_a_long_cycle_is_a_line(q):
    line = [experiment.on_the_line(q, d) for d in range(12)]
    np.testing.assert_allclose(line, walks(q, 301)[:12], rtol=1e-8)
    # By Fourier's integral, the mean of cos(d t) / (1 - q cos t) over a period.
    t = 2 * np.pi * np.arange(4096) / 4096
    np.testing.assert_allclose(line, [np.mean(np.cos(d * t) / (1 - q * np.cos(t))) for d in range(12)], atol=1e-13)


@pytest.mark.parametrize("q", experiment.FACTORS)
def test_of_the_affine_map_the_bound_is_the_influence(q):
    row = experiment.measure("affine", q, 12, 1, 3)
    np.testing.assert_allclose(row.influence, walks(q, 12)[:7], rtol=1e-9)
    np.testing.assert_allclose(row.bound, walks(q, 12)[:7], rtol=1e-10)
    assert row.norm == pytest.approx(q, rel=1e-12)


def test_of_the_affine_map_on_a_long_cycle_it_is_that_of_the_line():
    row = experiment.measure("affine", 0.5, 36, 1, 0)
    line = [experiment.on_the_line(0.5, d) for d in range(10)]
    np.testing.assert_allclose(row.influence[:10], line, rtol=1e-8)
    assert row.factor == pytest.approx(row.predicted, rel=1e-8)


@pytest.mark.parametrize("q", experiment.FACTORS)
def test_of_the_bent_map_the_bounds_hold(q):
    row = experiment.measure("tanh", q, 12, 2, 1)
    assert 0.5 * q < row.norm < q
    for d, (influence, bound) in enumerate(zip(row.influence, row.bound, strict=True)):
        assert 0 < influence < bound < q**d / (1 - q)
    assert row.factor < row.predicted


def test_the_influence_is_that_of_moving_an_input():
    turn = torch.linalg.qr(torch.randn(2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(5)))[0]
    x = 0.2 * torch.randn(12, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(6))

    def rest(x):
        problem = experiment.rest("tanh", 0.8 * turn, x)
        return cn.solve(problem, cn.Newton(), gradient=cn.Implicit(), tolerance=experiment.TOLERANCE).value

    node, h = 3, 1e-5
    blocks = []
    for number in range(2):
        moved = torch.zeros_like(x)
        moved[0, number] = h
        blocks.append((rest(x + moved)[node] - rest(x - moved)[node]) / (2 * h))
    x.requires_grad_()
    found = experiment._block(rest(x)[node], x)
    torch.testing.assert_close(found, torch.stack(blocks, 1), rtol=1e-7, atol=1e-10)


def test_numbers_figure_and_table(tmp_path):
    for folder in ("images", "results"):
        (tmp_path / "docs" / folder).mkdir(parents=True)
    arguments = ["--out", str(tmp_path / "out"), "--seed", "3", "--publish", str(tmp_path / "docs")]
    ran = CliRunner().invoke(experiment.app, arguments, env={"COLUMNS": "140"})
    assert ran.exit_code == 0, ran.output
    content = json.loads((tmp_path / "docs" / "results" / "cycle_influence.json").read_text())
    assert content == json.loads((tmp_path / "out" / "cycle_influence.json").read_text())
    assert [(row["map"], row["q"]) for row in content["rows"]] == [
        (name, q) for name, _ in experiment.MAPS for q in experiment.FACTORS
    ]
    for row in content["rows"]:
        np.testing.assert_allclose(row["bound"], walks(row["q"], 12)[:7], rtol=1e-10)
        assert f"{row['factor']:.4f}" in ran.output
    assert (tmp_path / "docs" / "images" / "cycle_influence.png").read_bytes()[:4] == b"\x89PNG"
