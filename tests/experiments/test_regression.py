import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from experiments import regression as experiment


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(experiment, "STEPS", 400)
    monkeypatch.setattr(experiment, "KEPT", 20)


@pytest.mark.parametrize("basis", experiment.BASES)
@pytest.mark.parametrize("degree", [1, 4])
def test_the_closed_form_is_numpys_polynomial_fit(basis, degree):
    t, y = experiment.draw(2)
    X = experiment.features(basis, t, degree)
    np.testing.assert_allclose((X**2).mean(0), 1, rtol=1e-12)
    fitted = np.polynomial.Polynomial.fit(t, y, degree)(t)
    np.testing.assert_allclose(X @ experiment.closed(X, y), fitted, rtol=0, atol=1e-11)


def test_the_gradient_is_autograds_and_the_step_the_largest_that_is_safe():
    t, y = experiment.draw(0)
    X = experiment.features("powers of t", t, 3)
    path = experiment.descend(X, y, np.array([1.0, -1.0, 0.5, 0.0]), 2)
    w = torch.tensor(path[1], requires_grad=True)
    loss = (torch.from_numpy(y) - torch.from_numpy(X) @ w).square().mean() / 2
    (slope,) = torch.autograd.grad(loss, w)
    eta = 1 / np.linalg.eigvalsh(X.T @ X / len(X))[-1]
    np.testing.assert_allclose(path[2], path[1] - eta * slope.numpy(), rtol=1e-12)


@pytest.mark.parametrize("basis", experiment.BASES)
def test_descent_takes_the_steps_that_the_eigenvalues_say(basis):
    t, y = experiment.draw(1)
    X = experiment.features(basis, t, 4)
    found = experiment.measure(X, y)
    assert found["from_formula"] < 1e-12
    H = X.T @ X / len(X)
    step = np.eye(5) - H / np.linalg.eigvalsh(H)[-1]
    best = np.linalg.lstsq(X, y, rcond=None)[0]
    k = found["k"][-1]
    wanted = np.linalg.norm(np.linalg.matrix_power(step, k) @ best)
    assert found["errors"][-1] == pytest.approx(wanted, rel=1e-6, abs=1e-13)
    assert found["condition"] == pytest.approx(np.linalg.cond(H), rel=1e-8)


def test_orthogonal_features_are_the_better_conditioned_and_go_faster():
    t, y = experiment.draw(0)
    good, bad = (experiment.measure(experiment.features(name, t, 5), y) for name in experiment.BASES)
    assert 20 * good["condition"] < bad["condition"]
    assert 1e3 * good["errors"][-1] < bad["errors"][-1]


def test_with_more_features_than_samples_the_start_decides():
    zero, elsewhere = (experiment.underdetermined(3, scale) for scale in (0.0, 1.0))
    for found in (zero, elsewhere):
        assert found["residuals"][-1] < 1e-6
    assert zero["errors"][-1] < 1e-6
    assert zero["orthogonal"] == 0
    # By hand: what of the start is orthogonal to all samples.
    rng = np.random.default_rng(3)
    X = rng.standard_normal((experiment.WIDE_SAMPLES, experiment.WIDE_FEATURES))
    rng.standard_normal(experiment.WIDE_SAMPLES)
    start = rng.standard_normal(experiment.WIDE_FEATURES)
    rest = np.linalg.svd(X)[2][experiment.WIDE_SAMPLES :]
    assert elsewhere["orthogonal"] == pytest.approx(np.linalg.norm(rest @ start), rel=1e-10)
    assert elsewhere["errors"][-1] == pytest.approx(elsewhere["orthogonal"], rel=1e-6)


def test_numbers_figure_and_page(tmp_path):
    for folder in ("images", "results"):
        (tmp_path / "docs" / folder).mkdir(parents=True)
    page = tmp_path / "docs" / "lectures.md"
    page.write_text("<!-- regression -->\n<!-- end of regression -->\n")
    arguments = ["--out", str(tmp_path / "out"), "--seed", "2", "--publish", str(tmp_path / "docs")]
    ran = CliRunner().invoke(experiment.app, arguments, env={"COLUMNS": "160"})
    assert ran.exit_code == 0, ran.output
    content = json.loads((tmp_path / "docs" / "results" / "regression.json").read_text())
    assert content == json.loads((tmp_path / "out" / "regression.json").read_text())
    found = content["descents"]["powers of t"]
    said = f"| powers of t | {found['condition']:.3g} | {found['errors'][-1]:.1e} | {found['from_formula']:.1e} |"
    assert said in page.read_text()
    assert (tmp_path / "docs" / "images" / "regression.png").read_bytes()[:4] == b"\x89PNG"
