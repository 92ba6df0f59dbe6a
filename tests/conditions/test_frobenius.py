"""The Frobenius norm, exact and estimated."""

import itertools

import pytest
import torch

import cde_nets as cn

F64 = torch.float64
KINDS = ["random", "turns", "nonnormal", "symmetric", "single"]


@pytest.mark.parametrize("kind", KINDS)
def test_exact(kinds, at, kind):
    J = getattr(kinds, kind)()
    found = cn.squared_frobenius(*at(J), samples=None)
    torch.testing.assert_close(found, torch.linalg.matrix_norm(J).square(), rtol=1e-13, atol=0)


def test_the_mean_over_all_signs_is_exact(kinds, at, monkeypatch):
    J = kinds.random(6, 2)
    bits = torch.tensor(list(itertools.product((0, 1), repeat=6)))[:, None].expand(64, 2, 6)
    monkeypatch.setattr(torch, "randint", lambda low, high, shape, **_: bits if shape == (64, 2, 6) else None)
    found = cn.squared_frobenius(*at(J), samples=64)
    torch.testing.assert_close(found, torch.linalg.matrix_norm(J).square(), rtol=1e-13, atol=0)


def test_it_is_unbiased_and_has_the_variance_that_the_formula_says(at, kinds):
    J = kinds.random(5, 1).expand(20000, 5, 5)
    for samples in (1, 4):
        found = cn.squared_frobenius(*at(J), samples=samples, generator=torch.Generator().manual_seed(samples))
        exact = float(J[0].square().sum())
        B = J[0].T @ J[0]
        variance = 2 * float(B.square().sum() - B.diagonal().square().sum()) / samples
        assert float(found.mean()) == pytest.approx(exact, abs=4 * (variance / 20000) ** 0.5)
        assert float(found.var()) == pytest.approx(variance, rel=0.1)


def test_the_generator_decides(kinds, at):
    problem, z = at(kinds.random())
    found = [cn.squared_frobenius(problem, z, generator=torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    torch.manual_seed(0)
    assert not torch.equal(cn.squared_frobenius(problem, z), cn.squared_frobenius(problem, z))


@pytest.mark.parametrize("samples", [1, 3, None])
def test_derivatives_of_first_and_second_order(bent, normal, samples):
    z, a, b = (normal(*shape, seed=k, scale=0.5).requires_grad_() for k, shape in enumerate([(2, 3), (3, 3), (2, 3)]))

    def value(z, a, b):
        generator = None if samples is None else torch.Generator().manual_seed(0)
        return cn.squared_frobenius(cn.FixedPointProblem(bent, z, args=(a, b)), z, samples=samples, generator=generator)

    assert torch.autograd.gradcheck(value, (z, a, b))
    assert torch.autograd.gradgradcheck(value, (z, a, b))
    if samples is None:
        mine = torch.autograd.grad(value(z, a, b).sum(), (z, a, b))
        dense = torch.autograd.grad(torch.linalg.matrix_norm(bent.jacobian(z, a, b)).square().sum(), (z, a, b))
        torch.testing.assert_close(mine, dense, rtol=1e-12, atol=1e-13)


def test_a_generator_where_nothing_is_drawn(kinds, at, bad_input):
    with pytest.raises(ValueError, match="samples=None is exact"):
        cn.squared_frobenius(*at(kinds.random()), samples=None, generator=torch.Generator())
