"""Residual networks as flows and flows as residual networks: equal to rounding, gradients included."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import nn

import cde_nets as cn
from cde_nets.nn import ResidualBlock, from_residual, to_residual
from cde_nets.solver import RungeKutta

F64 = torch.float64


class Block(nn.Module):
    """A block as other packages write it: the whole map."""

    def __init__(self, dim, scale=0.5):
        super().__init__()
        self.inner, self.outer, self.scale = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim), scale

    def forward(self, x):
        return x + self.scale * self.outer(torch.tanh(self.inner(x)))


class Image(nn.Module):
    """A convolutional block with batch normalisation."""

    def __init__(self, channels):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)

    def forward(self, x):
        return x + torch.relu(self.norm(self.conv(x)))


def branches(dim=3, count=4):
    torch.manual_seed(0)
    return [nn.Sequential(nn.Linear(dim, 5), nn.Tanh(), nn.Linear(5, dim)).double() for _ in range(count)]


def networks():
    torch.manual_seed(1)
    whole = nn.Sequential(*[Block(3) for _ in range(4)]).double()
    opened = nn.Sequential(*[ResidualBlock(f, 0.3) for f in branches()])
    return {"whole": whole, "opened": opened}


def points(*shape):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(2))


def gradients(network, x):
    x = x.clone().requires_grad_()
    value = network(x)
    return value, torch.autograd.grad(value.square().sum(), [x, *network.parameters()])


@pytest.mark.parametrize("kind", ["whole", "opened"])
def test_a_networks_flow_is_the_network_by_eulers_method_and_so_are_its_gradients(kind):
    network, x = networks()[kind], points(7, 3)
    flow = from_residual(network)
    assert list(flow.parameters()) == list(network.parameters())
    (value, found), (wanted, autograd) = gradients(flow, x), gradients(network, x)
    # Of blocks that lay their branch open to the last bit.
    torch.testing.assert_close(value, wanted, rtol=0, atol=0 if kind == "opened" else 1e-14)
    for one, other in zip(found, autograd, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)
    path = [x]
    for block in network:
        path.append(block(path[-1]))
    torch.testing.assert_close(flow.trajectory(x), torch.stack(path).detach(), rtol=0, atol=1e-14)


def test_images_go_through_as_they_are_and_normalisation_keeps_its_statistics():
    torch.manual_seed(3)
    network = nn.Sequential(Image(2), Image(2)).double()
    network(points(6, 2, 5, 5))
    network.eval()
    x, before = points(3, 2, 5, 5), copy.deepcopy(network.state_dict())
    flow = from_residual(network)
    torch.testing.assert_close(flow(x), network(x), rtol=0, atol=1e-13)
    network.train()
    with pytest.raises(ValueError, match="buffers"):
        from_residual(network)(x)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_with_more_steps_it_is_the_ode_of_the_blocks():
    network, x = networks()["opened"], points(2, 3)
    flow = from_residual(network, RungeKutta("rk4", steps=20))
    for row, found in zip(x, flow(x), strict=True):
        state = row.numpy()
        for block in network:

            def velocity(_, z, block=block):
                with torch.no_grad():
                    return block.step * block.branch(torch.from_numpy(z)[None])[0].numpy()

            state = solve_ivp(velocity, (0, 1), state, "DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
        np.testing.assert_allclose(found.detach(), state, rtol=0, atol=1e-7)
    adaptive = from_residual(network, "dopri5", tolerance=cn.Tolerance(1e-9, 1e-10))
    torch.testing.assert_close(adaptive(x), flow(x), rtol=0, atol=1e-7)
    torch.testing.assert_close(from_residual(network, "rk4")(x), flow(x), rtol=0, atol=1e-3)


def flows():
    fields = cn.PolynomialFields.random(3, 4, 2, seed=0, dtype=F64)
    values = 0.3 * torch.randn(5, 4, dtype=F64, generator=torch.Generator().manual_seed(4))
    fresh = [cn.RidgeFields.random(3, 4, 3, seed=s, dtype=F64) for s in range(5)]
    euler = RungeKutta("euler", steps=10)
    torch.manual_seed(5)
    linear = nn.Linear(3, 3).double()

    class Drift(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear

        def forward(self, t, x):
            return 0.1 * torch.cos(t) * self.linear(x)

    def control():
        return cn.PiecewiseConstantControl(5, 4, values=values)

    return {
        "tied": cn.ControlledODE(fields, control(), "euler"),
        "more steps": cn.ControlledODE(fields, control(), euler),
        "fresh": cn.ControlledODE(fresh, control(), "euler"),
        "drift of fields": cn.ControlledODE(
            fields, control(), euler, drift=cn.LinearFields.random(3, 2, seed=6, dtype=F64)
        ),
        "drift that trains": cn.ControlledODE(fields, control(), euler, drift=Drift()),
        "spectral": cn.ControlledODE(fields, cn.SpectralControl(3, 4, coefficients=0.3 * points(3, 4)), euler),
    }


@pytest.mark.parametrize("kind", list(flows()))
def test_a_flows_network_is_the_flow_and_so_are_its_gradients(kind):
    flow, x = flows()[kind], points(6, 3)
    network = to_residual(flow)
    steps = len(flow.times) - 1
    assert len(network) == steps
    assert all(type(block) is ResidualBlock for block in network)
    x = x.requires_grad_()
    one, other = flow(x), network(x)
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)
    mine = torch.autograd.grad(one.square().sum(), [x, *flow.parameters()])
    theirs = torch.autograd.grad(other.square().sum(), [x, *[block.branch.u for block in network]], retain_graph=True)
    torch.testing.assert_close(mine[0], theirs[0], rtol=1e-11, atol=1e-12)
    if kind == "drift that trains":
        shared = torch.autograd.grad(other.square().sum(), list(flow.drift.parameters()))
        for a, b in zip(mine[2:], shared, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)
    # The numbers of an interval are those of all its steps.
    if kind != "spectral":
        summed = torch.stack(theirs[1:]).reshape(5, steps // 5, 4).sum(1)
        torch.testing.assert_close(mine[1], summed, rtol=1e-11, atol=1e-12)


def test_the_networks_numbers_are_its_own():
    flow, x = flows()["tied"], points(2, 3)
    network, before = to_residual(flow), flow(x).detach()
    with torch.no_grad():
        network[0].branch.u += 1
    torch.testing.assert_close(flow(x), before, rtol=0, atol=0)
    assert [p.shape for p in network.parameters()] == [(4,)] * 5


def test_there_and_back():
    network, x = networks()["whole"], points(4, 3)
    assert list(to_residual(from_residual(network))) == list(network)
    for kind, made in networks().items():
        flow = from_residual(made, RungeKutta("euler", steps=3))
        again = to_residual(flow)
        assert len(again) == 12
        torch.testing.assert_close(again(x), flow(x), rtol=0, atol=1e-13, msg=kind)
    flow = flows()["more steps"]
    torch.testing.assert_close(from_residual(to_residual(flow))(x), flow(x), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "got no blocks"),
        ([nn.Identity(), torch.tanh], r"Block 1 is a .*; expected an nn.Module"),
    ],
)
def test_what_are_no_blocks_is_refused(bad_input, blocks, message):
    with pytest.raises(ValueError, match=message):
        from_residual(blocks)


def test_methods_that_are_not_for_flows_are_refused(bad_input):
    for method in (cn.Picard(), None):
        with pytest.raises(ValueError, match='one for flows, such as "euler"'):
            from_residual([nn.Identity()], method)
    with pytest.raises(ValueError, match="eular"):
        from_residual([nn.Identity()], "eular")


class Counting(nn.Module):
    """Counts its calls."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x + 1


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (nn.Linear(3, 2), r"Block 1, a Linear, takes a state of shape \(2, 3\), .* to \(2, 2\)"),
        (nn.Sequential(nn.Linear(3, 3), nn.Unflatten(1, (3, 1))), r"to \(2, 3, 1\)"),
    ],
)
def test_a_block_that_leaves_the_space_is_named_before_any_solve(last, message):
    first = Counting()
    flow = from_residual([first, last])
    with pytest.raises(ValueError, match=message):
        flow(torch.zeros(2, 3))
    # Looked at, and not solved.
    assert first.calls == 1
    calls, kept = [], from_residual([first, nn.Identity()])
    for rows in (2, 5, 5):
        kept(torch.zeros(rows, 3))
        calls.append(first.calls)
    # Another number of rows is no other space.
    assert calls[0] - 1 == 1 + calls[1] - calls[0] == 1 + calls[2] - calls[1]


def test_flows_that_are_no_residual_networks_are_refused(bad_input):
    fields = cn.PolynomialFields.random(3, 2, 2, seed=0)
    control = cn.PiecewiseConstantControl.random(4, 2, scale=0.1, seed=0)
    for method in ("rk4", RungeKutta("heun", steps=4), "dopri5"):
        with pytest.raises(ValueError, match=r'a residual block is a step of Euler.*RungeKutta\("euler"'):
            to_residual(cn.ControlledODE(fields, control, method))
    with pytest.raises(ValueError, match="solved by rk4"):
        to_residual(from_residual([nn.Identity()], "rk4"))
    with pytest.raises(ValueError, match="put back on the sphere"):
        to_residual(cn.ControlledODE(fields, control, "euler", manifold="sphere"))
    with pytest.raises(ValueError, match="takes a ControlledODE or what from_residual makes; got a Linear"):
        to_residual(nn.Linear(2, 2))


def test_a_control_for_each_row_is_refused():
    fields = cn.PolynomialFields.random(3, 2, 2, seed=0)
    times = torch.linspace(0, 1, 5)
    data = cn.DataControl(times, torch.randn(4, 5, 2, generator=torch.Generator().manual_seed(0)))
    assert data.rows == 4
    with pytest.raises(ValueError, match="one path for each of 4 rows"):
        to_residual(cn.ControlledODE(fields, data, RungeKutta("euler", steps=8)))


def test_euler_converges_to_the_ode_of_a_flow_with_order_one():
    fields = cn.RidgeFields.random(2, 3, 3, seed=1, dtype=F64)
    control = cn.SpectralControl(2, 3, coefficients=0.4 * points(2, 3))
    x = 0.5 * points(3, 2)
    exact = cn.ControlledODE(fields, control, RungeKutta("rk4", steps=200))(x)
    flows = [cn.ControlledODE(fields, control, RungeKutta("euler", steps=n)) for n in (64, 128, 256)]
    errors = [float((to_residual(flow)(x) - exact).detach().abs().max()) for flow in flows]
    assert all(coarse / fine == pytest.approx(2, abs=0.1) for coarse, fine in pairwise(errors))
