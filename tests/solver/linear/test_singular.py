"""Systems that are singular or nearly so: status and residual say it."""

import pytest
import torch

from cde_nets.solver.linear import CG, GMRES, BiCGStab, Dense

EXACT = [Dense(), CG(), GMRES()]


@pytest.mark.parametrize("method", [*EXACT, BiCGStab()], ids=str)
@pytest.mark.parametrize("smallest", [0.0, 1e-14, 1e-11])
def test_no_answer_is_passed_off_as_one(kinds, solve, method, smallest):
    systems = kinds.spectrum(smallest)
    found = solve(systems, method, rtol=1e-8, max_steps=500)
    assert found.words[0] in (("BREAKDOWN",) if method in EXACT else ("BREAKDOWN", "MAX_STEPS"))
    assert found.w.isfinite().all()
    assert found.state.residual[0] > 1e-8 * systems.g.norm()
    if found.words == ["BREAKDOWN"]:
        # The rounding of any residual is that of |A| |w|.
        slack = 1e-14 * float(found.w.norm())
        torch.testing.assert_close(found.state.residual, systems.residual(found.w), rtol=1e-6, atol=slack)


@pytest.mark.parametrize("method", EXACT, ids=str)
def test_what_float64_still_resolves_is_solved(kinds, solve, method):
    systems = kinds.spectrum(1e-3, 1e-5)
    found = solve(systems, method, rtol=1e-9)
    assert found.words == ["CONVERGED"] * 2
    assert (systems.residual(found.w) <= 1e-9 * systems.g.norm(dim=1)).all()


@pytest.mark.parametrize("method", [CG(), GMRES()], ids=str)
def test_a_singular_system_that_has_a_solution_is_solved(kinds, solve, method):
    systems = kinds.spectrum(0.0)
    systems.g = (systems.matrix @ systems.matrix @ systems.g[:, :, None])[:, :, 0]
    found = solve(systems, method, rtol=1e-9)
    assert found.words == ["CONVERGED"]
    assert (systems.residual(found.w) <= 1e-9 * systems.g.norm(dim=1)).all()


@pytest.mark.parametrize("method", [CG(), GMRES(), BiCGStab()], ids=str)
def test_a_tolerance_below_the_dtype_ends(kinds, solve, method):
    systems = kinds.contractions(rows=3, dtype=torch.float32)
    found = solve(systems, method, rtol=1e-12, atol=1e-30)
    assert found.words == ["BREAKDOWN"] * 3
    assert (found.state.residual <= 1e-5 * systems.g.norm(dim=1)).all()


@pytest.mark.parametrize("norm", [0.05, 0.3])
def test_where_rounding_holds_gmres_up_it_does_not_run_away(kinds, solve, norm):
    systems = kinds.contractions(rows=32, dim=30, norm=norm, dtype=torch.float32)
    found = solve(systems, GMRES(), rtol=1e-9, atol=1e-30)
    assert (systems.residual(found.w) <= 1e-6 * systems.g.norm(dim=1)).all()


def test_lu_factors_that_miss_the_tolerance_by_rounding_are_done(kinds, solve):
    systems = kinds.spectrum(1e-2)
    systems.J, systems.g = systems.J.float(), systems.g.float()
    found = solve(systems, Dense(), rtol=1e-12, atol=1e-30)
    assert found.words == ["DONE"]
    assert 0 < found.state.residual <= 1e-4 * systems.g.norm()
