import json

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit
from typer.testing import CliRunner

from experiments import gradient_descent as experiment


@pytest.fixture(autouse=True)
def quick(monkeypatch, unchecked):
    monkeypatch.setattr(experiment, "STEPS", 60)
    monkeypatch.setattr(experiment, "WORST", (1, 4, 30))


def check_bound(found):
    """Below the bound at every iteration, and not by much more than is allowed."""
    assert 0 < found["largest"] <= 1
    assert all(gap <= limit for gap, limit in zip(found["gaps"], found["bounds"], strict=True))


@pytest.mark.parametrize("rate", experiment.SHORT)
def test_on_the_quadratic_the_run_is_known_and_the_bound_holds(rate):
    found = experiment.measure(experiment.quadratic(), rate)
    curvatures = np.geomspace(1, 1e-4, experiment.DIM)
    # x_k = (1 - eta s)^k along the curvature s.
    wanted = [(curvatures / 2 * (1 - rate * curvatures) ** (2 * k)).sum() for k in found["k"]]
    np.testing.assert_allclose(found["gaps"], wanted, rtol=1e-12)
    np.testing.assert_allclose(found["bounds"], experiment.DIM / (2 * rate * np.array(found["k"])), rtol=1e-12)
    check_bound(found)


@pytest.mark.parametrize("rate", experiment.SHORT)
def test_on_logistic_regression_the_run_is_numpys_and_the_bound_holds(rate):
    objective = experiment.logistic(3)
    X, y = (made.numpy() for made in experiment.samples(3))

    def loss(w):
        return np.logaddexp(0, -y * (X @ w)).mean()

    def gradient(w):
        return -X.T @ (y * expit(-y * (X @ w))) / len(X)

    best = minimize(loss, np.zeros(X.shape[1]), jac=gradient, method="BFGS", options={"gtol": 1e-10}).x
    np.testing.assert_allclose(objective.minimiser, best, atol=1e-7)
    hessians = [(X.T * p * (1 - p)) @ X / len(X) for p in (expit(X @ best), np.full(len(X), 0.5))]
    sizes = [np.linalg.eigvalsh(H)[-1] for H in hessians]
    # The curvature is largest at w = 0.
    assert sizes[0] < sizes[1] == pytest.approx(objective.smoothness, rel=1e-12)
    w, found = np.zeros(X.shape[1]), experiment.measure(objective, rate)
    values = []
    for _ in range(60):
        w = w - rate / objective.smoothness * gradient(w)
        values.append(loss(w) - loss(best))
    np.testing.assert_allclose(found["gaps"], [values[k - 1] for k in found["k"]], rtol=1e-7)
    check_bound(found)


def test_on_hubers_worst_function_the_best_bound_is_attained():
    for k in (1, 2, 7, 90):
        row = experiment.worst_case(k)
        assert row["gap"] == pytest.approx(1 / (4 * k + 2), rel=1e-12)
        assert row["gap"] * (2 + 1 / k) == pytest.approx(row["bound"], rel=1e-12)
    # Another kink is not as bad.
    for kink in (0.5 / 15, 2 / 15):
        objective = experiment.huber(kink)
        assert experiment.gaps(objective, experiment.descend(objective, 1.0, 7))[-1] < 1 / 30


@pytest.mark.parametrize(("rate", "factor"), [(0.5, 0.94), (1.0, 0.88), (1.9, 0.9), (2.0, 1.0), (2.1, 1.1)])
def test_longer_steps_multiply_the_error_by_what_they_should(rate, factor):
    found = experiment.follow(rate)
    # The larger of |1 - rate| and |1 - 0.12 rate|.
    assert found["factor"] == pytest.approx(factor, rel=1e-3)
    x = np.array(experiment.PLANE_START)
    for there in found["path"]:
        np.testing.assert_allclose(there, x, rtol=1e-12, atol=1e-300)
        x = x * (1 - rate * np.array(experiment.PLANE))
    grows = found["gaps"][-1] > found["gaps"][0]
    assert grows == (rate > 2)


def test_numbers_figure_and_page(tmp_path):
    for folder in ("images", "results"):
        (tmp_path / "docs" / folder).mkdir(parents=True)
    page = tmp_path / "docs" / "lectures.md"
    page.write_text("<!-- gradient_descent -->\n<!-- end of gradient_descent -->\n")
    arguments = ["--out", str(tmp_path / "out"), "--seed", "2", "--publish", str(tmp_path / "docs")]
    ran = CliRunner().invoke(experiment.app, arguments, env={"COLUMNS": "160"})
    assert ran.exit_code == 0, ran.output
    content = json.loads((tmp_path / "docs" / "results" / "gradient_descent.json").read_text())
    assert content == json.loads((tmp_path / "out" / "gradient_descent.json").read_text())
    assert [run["rate"] for run in content["runs"]] == [*experiment.SHORT] * 2
    for run in content["runs"]:
        check_bound(run)
        assert f"| {run['largest']:.3g} | {run['last']:.3g} | {run['bound']:.3g} |" in page.read_text()
    assert (tmp_path / "docs" / "images" / "gradient_descent.png").read_bytes()[:4] == b"\x89PNG"


def test_the_gradient_is_autograds_in_float64():
    objective = experiment.logistic(0)
    path = experiment.descend(objective, 0.3, 2)
    w = path[1].clone().requires_grad_()
    (slope,) = torch.autograd.grad(objective.value(w), w)
    torch.testing.assert_close(path[2], path[1] - 0.3 * slope, rtol=1e-14, atol=1e-15)
