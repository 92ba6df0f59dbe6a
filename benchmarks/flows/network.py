"""The MNIST network's own step: loss and gradient of all trained numbers on a batch, beside the same network by hand.

The peers are given our frozen numbers and write lift, steps, pooling and readout out as their users would: they sum the
kernels of a step to one, sum_i u_i K_i, and convolve once. No library of theirs puts a step's end back on a sphere, so
that torchdiffeq is asked for one Euler step after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.flows.sides import Side
from cde_nets.fields import ConvFields
from cde_nets.nn import ChannelMeanReadout, ImageNetworkConfig, Network, image_network

BATCH = 200
NAME = f"network-mnist-{BATCH}"


@dataclass(frozen=True)
class Task:
    """The network and a batch.

    Attributes:
        network: as `cde-nets train mnist` draws it.
        images: shape (batch, 28, 28), from 0 to 1.
        labels: shape (batch,).
    """

    network: Network
    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Step:
    """One Euler step of the network as arrays.

    Attributes:
        shape: channels, height and width of its state.
        kernels: shape (count, channels, k, k).
        outputs: the channel that each writes to, shape (count,).
        width: of the step.
        pools: whether the state is pooled and normalised after it.
    """

    shape: tuple[int, int, int]
    kernels: Tensor
    outputs: Tensor
    width: float
    pools: bool


def draw(batch: int = BATCH, config: ImageNetworkConfig | None = None) -> Task:
    """The network of `make mnist` and random images."""
    generator = torch.Generator().manual_seed(0)
    config = ImageNetworkConfig() if config is None else config
    images = torch.rand(batch, config.size, config.size, generator=generator)
    network = image_network(config)
    network.set_throw(False)
    return Task(network, images, torch.randint(config.classes, (batch,), generator=generator))


def steps(network: Network) -> list[Step]:
    """Its steps, in order."""
    found = []
    for stage in network.flow_stages():
        families = list(stage.flow.families)
        for n, fields in enumerate(families):
            last = n == len(families) - 1 and not isinstance(stage.after, nn.Identity)
            assert isinstance(fields, ConvFields)
            assert fields.outputs is not None
            found.append(Step(fields.shape, fields.kernels, fields.outputs, 1 / len(families), last))
    return found


def flops(task: Task, *, gradient: bool) -> int:
    """Operations of the convolutions, as `benchmarks.flows.flops` counts; the frozen lift has no gradient."""
    batch, kernels = len(task.images), task.network.lift.get_buffer("kernels")
    channels, side = kernels.shape[0], math.ceil(task.images.shape[1] / 2)
    lift = 2 * batch * side**2 * kernels.numel()
    total = 0
    for step in steps(task.network):
        channels, height, width = step.shape
        total += 2 * batch * height * width * channels**2 * step.kernels.shape[-1] ** 2
    return lift + (3 if gradient else 1) * total


def ours(task: Task) -> Side:
    """The network as the training loop calls it, on images that were normalized once."""
    network = task.network
    parameters = [flow.control.get_parameter("values") for flow in network.flows()]
    scale = network.readout.get_parameter("scale")
    return _torch_side("ours", "-", lambda: network.of_prepared(task.images), [*parameters, scale], task)


def by_hand(task: Task) -> list[Side]:
    """A loop in torch, differentiated by autograd."""
    return [_by_hand(task, "torch", "one kernel a step", lambda x, h, velocity: x + h * velocity(x))]


def torchdiffeq(task: Task) -> list[Side]:
    """`odeint` for each step."""
    odeint = import_module("torchdiffeq").odeint

    def step(x: Tensor, h: float, velocity: Callable[[Tensor], Tensor]) -> Tensor:
        end: Tensor = odeint(lambda t, y: velocity(y), x, torch.tensor([0.0, h]), method="euler")[-1]
        return end

    return [_by_hand(task, "torchdiffeq", "one kernel a step", step)]


def scan(task: Task) -> list[Side]:
    """Jitted JAX; the steps differ in shape, and are written one after the other."""
    jax: Any = import_module("jax")
    jnp = jax.numpy
    plan, start, classes = steps(task.network), task.network.lift.get_buffer("kernels"), _classes(task)
    layout = ("NHWC", "OIHW", "NHWC")
    images, labels = jnp.asarray(task.images.numpy()), jnp.asarray(task.labels.numpy())
    frozen = [jnp.asarray(step.kernels.numpy()) for step in plan]
    lift, outputs = jnp.asarray(start.numpy()), [step.outputs.numpy() for step in plan]

    def norm(x: Any) -> Any:
        return jnp.sqrt((x * x).sum((1, 2, 3), keepdims=True))

    def normalised(x: Any) -> Any:
        return x / norm(x) * math.sqrt(math.prod(x.shape[1:]))

    def run(u: Any, images: Any, lift: Any, frozen: Any) -> Any:
        centred = images - images.mean((1, 2), keepdims=True)
        x = (centred / jnp.sqrt((centred * centred).mean((1, 2), keepdims=True)))[..., None]
        pad = lift.shape[-1] // 2
        x = jax.lax.conv_general_dilated(x, lift, (2, 2), ((pad, pad), (pad, pad)), dimension_numbers=layout)
        x, place = normalised(x), 0
        for step, kernels, output in zip(plan, frozen, outputs, strict=True):
            v = u[place : place + len(kernels)]
            place += len(kernels)
            kernel = jnp.zeros((step.shape[0], *kernels.shape[1:])).at[output].add(v[:, None, None, None] * kernels)
            moved = jax.lax.conv_general_dilated(x + 0.5 * x * x, kernel, (1, 1), "SAME", dimension_numbers=layout)
            z = x + step.width * moved
            x = z * (norm(x) / norm(z))
            if step.pools:
                h, w = (size // 2 for size in step.shape[1:])
                x = normalised(x[:, : 2 * h, : 2 * w].reshape(len(x), h, 2, w, 2, -1).mean((2, 4)))
        return u[-1] * x.mean((1, 2))[:, :classes]

    def loss(u: Any, *constants: Any) -> Any:
        logits = run(u, *constants)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()

    forward, both = jax.jit(run), jax.jit(jax.value_and_grad(loss))
    u = jnp.asarray(_numbers(task).detach().numpy())
    constants = images, lift, frozen
    return [
        Side(
            "JAX", "one kernel a step", True,
            lambda: forward(u, *constants).block_until_ready(),
            lambda: jax.block_until_ready(both(u, *constants))[1],
            jitted=True,
        )
    ]  # fmt: skip


PEERS: dict[str, Callable[[Task], list[Side]]] = {"torch": by_hand, "torchdiffeq": torchdiffeq, "scan": scan}


def _classes(task: Task) -> int:
    readout = task.network.readout
    assert isinstance(readout, ChannelMeanReadout)
    return readout.classes


def _numbers(task: Task) -> Tensor:
    """All trained numbers: the controls, step after step, and the readout's scale."""
    controls = [flow.control.get_parameter("values").flatten() for flow in task.network.flows()]
    return torch.cat([*controls, task.network.readout.get_parameter("scale")[None]])


def _by_hand(task: Task, name: str, way: str, step: Callable[[Tensor, float, Any], Tensor]) -> Side:
    plan, lift = steps(task.network), task.network.lift.get_buffer("kernels")
    u, classes = nn.Parameter(_numbers(task).detach().clone()), _classes(task)

    def normalised(x: Tensor) -> Tensor:
        return functional.normalize(x.flatten(1), dim=1).view_as(x) * math.sqrt(x[0].numel())

    def run() -> Tensor:
        centred = task.images - task.images.mean((1, 2), keepdim=True)
        images = (centred / centred.square().mean((1, 2), keepdim=True).sqrt())[:, None]
        x = normalised(functional.conv2d(images, lift, stride=2, padding=lift.shape[-1] // 2))
        for one, v in zip(plan, u[:-1].split([len(one.kernels) for one in plan]), strict=True):
            blank = one.kernels.new_zeros(one.shape[0], *one.kernels.shape[1:])
            kernel = blank.index_add(0, one.outputs, v[:, None, None, None] * one.kernels)
            z = step(x, one.width, lambda y, kernel=kernel: functional.conv2d(y + 0.5 * y * y, kernel, padding="same"))
            x = z * (x.flatten(1).norm(dim=1) / z.flatten(1).norm(dim=1)).view(-1, 1, 1, 1)
            if one.pools:
                x = normalised(functional.avg_pool2d(x, 2))
        return u[-1] * x.mean((2, 3))[:, :classes]

    return _torch_side(name, way, run, [u], task)


def _torch_side(name: str, way: str, run: Callable[[], Tensor], leaves: list[Tensor], task: Task) -> Side:
    def forward() -> Tensor:
        with torch.no_grad():
            return run()

    def both() -> Tensor:
        for leaf in leaves:
            leaf.grad = None
        functional.cross_entropy(run(), task.labels).backward()
        return torch.cat([leaf.grad.flatten() for leaf in leaves if leaf.grad is not None])

    return Side(name, way, True, forward, both)
