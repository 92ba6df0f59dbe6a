"""Results held to numbers that were computed otherwise, once, to more digits: see make.py."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional

import cde_nets as cn

HERE = Path(__file__).parent


def room(name):
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cases, own = room("cases"), room("own")
STORED = cases.stored()
F64, F32 = torch.float64, torch.float32
# Relative to the largest number of a tensor: dozens of roundings, which the universal fields enlarge, and float32's
# coefficients are rounded as well.
TOLERANCE = {F64: 1e-13, F32: 1e-4}
DTYPES = [pytest.param(F64, id="float64"), pytest.param(F32, id="float32")]
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is at hand")),
]
# All are the same gradient: in float32, which says less, one of them is enough.
GRADIENTS = {F64: (cn.Discrete(), cn.Checkpointed(1), cn.Autograd()), F32: (cn.Discrete(),)}
# The tolerance of a step.
ADAPTIVE = {"bosh3": 1e-6, "dopri5": 1e-9, "tsit5": 1e-9}


pytestmark = pytest.mark.usefixtures("quick")


def close(found, stored, bound=None):
    want = torch.tensor(stored, dtype=F64)
    bound = TOLERANCE[found.dtype] if bound is None else bound
    found = found.detach().cpu().double()
    assert found.shape == want.shape
    assert float((found - want).abs().max()) <= bound * float(want.abs().max())


def start(name, dtype, device="cpu"):
    family = cases.FAMILIES[name](dtype).to(device)
    x, u, w = (value.to(device, dtype) for value in cases.inputs(family))
    return family, x.requires_grad_(), cn.PiecewiseConstantControl(*u.shape, values=u), w


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", cases.FAMILIES)
def test_fields(name, dtype, device):
    family, x, _, _ = start(name, dtype, device)
    close(family.evaluate(x), STORED["flows"][name]["evaluate"])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", cases.FAMILIES)
def test_flows_and_gradients_by_every_method(name, dtype, device):
    family, x, control, w = start(name, dtype, device)
    problem = cn.InitialValueProblem.controlled(family, control, x)
    for method, stored in STORED["flows"][name]["methods"].items():
        for gradient in GRADIENTS[dtype]:
            value = cn.solve(problem, cn.RungeKutta(method, steps=cases.INTERVALS), gradient=gradient).value
            close(value, stored["value"])
            state, values = torch.autograd.grad((w * value).sum(), (x, *control.parameters()))
            close(state, stored["state"])
            close(values, stored["control"])


@pytest.mark.parametrize("method", ADAPTIVE)
@pytest.mark.parametrize("name", cases.FAMILIES)
def test_steps_that_adapt_arrive_at_the_solution_itself(name, method):
    family, x, control, _ = start(name, F64)
    problem = cn.InitialValueProblem.controlled(family, control, x)
    # Of every step; all of them together are off by more, and grow with the flow.
    tolerance = cn.Tolerance(ADAPTIVE[method], ADAPTIVE[method] / 10)
    found = cn.solve(problem, cn.RungeKutta(method), gradient=None, tolerance=tolerance)
    close(found.value, STORED["flows"][name]["solution"], 100 * ADAPTIVE[method])


def test_every_method_is_held():
    for name in cases.FAMILIES:
        assert tuple(STORED["flows"][name]["methods"]) == cases.METHODS


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "bound"), [(F64, 1e-12), (F32, 1e-4)])
def test_a_step_of_an_image_network(dtype, bound, device):
    net, stored = cases.network(dtype).to(device), STORED["network"]
    logits = net(cases.images().to(device, dtype))
    loss = functional.cross_entropy(logits, torch.tensor(cases.LABELS, device=device))
    loss.backward()
    close(logits, stored["logits"], bound)
    close(loss, stored["loss"], bound)
    # Of the reference, 11 or 12 digits are left: it is a difference of numbers of 19.
    for value, want in zip(
        [*(f.control.values for f in net.flows()), net.readout.scale], stored["gradients"], strict=True
    ):
        close(value.grad, want, max(bound, 1e-10))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "backward", [cn.Dense(), cn.GMRES(), cn.RBP(), cn.Neumann(), cn.CG(), cn.BiCGStab(), cn.Unrolled()]
)
def test_an_equilibrium_layer(backward, dtype):
    layer, stored = cases.layer(backward, dtype), STORED["equilibrium"]
    inputs, hidden, _ = cases.REST
    x, w = (cases.numbers(2, size, seed=seed).to(dtype) for size, seed in ((inputs, 7), (hidden, 8)))
    value = layer(x.requires_grad_())
    bound = 1e-12 if dtype is F64 else 2e-5
    close(value, stored["value"], bound)
    f = layer.f
    found = torch.autograd.grad((w * value).sum(), (f.weight_hh, f.weight_ih, f.bias, x))
    close(torch.cat([g.flatten() for g in found]), stored["gradient"], 10 * bound)


def test_digests_certificates_and_a_steering(looks):
    found, stored = own.results(), STORED["own"]
    steering, before = found.pop("steering"), dict(stored)
    was = before.pop("steering")
    assert found == before
    # Both are roundings of 0; the energy is where a search ended, among many controls that carry the points there.
    assert max(steering.pop("residual"), was.pop("residual")) <= 1e-10
    assert math.isclose(steering.pop("energy"), was.pop("energy"), rel_tol=1e-4)
    assert steering == was
