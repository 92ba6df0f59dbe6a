"""Rows are systems of their own: what one of them does is nothing to the others."""

import math

import pytest
import torch

from cde_nets.solver.linear import CG, GMRES, RBP, BiCGStab, Dense, Neumann, OneStep

TO_TOLERANCE = [Dense(), Neumann(), RBP(), CG(), GMRES(), GMRES(restart=4), BiCGStab()]
ALL = [*TO_TOLERANCE, OneStep(), Neumann(terms=7), RBP(terms=7)]


@pytest.mark.parametrize("method", ALL, ids=str)
def test_each_row_is_as_if_alone(kinds, solve, method):
    systems = kinds.contractions(rows=6)
    together = solve(systems, method, rtol=1e-9)
    for row in range(6):
        alone = solve(systems.rows(row), method, rtol=1e-9)
        torch.testing.assert_close(together.w[row], alone.w[0], rtol=1e-11, atol=1e-11)
        assert together.state.status[row] == alone.state.status[0]
        assert together.state.accepted[row] == alone.state.accepted[0]
        if alone.state.residual is not None:
            torch.testing.assert_close(together.state.residual[row], alone.state.residual[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", TO_TOLERANCE, ids=str)
def test_rows_that_have_converged_do_not_move(kinds, solve, method):
    # The first row is done long before the last.
    systems = kinds.contractions(rows=2, norm=0.95)
    systems.J[0] *= 0.1
    few = solve(systems, method, rtol=1e-6, max_steps=12)
    many = solve(systems, method, rtol=1e-6)
    assert few.words[0] == "CONVERGED"
    assert torch.equal(few.w[0], many.w[0])
    assert torch.equal(few.state.residual[0], many.state.residual[0])


@pytest.mark.parametrize("method", ALL, ids=str)
@pytest.mark.parametrize("where", ["g", "J"])
def test_a_row_that_is_not_finite_fails_alone(kinds, solve, method, where):
    if method == OneStep() and where == "J":
        pytest.skip("it never looks at J")
    systems = kinds.contractions(rows=3)
    clean = solve(systems, method)
    (systems.g if where == "g" else systems.J)[1, 2] = math.nan
    found = solve(systems, method)
    assert found.words[1] == "DIVERGED"
    assert found.w.isfinite().all()
    for row in (0, 2):
        assert torch.equal(found.w[row], clean.w[row])
        assert found.words[row] == clean.words[row]


@pytest.mark.parametrize("method", [Dense(), CG(), GMRES()], ids=str)
def test_a_singular_row_breaks_down_alone(kinds, solve, method):
    systems = kinds.contractions(rows=3)
    clean = solve(systems, method)
    systems.J[1] = torch.eye(20)
    found = solve(systems, method)
    assert found.words == ["CONVERGED", "BREAKDOWN", "CONVERGED"]
    assert torch.equal(found.w[[0, 2]], clean.w[[0, 2]])
    assert torch.equal(found.w[1], torch.zeros(20, dtype=torch.float64))
    torch.testing.assert_close(found.state.residual[1], systems.g[1].norm())


@pytest.mark.parametrize("method", TO_TOLERANCE, ids=str)
def test_nothing_on_the_right_gives_nothing_at_once(kinds, solve, method):
    systems = kinds.contractions(rows=3)
    systems.g[1] = 0
    found = solve(systems, method)
    assert found.words == ["CONVERGED"] * 3
    assert torch.equal(found.w[1], torch.zeros(20, dtype=torch.float64))
    assert found.state.residual[1] == 0
    assert found.state.accepted[1] == (1 if method == Dense() else 0)


@pytest.mark.parametrize("method", [Dense(), CG(), GMRES(), BiCGStab()], ids=str)
def test_nothing_on_the_right_of_a_singular_row_is_no_breakdown(kinds, solve, method):
    systems = kinds.contractions(rows=2)
    systems.g[1], systems.J[1] = 0, torch.eye(20)
    found = solve(systems, method)
    assert found.words == ["CONVERGED"] * 2
    assert not found.w[1].any()
