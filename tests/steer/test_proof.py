"""What is proved of controls that were found."""

from fractions import Fraction

import pytest
import torch

import cde_nets as cn

F = cn.PolynomialFields.random(2, 5, 2, seed=0, dtype=torch.float64)
X, Y = (2 * torch.rand(2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1).unbind()


@pytest.fixture(scope="module")
def found():
    return cn.interpolate(F, X, Y, lam=10.0, steps=12, certify=False)


def test_exact_controls_are_near(found):
    pytest.importorskip("flint")
    proof = cn.prove_interpolation(F, X, Y, found)
    assert proof.proved
    assert (proof.unknowns, proof.equations) == (60, 6)
    # No nearer than the residual asks for, to first order: |J| |du| >= |r| / lambda.
    assert 0 < proof.radius < 1e-8
    assert proof.residual == pytest.approx(found.residual, abs=1e-13)


def test_the_identity_is_proved_of_the_target_itself():
    pytest.importorskip("flint")
    target = X + 0.05 * Y
    found = cn.interpolate(F, X, target, readout="identity", steps=12, substeps=2, method="midpoint", certify=False)
    proof = cn.prove_interpolation(F, X, target, found)
    assert proof.proved
    assert proof.residual == pytest.approx(found.residual, abs=1e-13)


def test_the_identity_target_is_not_rounded():
    pytest.importorskip("flint")
    # x' = u from 1 to 1e-17: y - x is -1 in floats, and the mean of the controls must be 1e-17 - 1.
    line = cn.PolynomialFields(torch.tensor([[[1.0, 0.0]]], dtype=torch.float64), degree=1)
    x, y = torch.ones(1, 1, dtype=torch.float64), torch.full((1, 1), 1e-17, dtype=torch.float64)
    found = cn.interpolate(line, x, y, readout="identity", steps=2, method="euler", certify=False)
    proof = cn.prove_interpolation(line, x, y, found)
    exact = 1 + sum(Fraction(u) for u in found.control.values.flatten().tolist()) / 2 - Fraction(1e-17)
    assert exact
    assert proof.proved
    assert abs(exact) <= Fraction(proof.residual) <= abs(exact) * (1 + Fraction(1, 10**9))


def test_other_targets_are_not_proved(found):
    pytest.importorskip("flint")
    proof = cn.prove_interpolation(F, X, Y + 1, found, radius=1e-6)
    assert not proof.proved
    assert proof.residual == pytest.approx(1, abs=1e-6)


@pytest.mark.usefixtures("bad_input")
def test_what_does_not_belong_together_is_refused(found):
    with pytest.raises(ValueError, match="the result is of 3 points of R\\^2 and 5 fields"):
        cn.prove_interpolation(F, X[:2], Y[:2], found)
    with pytest.raises(ValueError, match="there are 4 fields"):
        cn.prove_interpolation(cn.PolynomialFields.random(2, 4, 2, seed=0), X, Y, found)
    with pytest.raises(ValueError, match="These fields carry these points elsewhere"):
        cn.prove_interpolation(cn.PolynomialFields.random(2, 5, 2, seed=1), X, Y, found)
    with pytest.raises(ValueError, match="fields is a NoneType"):
        cn.prove_interpolation(None, X, Y, found)
    with pytest.raises(ValueError, match="x is a list, expected a tensor"):
        cn.prove_interpolation(F, X.tolist(), Y, found)
    with pytest.raises(ValueError, match="found is a NoneType, expected what interpolate returned"):
        cn.prove_interpolation(F, X, Y, None)
    with pytest.raises(TypeError, match="prove_interpolation has no option 'lam'"):
        cn.prove_interpolation(F, X, Y, found, lam=5.0)
