"""u(t) in an orthonormal basis."""

import numpy as np
import pytest
import torch
from scipy.special import eval_legendre

from cde_nets.controls import SpectralControl

F64 = torch.float64
BASES = ("cosine", "legendre")


def basis(name, terms, times):
    """Every function of a basis at the times, shape (times, terms)."""
    return SpectralControl(terms, terms, basis=name, coefficients=torch.eye(terms, dtype=F64)).at(times).detach()


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("terms", [1, 2, 3, 12, 40])
def test_the_basis_is_orthonormal(name, terms):
    # Gauss-Legendre with 200 nodes: exact for polynomials of degree 399, and to rounding for these cosines.
    nodes, weights = np.polynomial.legendre.leggauss(200)
    phi = basis(name, terms, torch.tensor((nodes + 1) / 2)).numpy()
    np.testing.assert_allclose(phi.T @ (phi * weights[:, None] / 2), np.eye(terms), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", BASES)
def test_the_energy_is_the_sum_of_squares(name):
    control = SpectralControl.random(9, 3, scale=1.0, seed=0, basis=name, dtype=F64)
    nodes, weights = np.polynomial.legendre.leggauss(100)
    u = control.at(torch.tensor((nodes + 1) / 2)).detach().numpy()
    energy = (u**2 * weights[:, None] / 2).sum()
    assert energy == pytest.approx(float(control.coefficients.detach().square().sum()))


def test_legendre_against_scipy():
    times = torch.rand(100, dtype=F64) * 1.2 - 0.1
    k = np.arange(25)
    want = np.sqrt(2 * k + 1) * eval_legendre(k, 2 * times.numpy()[:, None] - 1)
    np.testing.assert_allclose(basis("legendre", 25, times), want, rtol=1e-9, atol=1e-11)


def test_cosines_against_numpy():
    times = torch.rand(100, dtype=F64)
    k = np.arange(25)
    want = np.where(k > 0, np.sqrt(2), 1) * np.cos(np.pi * k * times.numpy()[:, None])
    np.testing.assert_allclose(basis("cosine", 25, times), want, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("degree", [0, 1, 4])
def test_smooth_functions_are_met_by_their_projection(name, degree):
    """The coefficients of a projection are integrals against the basis, as in any orthonormal one."""
    nodes, weights = np.polynomial.legendre.leggauss(100)
    times = torch.tensor((nodes + 1) / 2)
    target = np.cos(np.pi * degree * times.numpy()) if name == "cosine" else times.numpy() ** degree
    coefficients = basis(name, 6, times).numpy().T @ (weights / 2 * target)
    control = SpectralControl(6, 1, basis=name, coefficients=torch.tensor(coefficients)[:, None])
    np.testing.assert_allclose(control.at(times).detach()[:, 0], target, atol=1e-12)


@pytest.mark.parametrize("name", BASES)
def test_there_are_no_breakpoints_and_the_numbers_do_not_depend_on_the_mesh(name):
    control = SpectralControl(5, 2, basis=name)
    assert control.breakpoints == ()
    assert not control.jumps
    assert [p.numel() for p in control.parameters()] == [10]
    assert control.on_mesh(np.linspace(0, 1, 18).tolist(), [0.0, 0.5]).shape == (17, 2, 2)


def test_cosine_is_the_default():
    assert SpectralControl(2, 1).basis == "cosine"
    assert "basis='cosine'" in repr(SpectralControl(2, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"terms": 0}, "terms >= 1; got terms=0"),
        ({"count": -1}, "count >= 1; got count=-1"),
        ({"basis": "legendere"}, "Unknown basis 'legendere'; did you mean 'legendre'. Known are cosine, legendre"),
        ({"basis": "cos"}, "did you mean 'cosine'"),
        ({"basis": None}, "Unknown basis None"),
        ({"coefficients": torch.zeros(3, 2)}, r"coefficients must have shape \(2, 3\); got \(3, 2\)"),
        ({"coefficients": torch.full((2, 3), torch.nan)}, "coefficients holds NaN"),
    ],
)
def test_bad_arguments_are_refused(bad_input, arguments, message):
    with pytest.raises(ValueError, match=message):
        SpectralControl(**{"terms": 2, "count": 3} | arguments)
