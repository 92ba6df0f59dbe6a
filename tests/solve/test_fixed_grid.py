"""Explicit Runge-Kutta steps of a controlled flow."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from cde_nets.controls import PiecewiseConstantControl
from cde_nets.fields import LinearFields, PolynomialFields
from cde_nets.solve import EULER, RK4, FixedGrid, uniform_mesh

F64 = torch.float64


def march(grid, x, values):
    for n in range(grid.steps):
        x, scale = grid.step(n, x, values[n])
        assert scale is None
    return x


def test_euler_on_the_controls_grid_is_the_residual_network():
    families = [PolynomialFields.random(3, 4, 2, seed=s, dtype=F64) for s in range(5)]
    control = PiecewiseConstantControl.random(5, 4, scale=0.5, seed=0, dtype=F64)
    x = torch.randn(6, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    grid = FixedGrid(families, EULER, uniform_mesh(5, control.breakpoints))
    got = march(grid, x, control.on_mesh(grid.mesh, EULER.c))
    for fields, u in zip(families, control.values, strict=True):
        x = x + (1 / 5) * sum(u[i] * fields.evaluate(x)[:, i] for i in range(4))
    torch.testing.assert_close(got, x, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("tableau", "terms"), [(EULER, 1), (RK4, 4)])
def test_on_linear_fields_a_step_is_the_truncated_exponential_series(tableau, terms):
    fields = LinearFields.random(4, 3, seed=1, dtype=F64)
    control = PiecewiseConstantControl.random(3, 3, scale=1.0, seed=2, dtype=F64)
    mesh = uniform_mesh(6, control.breakpoints)
    x = torch.randn(5, 4, dtype=F64, generator=torch.Generator().manual_seed(3))
    got = march(FixedGrid([fields] * 6, tableau, mesh), x, control.on_mesh(mesh, tableau.c)).detach()
    want = exponential = x
    largest = 0.0
    for n in range(6):
        a = torch.einsum("i,ijk->jk", control.values[n // 2].detach(), fields.matrices) / 6
        largest = max(largest, float(a.norm()))
        series = sum(torch.linalg.matrix_power(a, k) / math.factorial(k) for k in range(terms + 1))
        want, exponential = want @ series.T, exponential @ torch.matrix_exp(a).T
    torch.testing.assert_close(got, want, rtol=1e-13, atol=1e-13)
    assert float((got - exponential).abs().max()) < 60 * largest ** (terms + 1)


@pytest.mark.parametrize(("tableau", "steps"), [(EULER, [512, 1024, 2048]), (RK4, [32, 64, 128])])
def test_the_error_falls_with_the_order_across_the_breakpoints_of_a_control(tableau, steps):
    fields = PolynomialFields.random(2, 3, 2, seed=3, dtype=F64)
    control = PiecewiseConstantControl.random(4, 3, scale=0.7, seed=1, dtype=F64)
    x = torch.tensor([[0.5, -0.3]], dtype=F64)

    def velocity(t, y, u):
        phi = (y**fields.exponents).prod(axis=1)
        return np.einsum("i,ija,a->j", u, fields.coefficients.numpy(), phi)

    truth = x[0].numpy()
    for n, u in enumerate(control.values.detach().numpy()):
        piece = solve_ivp(velocity, (n / 4, (n + 1) / 4), truth, "DOP853", rtol=1e-13, atol=1e-13, args=(u,))
        truth = piece.y[:, -1]
    errors = []
    with torch.no_grad():
        for count in steps:
            mesh = uniform_mesh(count, control.breakpoints)
            end = march(FixedGrid([fields] * count, tableau, mesh), x, control.on_mesh(mesh, tableau.c))
            errors.append(np.abs(end[0].numpy() - truth).max())
    assert errors[-1] > 1e-12  # above what the reference itself may miss
    assert abs(np.polyfit(np.log(steps), np.log(errors), 1)[0] + tableau.order) < 0.1


def test_stage_states_are_those_of_the_tableau():
    fields = PolynomialFields.random(2, 3, 2, seed=0, dtype=F64)
    x = torch.tensor([[0.4, 0.2]], dtype=F64)
    u = torch.randn(4, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    grid = FixedGrid([fields] * 2, RK4, (0.0, 0.25, 1.0))
    assert (grid.steps, grid.width(0), grid.width(1)) == (2, 0.25, 0.75)
    k1 = fields.velocity(x, u[0])
    k2 = fields.velocity(x + 0.375 * k1, u[1])
    k3 = fields.velocity(x + 0.375 * k2, u[2])
    want = [x, x + 0.375 * k1, x + 0.375 * k2, x + 0.75 * k3]
    torch.testing.assert_close(grid.stage_states(1, x, u), want)
    k4 = fields.velocity(want[3], u[3])
    torch.testing.assert_close(grid.step(1, x, u)[0], x + 0.75 / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
