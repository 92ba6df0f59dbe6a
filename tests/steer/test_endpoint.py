"""Ends of flows and their Jacobian, against the flow itself and autograd through its steps."""

import pytest
import torch

import cde_nets as cn
from cde_nets.solver.flow.tableau import TABLEAUS
from cde_nets.steer.endpoint import Endpoint

FAMILIES = {
    "polynomial": lambda: cn.PolynomialFields.random(3, 4, 2, seed=0, dtype=torch.float64),
    "ridge": lambda: cn.RidgeFields.random(3, 4, 3, seed=0, dtype=torch.float64),
    "linear": lambda: cn.LinearFields.random(3, 4, seed=0, dtype=torch.float64),
    "spherical": lambda: cn.SphericalFields(cn.PolynomialFields.random(3, 4, 2, seed=0, dtype=torch.float64)),
}


def points(count=5, seed=0):
    return torch.randn(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def values(steps, seed=1):
    return 0.4 * torch.randn(steps, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("method", ["euler", "heun", "rk4", "dopri5"])
@pytest.mark.parametrize("family", FAMILIES)
def test_ends_and_jacobian_are_those_of_the_flow(family, method):
    fields, x, u = FAMILIES[family](), points(), values(3)
    endpoint = Endpoint(fields, x, TABLEAUS[method].bare, 2)
    ended, jacobian = endpoint.linearized(u)

    # Autograd through the very steps, an output after the other.
    control = cn.PiecewiseConstantControl(3, 4, values=u)
    problem = cn.InitialValueProblem.controlled(fields, control, x)
    end = cn.solve(problem, cn.RungeKutta(method, steps=6), gradient=cn.Autograd()).value
    rows = [torch.autograd.grad(out, control.values, retain_graph=True)[0].flatten() for out in end.flatten()]
    torch.testing.assert_close(ended, end.detach(), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(ended, endpoint.at(u), rtol=0, atol=0)
    torch.testing.assert_close(jacobian, torch.stack(rows), rtol=1e-10, atol=1e-11)


def test_what_blows_up_is_none():
    fields = cn.PolynomialFields.random(3, 4, 2, seed=0, dtype=torch.float64)
    endpoint = Endpoint(fields, points(), TABLEAUS["rk4"].bare, 1)
    assert endpoint.at(1e3 * values(4)) is None
    assert endpoint.linearized(1e3 * values(4)) is None


def test_refined_has_more_steps_of_the_same_flow():
    fields, u = FAMILIES["polynomial"](), values(4)
    errors = []
    finest = Endpoint(fields, points(), TABLEAUS["rk4"].bare, 64).at(u)
    for times in (1, 2, 4):
        errors.append(
            float((Endpoint(fields, points(), TABLEAUS["rk4"].bare, 4).refined(times).at(u) - finest).abs().max())
        )
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.5)
    assert errors[1] / errors[2] == pytest.approx(16, rel=0.5)
