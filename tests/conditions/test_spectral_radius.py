"""The spectral radius against dense eigenvalues, ARPACK and closed forms."""

import math

import numpy as np
import pytest
import scipy.sparse.linalg
import torch

import cde_nets as cn

F64 = torch.float64
KINDS = ["random", "turns", "nonnormal", "symmetric", "single"]


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_against_dense_eigenvalues(kinds, at, kind, dtype):
    J = getattr(kinds, kind)().to(dtype)
    found = cn.spectral_radius(*at(J))
    assert found.words() == ["converged"] * 3
    assert found.value.dtype == found.residual.dtype == dtype
    assert found.value.shape == found.status.shape == (3,)
    expected = torch.linalg.eigvals(J.double()).abs().amax(1)
    # A triangular matrix far from normal: conditions of eigenvalues in the hundreds.
    bound = 2000 * torch.finfo(dtype).eps if kind == "nonnormal" else 50 * torch.finfo(dtype).eps
    torch.testing.assert_close(found.value.double(), expected, rtol=bound, atol=0)


@pytest.mark.parametrize("angle", [0.1, math.pi / 2, 2.0, 3.0])
def test_a_rotation_has_its_radius(at, angle):
    # torchdeq 0.1.0's power method returned 8e-17 for this.
    c, s = math.cos(angle), math.sin(angle)
    found = cn.spectral_radius(*at(0.95 * torch.tensor([[[c, -s], [s, c]]], dtype=F64)))
    assert found.words() == ["converged"]
    assert float(found.value) == pytest.approx(0.95, rel=1e-14)


def test_a_map_that_is_not_linear(bent, normal):
    z, a, b = normal(4, 5, seed=1, scale=0.5), normal(5, 5, seed=2, scale=0.5), normal(4, 5, seed=3)
    found = cn.spectral_radius(cn.FixedPointProblem(bent, z, args=(a, b)), z)
    expected = torch.linalg.eigvals(bent.jacobian(z, a, b)).abs().amax(1)
    torch.testing.assert_close(found.value, expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_large_row_against_arpack(at, normal, seed):
    # Eigenvalues fill a disc, with a few outside of it.
    n = 300
    J = normal(n, n, seed=seed, scale=0.5 / math.sqrt(n))
    J[:4, :4] += torch.block_diag(*[torch.tensor([[0.6, -0.9], [0.9, 0.6]]), torch.diag(torch.tensor([-0.8, 0.7]))])
    found = cn.spectral_radius(*at(J[None]))
    assert found.words() == ["converged"]
    assert found.products < n / 4
    arpack = scipy.sparse.linalg.eigs(J.numpy(), k=1, which="LM", tol=1e-13, return_eigenvectors=False)
    assert float(found.value) == pytest.approx(abs(arpack[0]), rel=1e-9)


def test_the_residual_bounds_the_distance_to_an_eigenvalue_of_a_normal_matrix(kinds, at):
    J = kinds.turns(n=40, radius=1.0) * torch.linspace(0.5, 1.0, 3, dtype=F64)[:, None, None]
    J = J @ J + 0.3 * J
    values = torch.linalg.eigvals(J).abs()
    for steps in (1, 2, 5, 11, 25):
        found = cn.spectral_radius(*at(J), max_steps=steps)
        assert found.words() == ["max_steps"] * 3
        assert found.products == steps
        nearest = (values - found.value[:, None]).abs().amin(1)
        assert (nearest <= found.residual * (1 + 1e-9) + 1e-13).all()
        assert (found.residual > 1e-6).all()


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-10])
def test_a_tolerance_is_met_and_saves_products(at, normal, orthogonal, tolerance):
    Q = orthogonal(100, seed=5)
    J = (Q * (1 / torch.arange(1, 101, dtype=F64))) @ Q.T
    problem, z = at(J[None])
    found = cn.spectral_radius(problem, z, tolerance=tolerance)
    assert found.words() == ["converged"]
    assert float(found.residual) <= tolerance
    # A symmetric matrix: the value is as good as the square of the residual over the gap.
    assert abs(float(found.value) - 1) <= 3 * tolerance**2 + 1e-14
    assert found.products < cn.spectral_radius(problem, z, tolerance=tolerance**1.5).products < 100


def test_as_many_steps_as_numbers_are_exact_and_no_more_are_taken(kinds, at):
    J = kinds.turns(n=8, radius=0.9)
    found = cn.spectral_radius(*at(J), tolerance=1e-15, max_steps=1000)
    assert found.words() == ["converged"] * 3
    assert found.products == 8
    torch.testing.assert_close(found.value, torch.full((3,), 0.9, dtype=F64), rtol=1e-13, atol=0)


def test_a_space_that_is_mapped_to_itself_is_enough(at, normal):
    u, v = normal(50, seed=1), normal(50, seed=2)
    J = torch.stack([torch.eye(50, dtype=F64) * -0.7, torch.zeros(50, 50, dtype=F64), torch.outer(u, v)])
    found = cn.spectral_radius(*at(J))
    assert found.words() == ["converged"] * 3
    assert found.products <= 3
    torch.testing.assert_close(found.value, torch.stack([torch.tensor(0.7, dtype=F64), u[0] * 0, (u @ v).abs()]))


def test_a_space_that_ends_between_two_looks(at, normal):
    # Rank 18, and the start: at 19 products there is nothing new, and H is looked at then, not at 20.
    J = normal(60, 18, seed=1, scale=0.2) @ normal(18, 60, seed=2, scale=0.2)
    found = cn.spectral_radius(*at(J[None]), tolerance=1e-300)
    assert found.products == 19
    torch.testing.assert_close(found.value, torch.linalg.eigvals(J).abs().amax()[None], rtol=1e-12, atol=0)


def test_a_nilpotent_matrix_has_radius_zero_as_far_as_the_precision_tells(at):
    J = torch.diag(torch.ones(3, dtype=F64), 1)[None]
    found = cn.spectral_radius(*at(J))
    # Its condition is infinite: the fourth root of the precision.
    assert float(found.value) < 10 * torch.finfo(F64).eps ** 0.25


def test_the_start_does_not_matter_and_the_seed_decides_it(kinds, at):
    J = kinds.random(60)
    several = [cn.spectral_radius(*at(J), max_steps=10, seed=seed).value for seed in (0, 0, 1)]
    assert torch.equal(several[0], several[1])
    assert not torch.equal(several[0], several[2])
    full = [cn.spectral_radius(*at(J), seed=seed).value for seed in (0, 1)]
    torch.testing.assert_close(*full, rtol=1e-12, atol=0)


def conditions(J):
    """1 / |w^T v| of every row's largest eigenvalue, and the derivative's matrix, both by numpy in dense algebra."""
    condition, derivative = [], []
    for matrix in J.detach().numpy():
        values, right = np.linalg.eig(matrix)
        k = np.abs(values).argmax()
        left = np.linalg.inv(right)[k]
        condition.append(np.linalg.norm(left) * np.linalg.norm(right[:, k]))
        derivative.append((np.conj(values[k]) / abs(values[k]) * np.outer(left, right[:, k])).real)
    return np.array(condition), np.stack(derivative)


@pytest.mark.parametrize("kind", ["random", "nonnormal", "symmetric", "single"])
def test_the_derivative_is_that_of_dense_eigenvalues(kinds, at, kind):
    J = getattr(kinds, kind)().requires_grad_()
    found = cn.spectral_radius(*at(J))
    (mine,) = torch.autograd.grad(found.value.sum(), J)
    (dense,) = torch.autograd.grad(torch.linalg.eigvals(J).abs().amax(1).sum(), J)
    condition, derivative = conditions(J)
    bound = 1e-13 * condition.max() ** 2
    np.testing.assert_allclose(mine.numpy(), derivative, rtol=0, atol=bound)
    # A complex pair has one modulus, and amax gives each its half: the sum is the same.
    np.testing.assert_allclose(mine.numpy(), dense.numpy(), rtol=0, atol=bound)


def test_of_eigenvalues_of_one_modulus_the_derivative_is_that_of_one(kinds, at):
    turns = kinds.turns(n=6)
    # And a sign: -0.95 and 0.95.
    flips = 0.95 * torch.diag(torch.tensor([1, -1, 0.3, 0.2, 0.1, 0], dtype=F64))
    J = torch.cat([turns, flips[None] + torch.triu(torch.ones(6, 6, dtype=F64), 1)]).requires_grad_()
    found = cn.spectral_radius(*at(J))
    assert found.words() == ["converged"] * 4
    (mine,) = torch.autograd.grad(found.value.sum(), J)
    for g, matrix in zip(mine.numpy(), J.detach().numpy(), strict=True):
        values, right = np.linalg.eig(matrix)
        left = np.linalg.inv(right)
        each = [(np.conj(v) / abs(v) * np.outer(w, x)).real for v, w, x in zip(values, left, right.T, strict=True) if v]
        assert min(abs(g - one).max() for one, v in zip(each, values, strict=False) if abs(v) > 0.94) < 1e-10


def test_the_derivative_of_a_space_that_is_not_whole(at, normal):
    J = normal(1, 120, 120, seed=4, scale=0.3 / math.sqrt(120))
    J[:, :2, :2] += torch.tensor([[0.3, -0.8], [0.8, 0.3]], dtype=F64)
    J.requires_grad_()
    found = cn.spectral_radius(*at(J))
    assert found.words() == ["converged"]
    assert found.products < 100
    _, derivative = conditions(J)
    (mine,) = torch.autograd.grad(found.value.sum(), J)
    np.testing.assert_allclose(mine.numpy(), derivative, rtol=0, atol=1e-9)


def test_a_defective_eigenvalue_has_no_derivative_and_says_so(at):
    J = torch.tensor([[[0.5, 1.0], [0.0, 0.5]], [[0.5, 1.0], [0.0, 0.4]]], dtype=F64)
    assert cn.spectral_radius(*at(J)).words() == ["converged"] * 2
    J.requires_grad_()
    found = cn.spectral_radius(*at(J))
    assert found.words() == ["breakdown", "converged"]
    torch.testing.assert_close(found.value.detach(), torch.tensor([0.5, 0.5], dtype=F64), rtol=1e-7, atol=0)
    (g,) = torch.autograd.grad(found.value.sum(), J)
    assert not g[0].any()
    assert g[1].any()


def test_a_derivative_costs_nothing_where_nobody_wants_it(kinds, at):
    J = kinds.random().requires_grad_()
    with torch.no_grad():
        plain = cn.spectral_radius(*at(J))
    assert plain.products == 9
    assert not plain.value.requires_grad
    assert cn.spectral_radius(*at(J)).products == 9 + 9 + 2
