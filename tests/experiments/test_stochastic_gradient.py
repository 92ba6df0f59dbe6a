import json
from itertools import product

import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov
from typer.testing import CliRunner

from experiments import stochastic_gradient as experiment


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name, value in {
        "BATCHES": (1, 4, 16),
        "DRAWS": 3000,
        "ETAS": (0.25, 0.125),
        "SPREAD_BATCHES": (1, 2, 4),
    }.items():
        monkeypatch.setattr(experiment, name, value)
    for name, value in {"CHAINS": 100, "STEPS": 400, "SHOWN": 20, "CLOUDS": (0.25, 0.125)}.items():
        monkeypatch.setattr(experiment, name, value)


def small(samples, seed=0):
    rng = np.random.default_rng(seed)
    return experiment.Problem(rng.standard_normal((samples, 2)), rng.standard_normal(samples))


def gradients(problem, w):
    return [(x @ w - y) * x for x, y in zip(problem.X, problem.y, strict=True)]


def test_the_variance_is_that_of_all_batches_there_are():
    problem, rows = small(4), experiment.variance(small(4), 2, 0)
    each = gradients(problem, problem.minimiser)
    np.testing.assert_allclose(np.mean(each, 0), 0, atol=1e-14)
    pairs = [(i, j, ((each[i] + each[j]) / 2) ** 2) for i, j in product(range(4), repeat=2)]
    assert rows["exact"] == pytest.approx(np.mean([square.sum() for *_, square in pairs]), rel=1e-12)
    without = [square.sum() for i, j, square in pairs if i != j]
    assert rows["exact_without"] == pytest.approx(np.mean(without), rel=1e-12)
    assert experiment.variance(problem, 4, 0)["measured_without"] == pytest.approx(0, abs=1e-28)


@pytest.mark.parametrize("batch", [1, 5])
def test_what_is_measured_is_near_the_exact_variance(batch):
    row = experiment.variance(experiment.draw(1), batch, 2)
    assert row["measured"] == pytest.approx(row["exact"], rel=0.1)
    assert row["measured_without"] == pytest.approx(row["exact_without"], rel=0.1)


def test_one_step_of_all_batches_leaves_the_stationary_spread_as_it_is():
    """S and a mean of zero, carried through every batch of two of five samples."""
    problem, eta = small(5), 0.2
    S = experiment.stationary(problem, eta, 2)
    after = np.zeros((2, 2))
    for i, j in product(range(5), repeat=2):
        H = (np.outer(problem.X[i], problem.X[i]) + np.outer(problem.X[j], problem.X[j])) / 2
        g = (gradients(problem, problem.minimiser)[i] + gradients(problem, problem.minimiser)[j]) / 2
        step = np.eye(2) - eta * H
        after += (step @ S @ step.T + eta**2 * np.outer(g, g)) / 25
    np.testing.assert_allclose(after, S, rtol=1e-10)
    assert np.linalg.eigvalsh(S)[0] > 0


def test_of_large_batches_it_is_scipys_discrete_lyapunov_equation():
    problem, eta, batch = small(30), 0.1, 10**7
    step = np.eye(2) - eta * problem.hessian
    wanted = solve_discrete_lyapunov(step, eta**2 * problem.noise / batch)
    np.testing.assert_allclose(experiment.stationary(problem, eta, batch), wanted, rtol=1e-5)


def test_chains_take_the_steps_of_the_definition():
    problem, etas = experiment.draw(0), np.array([0.3, 0.1, 0.05])
    path = experiment.chains(problem, etas, 3, 2, 5)
    rng, w = np.random.default_rng(5), np.tile(problem.minimiser, (2, 1))
    for eta, there in zip(etas, path, strict=True):
        chosen = rng.integers(len(problem.X), size=(2, 3))
        w = np.stack(
            [v - eta * np.mean([gradients(problem, v)[k] for k in some], 0) for v, some in zip(w, chosen, strict=True)]
        )
        np.testing.assert_allclose(there, w, rtol=1e-12)


@pytest.mark.parametrize("batch", [1, 4])
def test_the_spread_of_chains_is_near_the_exact_one_and_grows_with_the_step(batch):
    rows = [experiment.spread(experiment.draw(0), eta, batch, 3) for eta in (0.125, 0.25)]
    for row in rows:
        assert row["measured"] == pytest.approx(row["exact"], rel=0.2)
    assert rows[1]["exact"] > 2 * rows[0]["exact"]


def test_numbers_figure_and_page(tmp_path):
    for folder in ("images", "results"):
        (tmp_path / "docs" / folder).mkdir(parents=True)
    page = tmp_path / "docs" / "lectures.md"
    page.write_text("<!-- stochastic_gradient -->\n<!-- end of stochastic_gradient -->\n")
    arguments = ["--out", str(tmp_path / "out"), "--seed", "4", "--publish", str(tmp_path / "docs")]
    ran = CliRunner().invoke(experiment.app, arguments, env={"COLUMNS": "160"})
    assert ran.exit_code == 0, ran.output
    content = json.loads((tmp_path / "docs" / "results" / "stochastic_gradient.json").read_text())
    assert content == json.loads((tmp_path / "out" / "stochastic_gradient.json").read_text())
    assert content["falling"]["slope"] == pytest.approx(-1, abs=0.3)
    first = content["spreads"][0]
    assert f"| {first['measured']:.4f} | {first['exact']:.4f} |" in page.read_text()
    assert (tmp_path / "docs" / "images" / "stochastic_gradient.png").read_bytes()[:4] == b"\x89PNG"
