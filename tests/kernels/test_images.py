"""Flows of fields on images in the C++ kernel, on spheres and off them, beside the plain steps and autograd."""

import copy
import math

import pytest
import torch
from torch.nn import functional

import cde_nets as cn
from cde_nets.fields import ConvFields
from cde_nets.kernels import images, native, plain_steps
from cde_nets.nn import ImageNetworkConfig, image_network

pytestmark = pytest.mark.skipif(native().library is None, reason=f"The CPU kernels are {native().description}")
F64 = torch.float64
KERNELS = ["row", "stencil", "dense"]


def make(kernel="row", *, fresh=True, rows=37, dtype=F64, channels=5, size=3, degree=2, **options):
    drawn = {"kernel": kernel, "kernel_size": size, "degree": degree, "form": "shared", "dtype": dtype}
    families = [ConvFields.random(channels, 4, 6, 7, seed=seed, **drawn) for seed in range(3 if fresh else 1)]
    options = {"method": "euler", "manifold": "sphere", **options}
    for family in families:
        # The drawn ones have none.
        family.offsets.copy_(torch.linspace(-1, 1, family.offsets.numel(), dtype=dtype).view_as(family.offsets))
    control = cn.PiecewiseConstantControl.random(3, 7, scale=0.5, seed=1, dtype=dtype)
    flow = cn.ControlledODE(families if fresh else families[0], control, **options)
    x = torch.randn(rows, flow.dim, generator=torch.Generator().manual_seed(2), dtype=F64)
    return flow, x.to(dtype).requires_grad_()


def weights(x):
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=F64).to(x.dtype)


def gradients(flow, x):
    end = flow(x)
    return [end.detach(), *torch.autograd.grad((end * weights(x)).sum(), [x, flow.control.values])]


def covered(flow, x):
    prepared = flow._ready(x.detach())
    return prepared is not None and isinstance(prepared.whole.fields, images.Images)


@pytest.mark.parametrize("manifold", ["sphere", None])
@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_is_the_plain_steps(kernel, fresh, manifold):
    flow, x = make(kernel, fresh=fresh, manifold=manifold)
    assert covered(flow, x)
    found = gradients(flow, x)
    with plain_steps():
        expected = gradients(flow, x)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("method", ["heun", "rk4", "tsit5"])
@pytest.mark.parametrize(("channels", "size", "degree"), [(1, 3, 2), (2, 1, 1), (3, 5, 3), (6, 3, 4)])
def test_every_shape_and_tableau(method, channels, size, degree):
    steps = cn.RungeKutta(method, steps=6)
    flow, x = make(method=steps, manifold=None, channels=channels, size=size, degree=degree, rows=5)
    assert covered(flow, x)
    with torch.no_grad():
        x *= 0.3
    found = gradients(flow, x)
    with plain_steps():
        expected = gradients(flow, x)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("rows", [1, 16, 33, 70])
@pytest.mark.parametrize("threads", [1, 3])
def test_rows_that_do_not_fill_a_tile_against_autograd_through_conv2d(rows, threads):
    """The step and its retraction written out."""
    flow, x = make(rows=rows)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found, again = gradients(flow, x), gradients(flow, x)
    finally:
        torch.set_num_threads(before)
    values = flow.control.values.detach().clone().requires_grad_()
    y = x.detach().clone().requires_grad_()
    state = y
    for family, u in zip(flow.families, values, strict=True):
        picture = family.unflatten(state + state**2 / 2)
        moved = torch.zeros_like(picture)
        for i in range(7):
            shown = functional.conv2d(picture, family.kernels[i : i + 1], family.offsets[i : i + 1], padding=1)
            moved = moved + u[i] * functional.pad(
                shown, (0, 0, 0, 0, int(family.outputs[i]), 4 - int(family.outputs[i]))
            )
        z = state + family.flatten(moved) / 3
        state = z * state.norm(dim=1, keepdim=True) / z.norm(dim=1, keepdim=True)
    expected = [state.detach(), *torch.autograd.grad((state * weights(y)).sum(), [y, values])]
    for one, same, other in zip(found, again, expected, strict=True):
        assert torch.equal(one, same)
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


def test_rows_that_fail_and_the_origin():
    flow, x = make(throw=False)
    with torch.no_grad():
        x[3], x[7, 1], x[20] = 0.0, math.nan, 1e200
    found, lost = gradients(flow, x), flow.failed
    with plain_steps():
        expected = gradients(flow, x)
    assert torch.equal(lost, flow.failed)
    assert lost[7]
    assert lost[20]
    assert not lost[3]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12, equal_nan=True)
    assert torch.equal(found[1][[7, 20]], torch.zeros(2, flow.dim, dtype=F64))


def test_states_stay_on_their_spheres():
    flow, x = make(dtype=torch.float32)
    end = flow(x)
    torch.testing.assert_close(end.norm(dim=1), x.norm(dim=1), rtol=1e-6, atol=0)


def test_second_derivatives_are_those_of_the_plain_steps():
    flow, x = make(rows=4)

    def second():
        first = torch.autograd.grad((flow(x) * weights(x)).sum(), [x, flow.control.values], create_graph=True)
        return torch.autograd.grad(sum(part.square().sum() for part in first), [x, flow.control.values])

    found = second()
    with plain_steps():
        expected = second()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("change", ["first", "second"])
def test_kernels_that_are_loaded_later_count(change):
    flow, x = make(rows=5)
    before = flow(x).detach()
    other, _ = make(rows=5)
    place = ["first", "second"].index(change)
    state = other.families[place].state_dict()
    state["kernels"] = -2 * state["kernels"]
    flow.families[place].load_state_dict(state)
    after = flow(x).detach()
    with plain_steps():
        torch.testing.assert_close(after, flow(x).detach(), rtol=1e-11, atol=1e-12)
    assert not torch.allclose(before, after, rtol=1e-3)


def test_what_is_not_covered_is_left_to_the_plain_steps():
    flow, x = make(gradient=cn.Checkpointed())
    assert not covered(flow, x)
    ridge = ConvFields.random(3, 4, 4, 5, form="ridge", seed=0, dtype=F64)
    control = cn.PiecewiseConstantControl.random(2, 5, scale=0.1, seed=0, dtype=F64)
    states = torch.randn(3, 48, dtype=F64)
    assert not covered(cn.ControlledODE(ridge, control, "euler"), states)
    wide = ConvFields.random(images.MOST_CHANNELS + 1, 2, 2, 5, form="shared", seed=0, dtype=F64)
    assert not covered(cn.ControlledODE(wide, control, "euler"), torch.randn(3, wide.dim, dtype=F64))
    mixed = [ConvFields.random(3, 4, 4, 5, form=form, seed=0, dtype=F64) for form in ("shared", "ridge")]
    assert not covered(cn.ControlledODE(mixed, control, "euler", manifold="sphere"), states)


def test_the_network_of_mnist_learns_the_same_with_and_without():
    """One step of its training, in single precision."""
    network = image_network(ImageNetworkConfig(size=14, count=31))
    pictures = torch.rand(40, 14, 14, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % 10

    def gradient(network, pictures):
        network.zero_grad()
        functional.cross_entropy(network(pictures), labels).backward()
        return torch.cat([p.grad.flatten() for p in network.parameters()]).double()

    found = gradient(network, pictures)
    assert all(flow._prepared[2] is not None for flow in network.flows())
    with plain_steps():
        exact = gradient(copy.deepcopy(network).double(), pictures.double())
    assert float((found - exact).norm()) <= 2e-5 * float(exact.norm())
