"""Frozen lifts: from the data to the space the first flow lives on."""

from __future__ import annotations

from numbers import Integral

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from cde_nets.door import floats
from cde_nets.fields import draw
from cde_nets.nn.maps import Normalize, Shape, standardize


class ConvLift(nn.Module):
    """Grey images to states of channels x height/stride x width/stride, through frozen random kernels.

    Each image is standardized, correlated with `channels` random kernels, and scaled to root mean square 1.

    Args:
        channels: of the state.
        size: height and width of the images.
        kernel_size: of the frozen kernels, odd.
        stride: of the correlation.
        seed: of the kernels, iid N(0, 1 / kernel_size^2).
        dtype: of the kernels; torch's default dtype where None.

    Raises:
        ValueError: an even kernel, or a number below 1.
    """

    kernels: Tensor

    def __init__(
        self,
        channels: int,
        *,
        size: int = 28,
        kernel_size: int = 5,
        stride: int = 2,
        seed: int,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        given = (channels, size, kernel_size, stride)
        integers = all(isinstance(value, Integral) and not isinstance(value, bool) for value in given)
        if not integers or min(given) < 1 or kernel_size % 2 == 0:
            raise ValueError(
                "ConvLift needs channels, size, stride >= 1 and an odd kernel_size; got "
                f"channels={channels}, size={size}, stride={stride}, kernel_size={kernel_size}."
            )
        self.size, self.stride = size, stride
        side = (size + stride - 1) // stride
        self.shape: Shape = (channels, side, side)
        draws = draw.generator(seed).standard_normal((channels, 1, kernel_size, kernel_size)) / kernel_size
        self.register_buffer("kernels", draw.as_buffer(draws, dtype))
        self.normalize = Normalize()

    @property
    def dim(self) -> int:
        """Of the state."""
        return int(np.prod(self.shape))

    def forward(self, images: Float[Tensor, "batch height width"]) -> Float[Tensor, "batch dim"]:
        """Images of any brightness scale, shape (batch, size, size), to flat states, shape (batch, dim).

        Raises:
            ValueError: another shape or dtype.
        """
        floats("images", images, (None, self.size, self.size), self.kernels)
        # One channel is its own channels_last: said so, the convolution writes its output in the states' flat order.
        one = standardize(images)[:, None].to(memory_format=torch.channels_last)
        lifted = functional.conv2d(one, self.kernels, stride=self.stride, padding=self.kernels.shape[-1] // 2)
        state: Tensor = self.normalize(lifted.permute(0, 2, 3, 1).reshape(images.shape[0], self.dim))
        return state

    def extra_repr(self) -> str:
        """Shown by print(lift)."""
        return f"({self.size}, {self.size}) -> {self.shape}, kernel {self.kernels.shape[-1]}x{self.kernels.shape[-1]}"
