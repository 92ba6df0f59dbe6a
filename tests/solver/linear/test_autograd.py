"""Solves may be traced: what autograd sees is a function of g and J, finite also where rows failed."""

import math

import pytest
import torch

from cde_nets.solver.linear import CG, GMRES, RBP, BiCGStab, Dense, Neumann, OneStep

FULL = [Dense(), Neumann(), RBP(), CG(), GMRES(), BiCGStab()]


@pytest.mark.parametrize("method", FULL, ids=str)
def test_the_gradient_of_a_solve_is_that_of_the_solution(kinds, solve, systems, method):
    plain = kinds.contractions(rows=3, dim=5, norm=0.5)
    weights = torch.randn(3, 5, dtype=torch.float64)

    def gradients(answer):
        J, g = plain.J.clone().requires_grad_(), plain.g.clone().requires_grad_()
        return torch.autograd.grad((weights * answer(systems(J, g))).sum(), (J, g))

    found = gradients(lambda s: solve(s, method, rtol=1e-13).w)
    for ours, theirs in zip(found, gradients(lambda s: s.solution), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", [Neumann(terms=3), RBP(terms=3), OneStep(), Dense()], ids=str)
def test_second_order(kinds, solve, systems, method):
    plain = kinds.contractions(rows=2, dim=3, norm=0.5)

    def answer(J, g):
        return solve(systems(J, g), method).w

    leaves = (plain.J.clone().requires_grad_(), plain.g.clone().requires_grad_())
    assert torch.autograd.gradcheck(answer, leaves)
    assert torch.autograd.gradgradcheck(answer, leaves)


@pytest.mark.parametrize("method", [*FULL, Neumann(terms=3), RBP(terms=3), GMRES(restart=2)], ids=str)
def test_rows_that_fail_or_have_nothing_to_do_leave_the_gradient_of_shared_parameters_finite(
    kinds, solve, systems, method
):
    plain = kinds.contractions(rows=5, dim=5, norm=0.5)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    J, g = plain.J.clone(), plain.g.clone()
    g[0] = 0
    J[1] = torch.eye(5)  # singular
    J[2] = 1e60 * J[2]  # series overflow
    g[3, 1] = math.nan
    found = solve(systems(scale * J, g), method, rtol=1e-9, max_steps=60)
    ok = torch.tensor([word in ("CONVERGED", "DONE") for word in found.words])
    assert ok[4]
    assert not ok[3]
    assert found.w.isfinite().all()
    (gradient,) = torch.autograd.grad(torch.where(ok[:, None], found.w, 0.0).sum(), scale)
    assert gradient.isfinite()


@pytest.mark.parametrize("method", FULL, ids=str)
def test_without_a_graph_none_is_built(kinds, solve, systems, method):
    plain = kinds.contractions()
    with torch.no_grad():
        found = solve(systems(plain.J.clone().requires_grad_(), plain.g), method)
    assert not found.w.requires_grad
    torch.testing.assert_close(found.w, plain.solution, rtol=0, atol=1e-10)
