"""Under torch.autocast flows are what they are without it: bit by bit, there and back."""

import contextlib

import pytest
import torch
from torch import nn

import cde_nets as cn
from cde_nets.kernels import plain_steps

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


class Drift(nn.Module):
    """A network that gives back what it was given: under autocast its own products would be rounded to eight bits."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(4, 4, generator=generator))

    def forward(self, t, x):
        return torch.tanh(x @ self.weight).to(x.dtype)


def control(count):
    return cn.PiecewiseConstantControl.random(8, count, scale=0.3, seed=1)


def spectral(count):
    made = cn.SpectralControl(3, count)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(2))
    return made


FLOWS = {
    "polynomial": lambda: cn.ControlledODE(cn.PolynomialFields.random(4, 5, 2, seed=0), control(5), "rk4"),
    "ridge": lambda: cn.ControlledODE(cn.RidgeFields.random(4, 5, 2, seed=0), control(5), "rk4"),
    "linear": lambda: cn.ControlledODE(cn.LinearFields.random(4, 5, seed=0), control(5), "euler"),
    "spectral": lambda: cn.ControlledODE(
        cn.PolynomialFields.random(4, 5, 2, seed=0), spectral(5), cn.RungeKutta("rk4", steps=8)
    ),
    "adaptive": lambda: cn.ControlledODE(
        cn.PolynomialFields.random(4, 5, 2, seed=0), control(5), cn.RungeKutta("dopri5")
    ),
    "checkpointed": lambda: cn.ControlledODE(
        cn.PolynomialFields.random(4, 5, 2, seed=0), control(5), "rk4", gradient=cn.Checkpointed()
    ),
    "backsolve": lambda: cn.ControlledODE(
        cn.LinearFields.random(4, 5, seed=0), control(5), cn.RungeKutta("dopri5"), gradient=cn.Backsolve()
    ),
    "reversible": lambda: cn.ControlledODE(
        cn.LinearFields.random(4, 5, seed=0), control(5), cn.Reversible(cn.RungeKutta("rk4", steps=8))
    ),
    "drift": lambda: cn.ControlledODE(cn.LinearFields.random(4, 5, seed=0), control(5), "rk4", drift=Drift()),
}


def found(flow, x, weights, *, on, inside=False):
    """The end, and the gradients in what trains."""
    with torch.autocast("cpu", torch.bfloat16, enabled=on):
        end = flow(x)
        loss = (end * weights).sum()
        if inside:
            return end, torch.autograd.grad(loss, list(flow.control.parameters()))
    return end, torch.autograd.grad(loss, list(flow.control.parameters()))


@pytest.mark.parametrize("inside", [False, True], ids=["way back outside", "way back within"])
@pytest.mark.parametrize("steps", [contextlib.nullcontext, plain_steps], ids=["kernels", "plain"])
@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_is_the_same(name, steps, inside):
    flow = FLOWS[name]()
    weights = torch.linspace(-1, 1, X.numel()).view_as(X)
    with steps():
        end, gradients = found(flow, X, weights, on=False)
        again, others = found(flow, X, weights, on=True, inside=inside)
    assert again.dtype == torch.float32
    assert torch.equal(end, again)
    rounded = name == "spectral" and inside
    near = {"rtol": 0.02, "atol": 0.02} if rounded else {"rtol": 0, "atol": 0}
    for one, other in zip(gradients, others, strict=True):
        # From a spectral control's coefficients to its values it is torch that goes back, as it does anywhere.
        torch.testing.assert_close(one, other, **near)


@pytest.mark.parametrize("inside", [False, True], ids=["way back outside", "way back within"])
@pytest.mark.parametrize("backward", [cn.GMRES(), cn.Dense(), cn.Neumann(5)], ids=["GMRES", "Dense", "Neumann"])
def test_an_equilibrium_is_the_same(backward, inside):
    layer = cn.ImplicitRNN(4, 3, norm=0.5, seed=0, backward=backward)
    (x, weights), found = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(3)), []
    for on in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            rest = layer(x)
            loss = (rest * weights[:, :3]).sum()
            gradients = torch.autograd.grad(loss, list(layer.parameters())) if inside else None
        found.append((rest, gradients or torch.autograd.grad(loss, list(layer.parameters()))))
    assert torch.equal(found[0][0], found[1][0])
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert torch.equal(one, other)


def test_states_that_autocast_has_rounded_are_taken_in_single_precision():
    flow = FLOWS["polynomial"]()
    with torch.autocast("cpu", torch.bfloat16):
        end, (first, logarithm) = flow(X.bfloat16()), flow.log_determinant(X.bfloat16())
        path = flow.trajectory(X.bfloat16())
    rounded = X.bfloat16().float()
    assert torch.equal(end, flow(rounded))
    wanted, other = flow.log_determinant(rounded)
    assert torch.equal(first, wanted)
    assert torch.equal(logarithm, other)
    assert torch.equal(path[-1], flow.trajectory(rounded)[-1])
    # Without autocast nobody has asked for a cast.
    with pytest.raises(ValueError, match="bfloat16"):
        flow(X.bfloat16())


def test_an_image_network_rounds_its_own_layers_and_not_its_flows():
    network = cn.ImageNetworkConfig(size=8, intervals=(2,), count=20).build()
    nn.init.normal_(network.stages[0].flow.control.values, std=0.3, generator=torch.Generator().manual_seed(0))
    images = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = network(images)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(images)
    assert float((rounded - logits).norm() / logits.norm()) < 0.05
