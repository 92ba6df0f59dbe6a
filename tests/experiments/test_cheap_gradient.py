import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

import cde_nets as cn
from cde_nets.kernels import plain_steps
from experiments import cheap_gradient as experiment


@pytest.fixture(autouse=True)
def quick(monkeypatch, unchecked):
    monkeypatch.setattr(experiment, "SWEEPS", dict.fromkeys(experiment.SWEEPS, (1, 5)))


def test_operations_are_counted():
    a, b = torch.ones(3, 4), torch.ones(4, 5)
    with experiment.Operations() as counted:
        c = (a @ b).sin() + 1
        c.clone().T.reshape(5, 3)[:2].contiguous()
        c.sum()
    # 2 * 3 * 4 * 5; sine, addition and sum of fifteen numbers.
    assert (counted.products, counted.pointwise, counted.total) == (120, 45, 165)


@pytest.mark.parametrize("family", experiment.FAMILIES)
def test_products_are_those_of_torchs_own_counter(family):
    found = experiment.measure(family, {"dim": 3, "count": 4, "steps": 5}, 0)
    control = cn.PiecewiseConstantControl.random(5, 4, scale=0.05, seed=0)
    flow = cn.ControlledODE(experiment.FAMILIES[family](3, 4, 0), control, experiment.METHOD)
    x = torch.ones(experiment.ROWS, 3, requires_grad=True)
    # Not by calling the module: torch's counter puts hooks on modules, which autograd.grad refuses.
    with plain_steps(), FlopCounterMode(display=False) as both:
        torch.autograd.grad(flow.solve(x).value.square().sum(), [x, control.values])
    with plain_steps(), torch.no_grad(), FlopCounterMode(display=False) as plain:
        flow.solve(x)
    assert found["products_ratio"] == both.get_total_flops() / plain.get_total_flops()
    assert found["variables"] == 3 * experiment.ROWS + 20


def test_of_linear_fields_the_products_are_known(monkeypatch):
    """A stage forward is sum_i u_i A_i and one product; back it is w A, <w, A_i x>, and the stage before once more."""
    rows, dim, count, steps = experiment.ROWS, 6, 3, 4
    monkeypatch.setattr(experiment, "METHOD", "euler")
    found = experiment.measure("linear", {"dim": dim, "count": count, "steps": steps}, 0)
    # Euler's only stage is where its step begins: nothing is computed again but the sum of matrices.
    assert 2 <= found["products_ratio"] <= 3.2
    assert found["function"] >= steps * (2 * rows * dim * dim + rows * dim)


@pytest.mark.parametrize("family", experiment.FAMILIES)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 9, 3), (12, 2, 5), (5, 5, 20)])
def test_the_gradient_is_cheap(family, sizes):
    found = experiment.measure(family, dict(zip(("dim", "count", "steps"), sizes, strict=True)), 1)
    assert 2 < found["ratio"] < experiment.BOUND
    assert found["gradient"] == pytest.approx(found["ratio"] * found["function"])


def test_numbers_figure_and_page(tmp_path):
    for folder in ("images", "results"):
        (tmp_path / "docs" / folder).mkdir(parents=True)
    page = tmp_path / "docs" / "lectures.md"
    page.write_text("<!-- cheap_gradient -->\n<!-- end of cheap_gradient -->\n")
    arguments = ["--out", str(tmp_path / "out"), "--publish", str(tmp_path / "docs")]
    ran = CliRunner().invoke(experiment.app, arguments, env={"COLUMNS": "160"})
    assert ran.exit_code == 0, ran.output
    content = json.loads((tmp_path / "docs" / "results" / "cheap_gradient.json").read_text())
    assert content == json.loads((tmp_path / "out" / "cheap_gradient.json").read_text())
    assert len(content["measured"]) == 18
    largest = max(row["ratio"] for row in content["measured"] if row["family"] == "linear")
    assert f"| {largest:.2f} |" in page.read_text()
    assert (tmp_path / "docs" / "images" / "cheap_gradient.png").read_bytes()[:4] == b"\x89PNG"
