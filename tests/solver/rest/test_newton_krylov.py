"""The inner GMRES of Newton-Krylov; what it shares with Newton is tested there."""

import numpy as np
import pytest
import torch

from cde_nets.solver.rest import NewtonKrylov
from cde_nets.solver.rest.newton_krylov import gmres

F64 = torch.float64


def systems(maps, rows=4, n=9):
    A = maps.normal(rows, n, n, seed=13) + 2 * torch.eye(n, dtype=F64)
    return A, maps.normal(rows, n, seed=14)


@pytest.mark.parametrize("count", [1, 3, 6, 9])
def test_the_residual_is_least_in_the_krylov_space(maps, count):
    A, b = systems(maps)
    x, left = gmres(lambda v: (A @ v[:, :, None])[:, :, 0], b, count, torch.zeros(4, dtype=F64))
    for row in range(4):
        a, g = A[row].numpy(), b[row].numpy()
        space = np.linalg.qr(np.stack([np.linalg.matrix_power(a, k) @ g for k in range(count)], 1))[0]
        best = space @ np.linalg.lstsq(a @ space, g, rcond=None)[0]
        np.testing.assert_allclose(x[row].numpy(), best, rtol=1e-7, atol=1e-9)
    residual = ((A @ x[:, :, None])[:, :, 0] - b).norm(dim=1) / b.norm(dim=1)
    torch.testing.assert_close(left, residual, rtol=1e-7, atol=1e-12)


def test_rows_stop_where_they_have_enough(maps):
    A, b = systems(maps)
    enough = torch.tensor([0.9, 0.5, 0.1, 0.0], dtype=F64)

    def apply(v):
        return (A @ v[:, :, None])[:, :, 0]

    x, left = gmres(apply, b, 9, enough)
    assert (left[:3] <= enough[:3]).all()
    for row in range(4):
        # The smallest space that is enough: one product fewer is not.
        lefts = [float(gmres(apply, b, k, torch.zeros(4, dtype=F64))[1][row]) for k in range(1, 10)]
        used = next((k for k, value in enumerate(lefts, 1) if value <= enough[row]), 9)
        fewer = gmres(apply, b, used, torch.zeros(4, dtype=F64))[0]
        torch.testing.assert_close(x[row], fewer[row], rtol=1e-8, atol=1e-10)


def test_a_space_that_closes_early(maps):
    """b is a sum of two eigenvectors: two products solve the system, and more do no harm."""
    A = torch.diag(torch.arange(1.0, 7.0, dtype=F64)).repeat(2, 1, 1)
    b = torch.zeros(2, 6, dtype=F64)
    b[:, 1], b[1, 4] = 1, 2
    x, left = gmres(lambda v: (A @ v[:, :, None])[:, :, 0], b, 6, torch.zeros(2, dtype=F64))
    torch.testing.assert_close(x, b / torch.arange(1.0, 7.0, dtype=F64))
    assert (left < 1e-12).all()


def test_singular_and_zero_rows_leave_the_others_alone(maps):
    A, b = systems(maps)
    clean, _ = gmres(lambda v: (A @ v[:, :, None])[:, :, 0], b, 9, torch.zeros(4, dtype=F64))
    A, b = A.clone(), b.clone()
    A[0], b[1], A[2, 0, 0] = 0, 0, torch.nan
    x, left = gmres(lambda v: (A @ v[:, :, None])[:, :, 0], b, 9, torch.zeros(4, dtype=F64))
    assert torch.equal(x[:2], torch.zeros(2, 9, dtype=F64))
    assert float(left[0]) == 1
    torch.testing.assert_close(x[3], clean[3], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("forcing", [None, 0.5, 1e-2, 1e-10])
def test_forcing(find, maps, forcing):
    W, b = maps.layer(1.1, dim=30, rows=2)
    found = find(
        lambda z: torch.tanh(z @ W.T + b), torch.zeros(2, 30, dtype=F64), NewtonKrylov(krylov=30, forcing=forcing)
    )
    assert found.words == ["CONVERGED"] * 2
    assert int(found.state.accepted.max()) <= (60 if forcing == 0.5 else 20)


def test_short_spaces(find, maps):
    """Four products a step for forty numbers: no step solves its linear model, all of them lower the residual."""
    W, b = maps.layer(0.9, dim=40, rows=2)
    found = find(lambda z: torch.tanh(z @ W.T + b), torch.zeros(2, 40, dtype=F64), NewtonKrylov(krylov=4))
    assert found.words == ["CONVERGED"] * 2
    assert found.products == 4 * (found.evaluations - 1)
