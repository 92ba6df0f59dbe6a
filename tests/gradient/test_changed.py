"""What is changed in place between the solve and what is asked of it later."""

import pytest
import torch
from torch import nn

import cde_nets as cn

F64 = torch.float64
X = torch.tensor([[0.5, -0.2], [0.1, 0.3]], dtype=F64)


@pytest.mark.parametrize("method", ["rk4", cn.RungeKutta("dopri5")], ids=["rk4", "dopri5"])
@pytest.mark.parametrize("family", [cn.RidgeFields, cn.LinearFields, cn.PolynomialFields])
def test_a_flow_is_differentiated_with_the_fields_that_it_was_computed_with(family, method):
    fields = family.random(2, 3, **({} if family is cn.LinearFields else {"degree": 2}), seed=0, dtype=F64)
    control = cn.PiecewiseConstantControl.random(4, 3, scale=0.3, seed=1, dtype=F64)
    flow = cn.ControlledODE(fields, control, method)
    (expected,) = torch.autograd.grad(flow(X).sum(), control.values)
    end = flow(X)
    for tensor in fields.buffers():
        if tensor.is_floating_point():
            tensor.mul_(3)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(end.sum(), control.values)
    assert not torch.equal(torch.autograd.grad(flow(X).sum(), control.values)[0], expected)


class Decay(nn.Module):
    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.ones((), dtype=F64))

    def forward(self, t, x):
        return -self.rate * x


@pytest.mark.parametrize("steps", [8, None], ids=["fixed", "adaptive"])
def test_a_solution_as_a_function_of_time_stays_when_training_goes_on(steps):
    decay = Decay()
    problem = cn.InitialValueProblem(decay, X, 0.0, 1.0)
    method = cn.RungeKutta("rk4", steps=steps) if steps else cn.RungeKutta("dopri5")
    solution = cn.solve(problem, method, save_at=cn.SaveAt(dense=True))
    with torch.no_grad():
        decay.rate.fill_(4.0)
    assert torch.allclose(solution.dense(0.3), torch.exp(torch.tensor(-0.3, dtype=F64)) * X, atol=1e-4)
