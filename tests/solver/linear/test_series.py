"""Neumann's series, recurrent back-propagation and the one-step gradient are one thing."""

import pytest
import torch

from cde_nets.solver.linear import RBP, Neumann, OneStep


def partial_sum(systems, terms):
    term = total = systems.g
    for _ in range(terms):
        term = (systems.J.mT @ term[:, :, None])[:, :, 0]
        total = total + term
    return total, term


@pytest.mark.parametrize("terms", [0, 1, 2, 9])
def test_k_products_sum_k_plus_one_terms(kinds, solve, terms):
    systems = kinds.contractions()
    total, last = partial_sum(systems, terms)
    found = solve(systems, Neumann(terms=terms))
    torch.testing.assert_close(found.w, total, rtol=1e-14, atol=1e-14)
    assert found.words == ["DONE"] * 4
    # The residual that is known: of the sum without its last term.
    torch.testing.assert_close(found.state.residual, last.norm(dim=1))
    torch.testing.assert_close(found.state.residual, systems.residual(total - last))


@pytest.mark.parametrize("terms", [0, 1, 2, 9])
def test_rbp_from_zero_with_k_plus_one_updates_is_neumann_k(kinds, solve, terms):
    for systems in (kinds.contractions(), kinds.rotations(1.5), kinds.nonnormal()):
        series, updates = solve(systems, Neumann(terms=terms)), solve(systems, RBP(terms=terms + 1))
        torch.testing.assert_close(updates.w, series.w, rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(updates.state.residual, series.state.residual, rtol=1e-11, atol=1e-13)
        assert updates.words == series.words


def test_one_step_is_the_first_term(kinds, solve):
    systems = kinds.contractions()
    found = solve(systems, OneStep())
    assert torch.equal(found.w, systems.g)
    assert torch.equal(found.w, solve(systems, Neumann(terms=0)).w)
    assert found.words == ["DONE"] * 4
    assert found.state.residual is None


def test_truncated_backpropagation_at_an_equilibrium_is_the_series(solve, systems):
    # f(z) = tanh(W z + b), unrolled K + 1 times from its equilibrium, where only b gets a gradient.
    torch.manual_seed(0)
    W, b = 0.5 * torch.randn(5, 5, dtype=torch.float64) / 5**0.5, torch.randn(3, 5, dtype=torch.float64)
    z = torch.zeros(3, 5, dtype=torch.float64)
    for _ in range(500):
        z = torch.tanh(z @ W.T + b)
    g = torch.randn(3, 5, dtype=torch.float64)
    slope = 1 - z**2
    J = slope[:, :, None] * W
    for terms in (0, 1, 4):
        leaf, x = b.clone().requires_grad_(), z
        for _ in range(terms + 1):
            x = torch.tanh(x @ W.T + leaf)
        (expected,) = torch.autograd.grad(x, leaf, g)
        found = solve(systems(J, g), Neumann(terms=terms))
        torch.testing.assert_close(slope * found.w, expected, rtol=1e-12, atol=1e-12)


def test_rbp_starts_where_it_is_told(kinds, solve):
    systems = kinds.contractions()
    z0 = torch.rand(4, 20, dtype=torch.float64)
    after = z0
    for _ in range(5):
        after = (systems.J.mT @ after[:, :, None])[:, :, 0] + systems.g
    torch.testing.assert_close(solve(systems, RBP(z0=z0, terms=5)).w, after, rtol=1e-14, atol=1e-14)
    ones = solve(systems, RBP(z0=torch.ones_like(z0), terms=5)).w
    assert torch.equal(solve(systems, RBP(z0=1.0, terms=5)).w, ones)
    assert torch.equal(solve(systems, RBP(z0=1, terms=5)).w, ones)


def test_what_a_start_is_off_by_is_gone_only_as_powers_of_j_are(kinds, solve):
    systems = kinds.rotations(0.95)
    z0 = systems.solution + 29 * torch.nn.functional.normalize(torch.rand_like(systems.g))
    for terms in (1, 10, 30):
        off = (solve(systems, RBP(z0=z0, terms=terms)).w - systems.solution).norm(dim=1)
        torch.testing.assert_close(off, torch.full_like(off, 29 * 0.95**terms), rtol=1e-9, atol=0)


def test_rounding_that_the_terms_hide_is_no_convergence(kinds, solve, systems):
    # Terms grow to 1e9 before they shrink: in float32 the sum is off by far more than its last term.
    J = 0.5 * torch.eye(12) + torch.diag(torch.full((11,), 3.0), 1)
    hard = systems(J[None], torch.ones(1, 12))
    found = solve(hard, Neumann(), rtol=1e-6)
    assert found.words == ["BREAKDOWN"]
    assert found.state.residual > 1e-3
    assert hard.residual(found.w) > 1e-3
