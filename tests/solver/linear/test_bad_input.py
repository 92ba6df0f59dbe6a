"""Errors come before the first product, and name the way out."""

import math

import pytest
import torch

from cde_nets.solver.linear import CG, GMRES, RBP, BiCGStab, Dense, Neumann, OneStep
from cde_nets.solver.linear_problem import LinearProblem

pytestmark = pytest.mark.usefixtures("bad_input")


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (GMRES, {"restarts": 3}, "GMRES has no option 'restarts'; did you mean 'restart'"),
        (Neumann, {"term": 3}, "Neumann has no option 'term'; did you mean 'terms'"),
        (RBP, {"z_0": 3}, "RBP has no option 'z_0'; did you mean 'z0'"),
        (Dense, {"restart": 3}, "Dense has no option 'restart'. It takes none"),
        (OneStep, {"terms": 3}, "OneStep has no option"),
        (CG, {"steps": 3}, "CG has no option"),
        (BiCGStab, {"l": 2}, "BiCGStab has no option"),
    ],
)
def test_unknown_options(method, options, message):
    with pytest.raises(TypeError, match=message):
        method(**options)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (GMRES, {"restart": 0}, "restart must be an integer of at least 1; got 0"),
        (GMRES, {"restart": 2.0}, "restart must be an integer"),
        (Neumann, {"terms": -1}, "terms must be an integer of at least 0; got -1"),
        (Neumann, {"terms": True}, "terms must be an integer"),
        (RBP, {"terms": 0}, "terms must be an integer of at least 1; got 0"),
        (RBP, {"z0": math.nan}, "z0 must be a finite number, or tensors built as g is; got nan"),
        (RBP, {"z0": True}, "z0 must be a finite number"),
    ],
)
def test_bad_values(method, options, message):
    with pytest.raises(ValueError, match=message):
        method(**options)


def never(w):
    raise AssertionError("a product before the check")


@pytest.mark.parametrize(
    ("z0", "message"),
    [
        (torch.ones(3, 3), r"z0 must have the state's shape \(2, 3\); got shape \(3, 3\)"),
        (torch.ones(2, 3).double(), "z0 must be torch.float32 on cpu"),
        ((torch.ones(2, 3),), "z0 must be built as the initial state"),
        ("zeros", "z0 must have the state's shape .* got a str"),
    ],
)
def test_a_start_that_does_not_fit(z0, message):
    with pytest.raises(ValueError, match=message):
        RBP(z0=z0).resolve(LinearProblem(never, torch.ones(2, 3)))


def test_normal_equations_need_the_transpose():
    with pytest.raises(ValueError, match=r"needs v -> J v as well: give .* transpose=.* or take GMRES\(\)"):
        CG().resolve(LinearProblem(never, torch.ones(2, 3)))


def test_the_problem_itself():
    with pytest.raises(ValueError, match="product must be a function; got a Tensor"):
        LinearProblem(torch.eye(3), torch.ones(2, 3))
    with pytest.raises(ValueError, match="transpose must be a function; got a Tensor"):
        LinearProblem(never, torch.ones(2, 3), transpose=torch.eye(3))
    with pytest.raises(ValueError, match="must be floating point or complex; got"):
        LinearProblem(never, torch.ones(2, 3, dtype=torch.int64))


def test_a_product_of_another_shape(solve):
    problem = LinearProblem(lambda w: w[:, :2], torch.ones(2, 3))
    with pytest.raises(
        ValueError, match=r"The product's value must have the state's shape \(2, 3\); got shape \(2, 2\)"
    ):
        solve(problem, GMRES())
