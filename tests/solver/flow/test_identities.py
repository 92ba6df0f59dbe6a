"""What steps are in other words: a residual network, a truncated exponential series, the tableau written out."""

import math

import pytest
import torch

from cde_nets.controls import PiecewiseConstantControl
from cde_nets.fields import LinearFields, PolynomialFields
from cde_nets.gradient import solve
from cde_nets.solver import InitialValueProblem, RungeKutta

F64 = torch.float64


def normal(*shape, seed):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def end(fields, control, x, method):
    return solve(InitialValueProblem.controlled(fields, control, x), method).value


@pytest.mark.parametrize("fresh", [True, False])
def test_euler_on_the_control_s_grid_is_the_residual_network(fresh):
    families = [PolynomialFields.random(3, 4, 2, seed=s if fresh else 0, dtype=F64) for s in range(5)]
    control = PiecewiseConstantControl.random(5, 4, scale=0.5, seed=0, dtype=F64)
    x = normal(6, 3, seed=0)
    got = end(families if fresh else families[0], control, x, RungeKutta("euler", steps=5))
    for fields, u in zip(families, control.values.detach(), strict=True):
        x = x + (1 / 5) * sum(u[i] * fields.evaluate(x)[:, i] for i in range(4))
    torch.testing.assert_close(got, x, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("name", "terms"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("heun3", 3), ("rk4", 4)])
def test_on_linear_fields_a_step_is_the_truncated_exponential_series(name, terms):
    fields = LinearFields.random(4, 3, seed=1, dtype=F64)
    control = PiecewiseConstantControl.random(3, 3, scale=1.0, seed=2, dtype=F64)
    x = want = exponential = normal(5, 4, seed=3)
    largest = 0.0
    for n in range(6):
        a = torch.einsum("i,ijk->jk", control.values[n // 2].detach(), fields.matrices) / 6
        largest = max(largest, float(a.norm()))
        series = sum(torch.linalg.matrix_power(a, k) / math.factorial(k) for k in range(terms + 1))
        want, exponential = want @ series.T, exponential @ torch.matrix_exp(a).T
    got = end(fields, control, x, RungeKutta(name, steps=6))
    torch.testing.assert_close(got, want, rtol=1e-13, atol=1e-13)
    assert float((got - exponential).abs().max()) < 60 * largest ** (terms + 1)


def test_a_step_is_the_tableau_written_out():
    fields = PolynomialFields.random(2, 3, 2, seed=0, dtype=F64)
    control = PiecewiseConstantControl(1, 3, values=normal(1, 3, seed=0))
    x = torch.tensor([[0.4, 0.2]], dtype=F64)
    # Uneven, so that a width is none of the tableau's numbers.
    got = end(fields, control, x, RungeKutta("rk4", mesh=(0.0, 0.3, 1.0)))
    (u,) = control.values.detach()
    for h in (0.3, 0.7):
        k1 = fields.velocity(x, u)
        k2 = fields.velocity(x + h / 2 * k1, u)
        k3 = fields.velocity(x + h / 2 * k2, u)
        k4 = fields.velocity(x + h * k3, u)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    torch.testing.assert_close(got, x, rtol=1e-14, atol=1e-15)
