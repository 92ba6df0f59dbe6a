"""Fixed maps between flows: nothing in them is trained or random."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from cde_nets.door import floats
from cde_nets.options import positive

Shape = tuple[int, int, int]


class Normalize(nn.Module):
    """Each row scaled to root mean square 1, that is onto the sphere of radius sqrt(dim). A zero row stays zero."""

    def forward(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """Shape (batch, dim) to (batch, dim)."""
        floats("x", x, (None, None))
        return functional.normalize(x, dim=1) * math.sqrt(x.shape[1])


class AveragePool(nn.Module):
    """Means over size x size blocks of an image state; a last odd row or column of pixels is dropped.

    Args:
        shape: (channels, height, width) of the state that comes in, flat in the order of `ConvFields`.
        size: of the blocks.

    Raises:
        ValueError: blocks larger than the image.
    """

    def __init__(self, shape: Shape, size: int = 2) -> None:
        super().__init__()
        if not isinstance(shape, tuple | list) or len(shape) != 3:
            raise ValueError(f"shape must be (channels, height, width); got {shape!r}.")
        for value in shape:
            positive("shape", value)
        if not isinstance(size, int) or not 1 <= size <= min(shape[1:]):
            raise ValueError(f"size must lie between 1 and {min(shape[1:])} for a state of shape {shape}; got {size}.")
        self.shape, self.size = shape, size
        self.pooled: Shape = (shape[0], shape[1] // size, shape[2] // size)

    def forward(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch pooled"]:
        """Shape (batch, channels * height * width) to (batch, channels * (height // size) * (width // size))."""
        channels, height, width = self.shape
        floats("x", x, (None, channels * height * width))
        image = x.reshape(len(x), height, width, channels).permute(0, 3, 1, 2)
        pooled = functional.avg_pool2d(image, self.size).permute(0, 2, 3, 1)
        return pooled.reshape(x.shape[0], math.prod(self.pooled))

    def extra_repr(self) -> str:
        """Shown by print(map)."""
        return f"{self.shape} -> {self.pooled}"


def standardize(images: Float[Tensor, "batch height width"]) -> Float[Tensor, "batch height width"]:
    """Each image shifted to mean 0 and scaled to standard deviation 1; a constant image becomes zero."""
    mean = images.mean((1, 2), keepdim=True)
    centred = images - mean
    deviation = centred.square().mean((1, 2), keepdim=True).sqrt()
    # The mean of a constant image is rounded: what is left of the image then is rounding, and must not be scaled up.
    rounding = 8 * torch.finfo(images.dtype).eps * mean.abs()
    # Asked this way round, NaN and infinity go on to where they are refused.
    return torch.where(deviation <= rounding, 0.0, centred / deviation)
