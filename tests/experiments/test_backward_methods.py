"""The table of backward methods: what it compares with, and what must stand in it."""

import json
import math

import pytest
import torch
from typer.testing import CliRunner

from experiments import backward_methods as table

F64 = torch.float64
EXACT = ("dense LU", "GMRES", "BiCGStab", "CG-RBP", "RBP", "RBP, z0 = 1", "Neumann")


def test_the_matrices_are_what_they_are_called():
    radius = lambda m: float(torch.linalg.eigvals(m).abs().max())  # noqa: E731
    turning, sheared = table.turning(0.95, 0), table.sheared(0)
    assert radius(turning) == pytest.approx(0.95, rel=1e-12)
    assert (torch.linalg.eigvals(turning).imag.abs() > 0.1).all()
    assert float(torch.linalg.matrix_norm(sheared, 2)) == pytest.approx(5, rel=1e-9)
    # Its eigenvalues are three double ones, which rounding moves by its cube root.
    assert radius(sheared) == pytest.approx(0.5, abs=1e-3)


def test_the_dense_gradient_is_that_of_the_affine_map_by_hand():
    case = table.PROBLEMS["rotation"](F64, 0)
    w = table.normal(table.ROWS, table.DIM, seed=2)
    inverse = torch.linalg.inv(torch.eye(table.DIM, dtype=F64) - case.f.weight.detach())
    # z = (I - W)^-1 x, and d<w, z>/dW = sum over rows of ((I - W)^-T w) z^T.
    z = case.x @ inverse.T
    (mine,) = table.dense(case, w)
    torch.testing.assert_close(mine, (w @ inverse).T @ z, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("problem", ["contraction", "rotation", "graph"])
@pytest.mark.parametrize("method", EXACT)
def test_exact_methods_are_exact(problem, method):
    found = table.measure(problem, method, F64, 1)
    assert found.error < 1e-10
    assert found.status in ("converged", "done")
    assert found.residual < 1e-11
    assert found.products > 0


def test_truncated_methods_are_not():
    errors = [table.measure("contraction", method, F64, 1).error for method in ("Neumann-10", "RBP-11", "TBPTT-11")]
    assert errors[0] == pytest.approx(errors[1], rel=1e-9) == pytest.approx(errors[2], rel=1e-9)
    # |W|_2 = 0.7: within 0.7^11 / 0.3 of the cotangent.
    assert 1e-5 < errors[0] < 0.7**11 / 0.3


@pytest.mark.parametrize(
    ("problem", "method", "status"),
    [
        ("beyond", "RBP", "diverged"),
        ("beyond", "BPTT", "diverged"),
        ("nearly singular", "GMRES", "breakdown"),
        ("nearly singular", "Neumann", "max_steps"),
        ("singular", "dense LU", "breakdown"),
        ("singular", "GMRES", "breakdown"),
    ],
)
def test_what_does_not_work_says_so(problem, method, status, monkeypatch):
    monkeypatch.setattr(table, "MOST", 2000 if problem == "beyond" else 200)
    found = table.measure(problem, method, F64, 1)
    assert found.status == status
    if method == "GMRES":
        assert found.residual > 1e-12


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "MOST", 50)
    monkeypatch.setattr(table, "SINGLE", ("contraction",))
    for name in ("rotation", "not normal", "graph", "nearly singular", "singular"):
        monkeypatch.delitem(table.PROBLEMS, name)
    for name in ("images", "results"):
        (tmp_path / "docs" / name).mkdir(parents=True)
    done = CliRunner().invoke(table.app, ["--out", str(tmp_path / "run"), "--publish", str(tmp_path / "docs")])
    assert done.exit_code == 0, done.output
    for folder in (tmp_path / "run", tmp_path / "docs" / "images"):
        assert (folder / "backward_methods.png").read_bytes()[:4] == b"\x89PNG"
    rows = json.loads((tmp_path / "docs" / "results" / "backward_methods.json").read_text())["rows"]
    assert len(rows) == 3 * len(table.METHODS)
    assert all(row["error"] is None or math.isfinite(row["error"]) for row in rows)
    assert "relative error of the gradient, float64" in done.output
