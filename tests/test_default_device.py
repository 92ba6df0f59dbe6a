"""Another default device than the CPU is for what users make there: data on the CPU are computed on the CPU."""

import numpy as np
import pytest
import torch

import cde_nets as cn
from cde_nets.compat import torchdiffeq
from cde_nets.nn.image import ImageNetworkConfig

# A device that every build of torch has, and whose tensors hold nothing: whatever strays onto it is missed.
ELSEWHERE = torch.device("meta")
FAMILIES = {
    "polynomial": lambda: cn.PolynomialFields.random(3, 4, 2, seed=0, dtype=torch.float64),
    "ridge": lambda: cn.RidgeFields.random(3, 4, 2, seed=0, dtype=torch.float64),
    "wide": lambda: cn.RidgeFields.random(160, 8, 2, seed=0, dtype=torch.float64),
    "linear": lambda: cn.LinearFields.random(3, 4, seed=0, dtype=torch.float64),
}
RESTS = {
    "picard": (cn.Picard(), cn.Neumann(30)),
    "anderson": (cn.Anderson(), cn.GMRES()),
    "broyden": (cn.Broyden(), cn.BiCGStab()),
    "newton": (cn.Newton(), cn.Dense()),
    "krylov": (cn.NewtonKrylov(), cn.CG()),
    "flow": (cn.FlowToRest(), cn.RBP()),
}


def points(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5


def apart(call):
    """What a call returns, and what it returns with another default device."""
    expected = call()
    with ELSEWHERE:
        return call(), expected


@pytest.mark.parametrize("method", ["euler", "rk4", "dopri5", "fixed dopri5"])
@pytest.mark.parametrize("family", FAMILIES)
def test_flows_and_their_gradients(family, method):
    fields = FAMILIES[family]()
    control = cn.PiecewiseConstantControl.random(4, fields.count, scale=0.3, seed=1, dtype=torch.float64)
    steps = 8 if method != "dopri5" else None
    flow = cn.ControlledODE(fields, control, cn.RungeKutta(method.removeprefix("fixed "), steps=steps))
    x = points(5, fields.dim).requires_grad_()

    def call():
        end = flow(x)
        return end.detach(), *torch.autograd.grad(end.square().sum(), [x, *flow.parameters()])

    for found, expected in zip(*apart(call), strict=True):
        assert torch.equal(found, expected)


def test_trajectories_and_images():
    fields = FAMILIES["polynomial"]()
    control = cn.PiecewiseConstantControl.random(4, 4, scale=0.3, seed=1, dtype=torch.float64)
    flow = cn.ControlledODE(fields, control, cn.RungeKutta("rk4", steps=4))
    network = ImageNetworkConfig(size=8, channels=10, intervals=(1,), count=4).build()
    x, images = points(3, 3), points(2, 8, 8).float() + 0.5
    found, expected = apart(lambda: flow.trajectory(x))
    assert torch.equal(found, expected)

    def gradient():
        return torch.cat([g.flatten() for g in torch.autograd.grad(network(images).sum(), network.parameters())])

    assert torch.equal(*apart(gradient))


@pytest.mark.parametrize("name", RESTS)
def test_rest_points_and_their_gradients(name):
    layer = cn.EquilibriumLayer(lambda x, z: torch.tanh(0.4 * z.flip(1) + x), *RESTS[name])
    x = points(3, 4).requires_grad_()
    assert torch.equal(*apart(lambda: torch.autograd.grad(layer(x).square().sum(), x)[0]))


def test_the_door_of_torchdiffeq():
    times = torch.linspace(0, 1, 3, dtype=torch.float64)
    y, tolerance = (points(2), points(2)), {"rtol": [1e-7, 1e-6], "atol": 1e-8}

    def call():
        found = torchdiffeq.odeint(lambda t, y: (y[1], -y[0]), y, times, **tolerance)
        return torch.cat(found)

    assert torch.equal(*apart(call))


def test_steering(looks):
    fields = cn.PolynomialFields.random(2, 5, 2, seed=0, dtype=torch.float64)
    x, y = points(3, 2), points(6, 2)[3:]
    found, expected = apart(lambda: cn.interpolate(fields, x, y, lam=10.0, time_limit=60.0, certify=False).control)
    assert torch.equal(found.values, expected.values)


def test_estimators():
    X = np.random.default_rng(0).standard_normal((30, 3))

    def call():
        model = cn.ControlledODERegressor(max_iter=3, random_state=0).fit(X, X[:, 0])
        return torch.from_numpy(model.predict(X))

    assert torch.equal(*apart(call))


def test_what_is_made_without_a_device_is_where_torch_makes_it():
    # Where tensors hold nothing no fields can be.
    with ELSEWHERE, pytest.raises(ValueError, match="on the device meta"):
        cn.PolynomialFields.random(3, 4, 2, seed=0)
    coefficients = torch.zeros(1, 2, 3)
    with ELSEWHERE:
        beside = cn.PolynomialFields(coefficients, degree=1)
    assert {tensor.device.type for tensor in beside.buffers()} == {"cpu"}
