"""Every method solves what it is for, as LU factors in float64 do."""

import pytest
import torch

from cde_nets.solver.linear import CG, GMRES, RBP, BiCGStab, Dense, Neumann

KRYLOV = [CG(), GMRES(), GMRES(restart=5), BiCGStab()]
ALL = [Dense(), Neumann(), RBP(), RBP(z0=1.0), *KRYLOV]


@pytest.mark.parametrize("method", ALL, ids=str)
def test_contractions(kinds, solve, method):
    systems = kinds.contractions()
    found = solve(systems, method)
    assert found.words == ["CONVERGED"] * 4
    torch.testing.assert_close(found.w, systems.solution, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.state.residual, systems.residual(found.w), rtol=0, atol=1e-14)


@pytest.mark.parametrize("method", [Dense(), Neumann(), RBP(), CG(), GMRES(), BiCGStab()], ids=str)
def test_rotations_inside_the_unit_circle(kinds, solve, method):
    systems = kinds.rotations(0.95)
    found = solve(systems, method)
    assert found.words == ["CONVERGED"] * 3
    torch.testing.assert_close(found.w, systems.solution, rtol=0, atol=1e-10)


@pytest.mark.parametrize("radius", [1.0, 1.5, 10.0])
@pytest.mark.parametrize("method", [Dense(), CG(), GMRES(), BiCGStab()], ids=str)
def test_rotations_that_no_series_sums(kinds, solve, method, radius):
    systems = kinds.rotations(radius)
    found = solve(systems, method, rtol=1e-11)
    assert found.words == ["CONVERGED"] * 3
    torch.testing.assert_close(found.w, systems.solution, rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", [Neumann(), RBP()], ids=str)
def test_a_series_that_diverges_says_so_and_stays_finite(kinds, solve, method):
    found = solve(kinds.rotations(10.0), method)
    assert found.words == ["DIVERGED"] * 3
    assert found.w.isfinite().all()


@pytest.mark.parametrize("method", [Neumann(), RBP()], ids=str)
def test_terms_that_grow_before_they_shrink(kinds, solve, method):
    systems = kinds.nonnormal()
    assert (torch.linalg.matrix_norm(systems.J, 2) > 2).all()
    found = solve(systems, method, rtol=1e-9)
    assert found.words == ["CONVERGED"] * 3
    assert (found.state.residual <= 1e-9 * systems.g.norm(dim=1)).all()
    torch.testing.assert_close(found.w, systems.solution, rtol=1e-7, atol=0)


@pytest.mark.parametrize("method", ALL, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, torch.complex128], ids=str)
def test_other_dtypes(kinds, solve, method, dtype):
    systems = kinds.contractions(norm=0.6, dtype=dtype)
    exact = dtype == torch.complex128
    found = solve(systems, method, rtol=1e-12 if exact else 1e-5)
    assert found.w.dtype == dtype
    assert found.state.residual.dtype == dtype.to_real()
    assert found.words == ["CONVERGED"] * 4
    torch.testing.assert_close(found.w, systems.solution, rtol=0, atol=1e-10 if exact else 1e-4)


@pytest.mark.parametrize("method", ALL, ids=str)
def test_the_scale_of_g_does_not_matter(kinds, solve, method):
    if method == RBP(z0=1.0):
        pytest.skip("its start is a scale of its own")
    systems = kinds.contractions(norm=0.6)
    plain = solve(systems, method, atol=1e-300)
    for scale in (2.0**-300, 2.0**300):
        scaled = solve(type(systems)(systems.J, scale * systems.g), method, atol=1e-300)
        assert scaled.words == ["CONVERGED"] * 4
        torch.testing.assert_close(scaled.w / scale, plain.w, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", ALL, ids=str)
def test_no_rows(kinds, solve, method):
    systems = kinds.contractions()
    found = solve(type(systems)(systems.J[:0], systems.g[:0]), method)
    assert found.w.shape == (0, 20)
