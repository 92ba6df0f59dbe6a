"""Steps put back on the sphere through their start."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cde_nets.controls import PiecewiseConstantControl
from cde_nets.fields import PolynomialFields, SphericalFields
from cde_nets.gradient import solve
from cde_nets.solver import InitialValueProblem, RungeKutta, Sphere
from cde_nets.solver.flow.manifold import manifold

F64 = torch.float64


def draw(rows, dim, seed):
    rng = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, dim, dtype=F64, generator=rng) for _ in range(3))


@settings(derandomize=True, deadline=None, max_examples=25)
@given(rows=st.integers(0, 4), dim=st.integers(2, 6), seed=st.integers(0, 99))
def test_the_retraction_keeps_the_norm_of_the_start_and_the_direction_of_the_end(rows, dim, seed):
    x, z, _ = draw(rows, dim, seed)
    y, scale = Sphere().retract(x, z)
    torch.testing.assert_close(y.norm(dim=1), x.norm(dim=1), rtol=1e-14, atol=0)
    torch.testing.assert_close(y, z * (x.norm(dim=1) / z.norm(dim=1))[:, None], rtol=1e-14, atol=0)
    assert scale.shape == (rows, 1)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(rows=st.integers(1, 4), dim=st.integers(2, 6), seed=st.integers(0, 99))
def test_the_pullback_is_that_of_the_formula(rows, dim, seed):
    x, z, p = draw(rows, dim, seed)
    end = Sphere().retract(x, z)
    xs, zs = x.clone().requires_grad_(), z.clone().requires_grad_()
    y = zs * xs.norm(dim=1, keepdim=True) / zs.norm(dim=1, keepdim=True)
    want = torch.autograd.grad(y, (xs, zs), p)
    for got, grad in zip(Sphere().pullback(x, end, p), want, strict=True):
        torch.testing.assert_close(got, grad, rtol=1e-12, atol=1e-13)


def test_retracted_euler_steps_converge_to_the_flow_of_the_tangent_fields_at_first_order():
    base = PolynomialFields.random(3, 4, 2, seed=0, dtype=F64)
    x = torch.tensor([[1.0, 0.0, 0.0], [0.0, -2.0, 1.0]], dtype=F64)
    u = torch.tensor([0.3, -0.2, 0.4, 0.1], dtype=F64)

    def end(fields, steps, sphere):
        if sphere:
            control = PiecewiseConstantControl(1, 4, values=u[None])
            problem = InitialValueProblem.controlled(fields, control, x, manifold="sphere")
            return solve(problem, RungeKutta("euler", steps=steps)).value.detach()
        y, h = x, 1 / steps
        for _ in range(steps):
            k1 = fields.velocity(y, u)
            k2 = fields.velocity(y + h / 2 * k1, u)
            k3 = fields.velocity(y + h / 2 * k2, u)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + fields.velocity(y + h * k3, u))
        return y

    truth = end(SphericalFields(base), 400, sphere=False)
    steps = [50, 100, 200]
    errors = [float((end(base, n, sphere=True) - truth).norm()) for n in steps]
    assert abs(np.polyfit(np.log(steps), np.log(errors), 1)[0] + 1) < 0.1
    assert errors[-1] < 0.05


def test_the_sphere_goes_by_its_name():
    assert isinstance(manifold("sphere"), Sphere)
    assert manifold(None) is None
    with pytest.raises(ValueError, match="Unknown manifold 'torus'; known are sphere, or None for all of"):
        manifold("torus")


def test_a_step_whose_norm_overflows_keeps_the_norm_or_is_not_finite():
    x, z = torch.ones(1, 2), torch.full((1, 2), 1e25)
    y = Sphere().retract(x, z).state
    assert not bool(y.isfinite().all()) or torch.allclose(y, x)
