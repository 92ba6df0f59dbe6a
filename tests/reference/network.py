"""The image network by its formulas in NumPy's longest floats, and its gradient by central differences."""

from __future__ import annotations

from typing import Any

import numpy as np

L = np.longdouble
STEP = L(1e-6)


def correlate(x: Any, kernels: Any, stride: int) -> Any:
    """Images (batch, c, h, w) with kernels (o, c, k, k), padded by zeros to their own size, then every stride-th."""
    half = kernels.shape[-1] // 2
    padded = np.pad(x, [(0, 0), (0, 0), (half, half), (half, half)])
    h, w = x.shape[2:]
    total = np.zeros((len(x), len(kernels), h, w), dtype=L)
    for p in range(2 * half + 1):
        for q in range(2 * half + 1):
            total += np.einsum("bchw,oc->bohw", padded[:, :, p : p + h, q : q + w], kernels[:, :, p, q])
    return total[:, :, ::stride, ::stride]


def _size(x: Any) -> Any:
    return np.sqrt((x * x).mean((1, 2, 3), keepdims=True))


def logits(net: Any, images: Any, controls: list[Any], scale: Any, classes: int) -> Any:
    """Lift, Euler's steps brought back to the sphere, pooling, channel means; kernels are read off the network."""
    x = images - images.mean((1, 2), keepdims=True)
    x = (x / np.sqrt((x * x).mean((1, 2), keepdims=True)))[:, None]
    x = correlate(x, net.lift.kernels.double().numpy().astype(L), 2)
    x = x / _size(x)
    for place, (flow, values) in enumerate(zip(net.flows(), controls, strict=True)):
        for family, u in zip(flow.families, values, strict=True):
            channels = x.shape[1]
            frozen = family.kernels.double().numpy().astype(L)
            kernel = np.zeros((channels, *frozen.shape[1:]), dtype=L)
            for i, weight in enumerate(u):
                kernel[i % channels] += weight * frozen[i]
            z = x + correlate(x + x * x / 2, kernel, 1) / len(values)
            x = z * _size(x) / _size(z)
        if place < len(controls) - 1:
            b, c, h, w = x.shape
            x = x.reshape(b, c, h // 2, 2, w // 2, 2).mean((3, 5))
            x = x / _size(x)
    return scale * x.mean((2, 3))[:, :classes]


def loss(logits: Any, labels: Any) -> Any:
    """The mean cross entropy."""
    largest = logits.max(1, keepdims=True)
    sums = np.log(np.exp(logits - largest).sum(1)) + largest[:, 0]
    return (sums - logits[np.arange(len(labels)), list(labels)]).mean()


def step(net: Any, images: Any, labels: Any, classes: int) -> dict[str, Any]:
    """Logits, loss, and the loss's gradient in every control and the readout's scale."""
    images = images.numpy().astype(L)
    controls = [flow.control.values.detach().double().numpy().astype(L) for flow in net.flows()]
    scale = np.array(net.readout.scale.item(), dtype=L)

    def run() -> Any:
        return loss(logits(net, images, controls, scale, classes), labels)

    gradients = []
    for value in (*controls, scale):
        found = np.zeros_like(value)
        for at in np.ndindex(value.shape):
            here, sides = value[at], []
            for sign in (1, -1, 2, -2):
                value[at] = here + sign * STEP
                sides.append(run())
            value[at] = here
            # Of fourth order: the difference's own error is far below what is left of the digits.
            found[at] = (8 * (sides[0] - sides[1]) - (sides[2] - sides[3])) / (12 * STEP)
        gradients.append(found.astype(float).tolist())
    return {
        "logits": logits(net, images, controls, scale, classes).astype(float).tolist(),
        "loss": float(run()),
        "gradients": gradients,
    }
