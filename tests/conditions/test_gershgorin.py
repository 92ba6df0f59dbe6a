"""The lower bound of the smallest eigenvalue against numpy, and its hinge."""

import numpy as np
import pytest
import torch

import cde_nets as cn

F64 = torch.float64
KINDS = ["random", "turns", "nonnormal", "symmetric", "single"]


@pytest.mark.parametrize("kind", KINDS)
def test_both_bounds_are_what_the_formula_says_and_below_the_eigenvalue(kinds, at, kind):
    J = getattr(kinds, kind)() * 0.3
    problem, z = at(J)
    infinity, frobenius = (cn.gershgorin_bound(problem, z, norm) for norm in ("infinity", "frobenius"))
    for row, matrix in enumerate(J.numpy()):
        n = len(matrix)
        A = (np.eye(n) - matrix).T @ (np.eye(n) - matrix)
        assert float(infinity[row]) == pytest.approx(1 - np.linalg.norm(A - np.eye(n), np.inf), abs=1e-13)
        assert float(frobenius[row]) == pytest.approx(1 - np.sqrt(n) * np.linalg.norm(A - np.eye(n)), abs=1e-13)
        assert frobenius[row] <= infinity[row] + 1e-13
        assert float(infinity[row]) <= np.linalg.eigvalsh(A)[0] + 1e-13


def test_the_bound_is_reached_by_diagonal_matrices_and_is_one_at_zero(at):
    J = torch.stack([torch.diag(torch.tensor([0.3, 0.1], dtype=F64)), torch.zeros(2, 2, dtype=F64)])
    found = cn.gershgorin_bound(*at(J))
    torch.testing.assert_close(found, torch.tensor([0.49, 1.0], dtype=F64))


@pytest.mark.parametrize("norm", ["infinity", "frobenius"])
def test_derivatives_of_first_and_second_order(kinds, at, norm):
    J = (0.3 * kinds.random(4, 2)).requires_grad_()

    def value(J):
        return cn.gershgorin_bound(*at(J), norm)

    assert torch.autograd.gradcheck(value, J)
    assert torch.autograd.gradgradcheck(value, J)


def test_at_a_bound_of_one_the_derivative_is_a_number(at):
    for norm in ("infinity", "frobenius"):
        J = torch.zeros(1, 3, 3, dtype=F64, requires_grad=True)
        (g,) = torch.autograd.grad(cn.gershgorin_bound(*at(J), norm).sum(), J)
        assert g.isfinite().all()


def test_the_hinge_without_a_margin_is_content_with_a_singular_matrix(at):
    J = torch.diag(torch.tensor([1.0, 0.0], dtype=F64))[None]
    problem, z = at(J)
    assert float(cn.smallest_eigenvalue(problem, z).value) < 1e-30
    assert float(cn.gershgorin_hinge(problem, z, 0.0)) == 0
    assert float(cn.gershgorin_hinge(problem, z, 0.2)) == pytest.approx(0.2, rel=1e-14)


@pytest.mark.parametrize("norm", ["infinity", "frobenius"])
def test_where_the_hinge_is_zero_the_eigenvalue_is_above_the_margin(kinds, at, norm):
    margin, quiet = 0.3, 0
    for scale in (0.02, 0.05, 0.1, 0.2, 0.4):
        problem, z = at(scale * kinds.random(6, 3))
        hinge = cn.gershgorin_hinge(problem, z, margin, norm)
        torch.testing.assert_close(hinge, (margin - cn.gershgorin_bound(problem, z, norm)).clamp(min=0))
        smallest = cn.smallest_eigenvalue(problem, z).value
        assert (smallest[hinge == 0] >= margin).all()
        quiet += int((hinge == 0).sum())
    assert 0 < quiet < 15


def test_a_norm_that_does_not_exist(kinds, at, bad_input):
    problem, z = at(kinds.random())
    with pytest.raises(ValueError, match="no norm 'frobenious'; did you mean 'frobenius'"):
        cn.gershgorin_bound(problem, z, "frobenious")
    with pytest.raises(ValueError, match="Known are infinity, frobenius"):
        cn.gershgorin_hinge(problem, z, 0.1, norm="2")
    with pytest.raises(ValueError, match="margin must be a number from 0 to 1"):
        cn.gershgorin_hinge(problem, z, 1.5)
