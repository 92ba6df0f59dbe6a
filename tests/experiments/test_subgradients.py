import json
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from typer.testing import CliRunner

from experiments import subgradients as experiment


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(experiment, "STEPS", 300)
    monkeypatch.setattr(experiment, "HORIZONS", (16, 64))
    monkeypatch.setattr(experiment, "BAD", (4, 10))


@pytest.mark.parametrize("seed", [0, 3])
def test_the_minimum_is_below_all_that_another_method_finds(seed):
    hinge = experiment.draw(seed)
    assert hinge.value(hinge.best) == pytest.approx(hinge.least, abs=1e-14)
    other = minimize(hinge.value, hinge.best + 0.01, method="Nelder-Mead", options={"maxiter": 4000, "xatol": 1e-9})
    assert hinge.least - 1e-9 <= other.fun < hinge.least + 1e-3
    # Zero is among the subgradients: weights in [0, 1] of the samples on their kinks make up for the others.
    margins = hinge.Z @ hinge.best
    kinks = np.abs(margins - 1) < 1e-7
    below = hinge.Z[(margins < 1) & ~kinks].sum(0)
    weights = np.linalg.lstsq(hinge.Z[kinks].T, -below, rcond=None)[0]
    np.testing.assert_allclose(hinge.Z[kinks].T @ weights, -below, atol=1e-6)
    assert weights.min() > -1e-6
    assert weights.max() < 1 + 1e-6


def test_subgradients_lie_below_and_are_autograds_where_there_is_a_gradient():
    hinge, rng = experiment.draw(1), np.random.default_rng(0)
    for _ in range(30):
        v, w = rng.standard_normal((2, hinge.Z.shape[1]))
        g = hinge.subgradient(w)
        assert hinge.value(v) >= hinge.value(w) + g @ (v - w) - 1e-12
        assert np.linalg.norm(g) <= hinge.slope
        leaf = torch.tensor(w, requires_grad=True)
        (slope,) = torch.autograd.grad(torch.relu(1 - torch.from_numpy(hinge.Z) @ leaf).mean(), leaf)
        np.testing.assert_allclose(g, slope, rtol=1e-12, atol=1e-15)
    # On a kink too.
    one = experiment.Hinge(np.ones((1, 1)), np.ones(1), 0.0, 1.0)
    g = one.subgradient(np.ones(1))
    assert all(one.value(np.array([v])) >= g[0] * (v - 1) for v in np.linspace(-2, 4, 50))


@pytest.mark.parametrize("K", [10, 100, 1000])
def test_the_best_value_is_below_its_bound(K):
    hinge = experiment.draw(2)
    unit = hinge.distance / hinge.slope
    for alphas in (np.full(K, 0.3 * unit), unit / np.sqrt(np.arange(1, K + 1)), np.full(K, unit / math.sqrt(K))):
        found = experiment.follow(hinge, alphas)
        assert (found.best <= found.bounds).all()
        assert (found.best >= -1e-12).all()
        np.testing.assert_allclose(found.best, [found.gaps[: t + 1].min() for t in range(K)])
    row = experiment.horizon(hinge, K)
    assert row["bound"] == pytest.approx(hinge.distance * hinge.slope / math.sqrt(K), rel=1e-12)


def test_a_bad_function_reaches_half_of_the_bound():
    for j in (3, 20, 60):
        row = experiment.bad(j)
        K = j * j + j
        assert (row["K"], row["bound"]) == (K, pytest.approx(1 / (3 * math.sqrt(K)), rel=1e-9))
        # From 0 by steps of 1 / sqrt(K): j of them end before 1, the next one behind it.
        before = 1 - j / math.sqrt(K)
        assert row["gap"] == pytest.approx(min(before, 1 / math.sqrt(K) - before) / 3, rel=1e-6)
        assert 0.3 < row["gap"] / row["bound"] <= 0.5


def test_numbers_figure_and_page(tmp_path):
    for folder in ("images", "results"):
        (tmp_path / "docs" / folder).mkdir(parents=True)
    page = tmp_path / "docs" / "lectures.md"
    page.write_text("<!-- subgradients -->\n<!-- end of subgradients -->\n")
    arguments = ["--out", str(tmp_path / "out"), "--seed", "4", "--publish", str(tmp_path / "docs")]
    ran = CliRunner().invoke(experiment.app, arguments, env={"COLUMNS": "160"})
    assert ran.exit_code == 0, ran.output
    content = json.loads((tmp_path / "docs" / "results" / "subgradients.json").read_text())
    assert content == json.loads((tmp_path / "out" / "subgradients.json").read_text())
    assert content["bad_slope"] == pytest.approx(-0.5, abs=0.1)
    row = content["horizons"][0]
    assert f"| {row['gap']:.2e} | {row['bound']:.2e} |" in page.read_text()
    assert (tmp_path / "docs" / "images" / "subgradients.png").read_bytes()[:4] == b"\x89PNG"
