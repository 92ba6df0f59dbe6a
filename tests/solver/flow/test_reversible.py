"""Where reversible steps hold and where they do not, by x' = 1 - r x: what the docstring says of it."""

import math

import pytest
import torch

import cde_nets as cn

F64 = torch.float64


def solved(rate, steps, mixing=0.999, **options):
    problem = cn.InitialValueProblem(lambda t, x: 1 - rate * x, torch.ones(1, 1, dtype=F64))
    return cn.solve(problem, cn.Reversible(cn.RungeKutta("midpoint", steps=steps), mixing=mixing), **options)


def exact(rate):
    return 1 / rate + (1 - 1 / rate) * math.exp(-rate)


def by_hand(rate, steps, m):
    """The recurrence of both copies, in Python's own numbers."""
    y = z = 1.0
    h = 1 / steps
    for _ in range(steps):
        y = m * y + (1 - m) * z + _midpoint(rate, h, z)
        z = z - _midpoint(rate, -h, y)
    return y, z


def _midpoint(rate, h, x):
    return h * (1 - rate * (x + h / 2 * (1 - rate * x)))


def test_a_long_contraction_spoils_the_state_which_the_copies_show():
    with pytest.warns(cn.ConvergenceWarning, match=r"ended 23\.6 apart in row 0, where the state's norm is 11\.3: "):
        found = solved(20.0, 1600)
    y, z = by_hand(20.0, 1600, 0.999)
    assert abs(y - exact(20.0)) > 10
    assert float(found.value) == pytest.approx(y, rel=1e-6)
    assert found.statistics.separation.tolist() == pytest.approx([abs(y - z)], rel=1e-6)
    assert "copies 23.6 apart" in str(found)
    # Without throw nothing is looked at, and the figure is there all the same.
    assert torch.equal(solved(20.0, 1600, throw=False).statistics.separation, found.statistics.separation)


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
    found = solved(rate, steps, mixing)
    assert abs(float(found.value) - exact(rate)) < bound
    assert float(found.statistics.separation) < 10 * bound
