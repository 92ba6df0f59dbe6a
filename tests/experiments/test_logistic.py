import json

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from typer.testing import CliRunner

from experiments import logistic as experiment


@pytest.fixture(autouse=True)
def quick(monkeypatch, unchecked):
    monkeypatch.setattr(experiment, "DISTANCES", (0.0, 10.0, 16.0))
    monkeypatch.setattr(experiment, "TEST", 500)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("distance", [0.0, 8.0, 20.0])
def test_both_fits_are_those_of_scipy_and_numpy(sign, distance):
    x, y = experiment.with_outliers(1, sign, distance)
    squares, newton = experiment.by_squares(x, y), experiment.by_logistic(x, y)
    x, y = x.numpy(), y.numpy()
    np.testing.assert_allclose(squares, np.linalg.lstsq(x, y, rcond=None)[0], rtol=1e-10, atol=1e-12)

    def loss(w):
        return np.logaddexp(0, -y * (x @ w)).mean()

    best = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-8})
    assert loss(newton.numpy()) <= best.fun + 1e-12
    np.testing.assert_allclose(newton, best.x, atol=2e-4 * max(1, abs(best.x).max()))
    # The gradient by autograd in float64.
    w = newton.clone().requires_grad_()
    value = torch.log1p(torch.exp(-torch.from_numpy(y) * (torch.from_numpy(x) @ w))).mean()
    assert torch.autograd.grad(value, w)[0].abs().max() < 1e-10


def test_the_squared_loss_is_of_the_margin():
    x, y = experiment.draw(0, 20)
    w = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    torch.testing.assert_close((y - x @ w).square(), (1 - y * (x @ w)).square(), rtol=1e-14, atol=1e-14)


def test_points_far_on_their_side_move_the_line_of_squares_and_not_the_other():
    near, far = experiment.measure(0, 1.0, 0.0), experiment.measure(0, 1.0, 16.0)

    def turned(loss):
        a, b = (np.array(row[loss]["w"][:2]) for row in (near, far))
        return np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))

    assert turned("squared") > 30
    assert turned("logistic") < 8
    assert far["logistic"]["accuracy"] > far["squared"]["accuracy"] + 0.05
    wrong = experiment.measure(0, -1.0, 16.0)
    assert max(wrong[name]["accuracy"] for name in experiment.FITS) < near["logistic"]["accuracy"] - 0.1


def test_numbers_figure_and_page(tmp_path, monkeypatch):
    for folder in ("images", "results"):
        (tmp_path / "docs" / folder).mkdir(parents=True)
    page = tmp_path / "docs" / "lectures.md"
    page.write_text("<!-- logistic -->\n<!-- end of logistic -->\n")
    arguments = ["--out", str(tmp_path / "out"), "--seed", "2", "--publish", str(tmp_path / "docs")]
    ran = CliRunner().invoke(experiment.app, arguments, env={"COLUMNS": "160"})
    assert ran.exit_code == 0, ran.output
    content = json.loads((tmp_path / "docs" / "results" / "logistic.json").read_text())
    assert content == json.loads((tmp_path / "out" / "logistic.json").read_text())
    row = content["rows"]["far and right"][-1]
    said = " | ".join(f"{100 * row[loss]['accuracy']:.1f} %" for loss in ("logistic", "squared"))
    assert f"| far and right, distance 16 | {said} |" in page.read_text()
    assert (tmp_path / "docs" / "images" / "logistic.png").read_bytes()[:4] == b"\x89PNG"
