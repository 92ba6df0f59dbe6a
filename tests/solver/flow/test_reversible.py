"""Where reversible steps hold and where they do not, by x' = 1 - r x: what the docstring says of it."""

import math

import pytest
import torch

import cde_nets as cn

F64 = torch.float64


def end(rate, steps, mixing=0.999):
    problem = cn.InitialValueProblem(lambda t, x: 1 - rate * x, torch.ones(1, 1, dtype=F64))
    return float(cn.solve(problem, cn.Reversible(cn.RungeKutta("midpoint", steps=steps), mixing=mixing)).value)


def exact(rate):
    return 1 / rate + (1 - 1 / rate) * math.exp(-rate)


def by_hand(rate, steps, m):
    """The recurrence of both copies, in Python's own numbers."""
    y = z = 1.0
    h = 1 / steps
    for _ in range(steps):
        y = m * y + (1 - m) * z + _midpoint(rate, h, z)
        z = z - _midpoint(rate, -h, y)
    return y


def _midpoint(rate, h, x):
    return h * (1 - rate * (x + h / 2 * (1 - rate * x)))


def test_a_long_contraction_spoils_the_state():
    found = end(20.0, 1600)
    assert abs(found - exact(20.0)) > 10
    assert found == pytest.approx(by_hand(20.0, 1600, 0.999), rel=1e-6)


@pytest.mark.parametrize(
    ("rate", "steps", "mixing", "bound"),
    [
        (1.0, 20, 0.999, 1e-3),
        (2.0, 100, 0.999, 1e-4),
        # Steps shorter than (1 - m) / r are stable.
        (20.0, 2100, 0.99, 1e-6),
        (20.0, 1600, 0.98, 1e-7),
    ],
)
def test_where_it_holds(rate, steps, mixing, bound):
    assert abs(end(rate, steps, mixing) - exact(rate)) < bound
