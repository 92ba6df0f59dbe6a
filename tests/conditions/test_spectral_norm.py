"""The spectral norm against dense singular values."""

import math

import pytest
import torch

import cde_nets as cn

F64 = torch.float64
KINDS = ["random", "turns", "nonnormal", "symmetric", "single"]


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_against_dense_singular_values(kinds, at, kind, dtype):
    J = getattr(kinds, kind)().to(dtype)
    found = cn.spectral_norm(*at(J))
    assert found.words() == ["converged"] * 3
    assert found.value.dtype == dtype
    expected = torch.linalg.svdvals(J.double())[:, 0]
    torch.testing.assert_close(found.value.double(), expected, rtol=20 * torch.finfo(dtype).eps, atol=0)


def test_it_is_no_spectral_radius(kinds, at):
    problem, z = at(kinds.nonnormal())
    assert (cn.spectral_radius(problem, z).value < 0.61).all()
    assert (cn.spectral_norm(problem, z).value > 1).all()


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_before_its_end_it_is_a_lower_bound_within_its_residual_of_a_singular_value(at, normal, steps):
    J = normal(3, 60, 60, seed=1)
    values = torch.linalg.svdvals(J)
    found = cn.spectral_norm(*at(J), max_steps=steps)
    assert found.words() == ["max_steps"] * 3
    assert found.products == 2 * steps + 1
    assert (found.value < values[:, 0]).all()
    assert ((values - found.value[:, None]).abs().amin(1) <= found.residual).all()


def test_a_row_of_many_numbers_takes_few_products(at, normal, orthogonal):
    scale = 1 / torch.arange(1, 301, dtype=F64)
    J = (orthogonal(300, seed=1) * scale) @ orthogonal(300, seed=2)
    found = cn.spectral_norm(*at(J[None]))
    assert found.words() == ["converged"]
    assert found.products < 60
    assert float(found.value) == pytest.approx(1, rel=1e-13)


def test_zero_and_a_multiple_of_an_orthogonal_matrix(at, orthogonal):
    J = torch.stack([torch.zeros(12, 12, dtype=F64), 0.9 * orthogonal(12)]).requires_grad_()
    found = cn.spectral_norm(*at(J))
    assert found.words() == ["converged"] * 2
    torch.testing.assert_close(found.value.detach(), torch.tensor([0.0, 0.9], dtype=F64), rtol=1e-14, atol=0)
    assert (found.residual < 1e-14).all()
    (g,) = torch.autograd.grad(found.value.sum(), J)
    assert not g[0].any()
    # A subgradient u v^T with u = J v / |J v|: of rank one, and <g, J> = |J|_2.
    torch.testing.assert_close((g[1] * J[1]).sum().detach(), torch.tensor(0.9, dtype=F64))
    assert int(torch.linalg.matrix_rank(g[1])) == 1


@pytest.mark.parametrize("kind", ["random", "nonnormal", "symmetric", "single"])
def test_the_derivative_is_that_of_dense_singular_values(kinds, at, kind):
    J = getattr(kinds, kind)().requires_grad_()
    (mine,) = torch.autograd.grad(cn.spectral_norm(*at(J)).value.sum(), J)
    (dense,) = torch.autograd.grad(torch.linalg.svdvals(J)[:, 0].sum(), J)
    torch.testing.assert_close(mine, dense, rtol=0, atol=1e-12)


def test_of_a_contraction_it_is_the_rate_by_which_nearby_points_approach(bent, normal):
    z, a, b = normal(2, 4, seed=1, scale=0.5), normal(4, 4, seed=2, scale=0.3), normal(2, 4, seed=3)
    q = cn.spectral_norm(cn.FixedPointProblem(bent, z, args=(a, b)), z).value
    # The direction that shrinks the least, by dense algebra; a second order difference.
    v = torch.linalg.svd(bent.jacobian(z, a, b)).Vh[:, 0]
    h = 1e-5
    apart = (bent(z + h * v, a, b) - bent(z - h * v, a, b)).norm(dim=1) / (2 * h)
    torch.testing.assert_close(q, apart, rtol=1e-8, atol=0)
    assert math.isclose(float(q.max()), float(apart.max()), rel_tol=1e-8)
