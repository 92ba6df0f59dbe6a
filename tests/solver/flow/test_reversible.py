"""Where reversible steps hold and where they do not, by the closed form of x' = 1 - r x."""

import math
import warnings

import pytest
import torch

import cde_nets as cn
from cde_nets.errors import ConvergenceWarning

F64 = torch.float64


def solved(rate, steps, mixing=0.999, gradient=None, throw=True):
    rates = torch.as_tensor(rate, dtype=F64).reshape(-1, 1)
    problem = cn.InitialValueProblem(lambda t, x, r: 1 - r * x, torch.ones_like(rates), args=(rates,))
    method = cn.Reversible(cn.RungeKutta("midpoint", steps=steps), mixing=mixing)
    found = cn.solve(problem, method, gradient=gradient, throw=throw).value
    return (found - (1 / rates + (1 - 1 / rates) * torch.exp(-rates)))[:, 0]


def copies(rate, steps, m):
    """The two copies by the recurrence, in Python's own numbers."""
    y = z = 1.0
    h = 1 / steps
    for _ in range(steps):
        y, z = m * y + (1 - m) * z + _midpoint(rate, h, z), z
        z = z - _midpoint(rate, -h, y)
    return y, z


def _midpoint(rate, h, x):
    return h * (1 - rate * (x + h / 2 * (1 - rate * x)))


@pytest.mark.parametrize("gradient", [None, cn.Autograd(), cn.ForwardMode()])
def test_a_long_contraction_warns(gradient):
    y, z = copies(20.0, 1600, 0.999)
    assert abs(y - 0.05) > 10
    words = rf"end apart in 1 of 2 rows, by {abs(y - z) / abs(y):.2g} of its size.*Take the base method itself"
    with pytest.warns(ConvergenceWarning, match=words):
        error = solved([1.0, 20.0], 1600, gradient=gradient)
    assert error[1] == pytest.approx(y - 0.05 - 0.95 * math.exp(-20), rel=1e-6)
    assert abs(error[0]) < 1e-6


@pytest.mark.parametrize(
    ("rate", "steps", "mixing", "bound"),
    [
        (1.0, 20, 0.999, 1e-3),
        (2.0, 100, 0.999, 1e-4),
        # What the warning names as ways out: more steps, and a smaller mixing, 1 - m above rate / steps.
        (20.0, 16000, 0.999, 1e-6),
        (20.0, 1600, 0.98, 1e-6),
    ],
)
def test_where_it_holds_nothing_is_said(rate, steps, mixing, bound):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert abs(solved(rate, steps, mixing)) < bound


def test_what_has_died_out_is_not_the_measure():
    """Errors are small beside where the state began, whatever remains of it."""
    problem = cn.InitialValueProblem(lambda t, x: -10 * x, torch.ones(1, 1, dtype=F64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cn.solve(problem, cn.Reversible(cn.RungeKutta("rk4", steps=400)))
