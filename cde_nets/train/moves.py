"""Images moved at random: turned, scaled, sheared, shifted by parts of pixels, and bent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

# The bend is given at so many points along either side, and is smooth between them.
BENDS = 5


@dataclass(frozen=True)
class Moves:
    """How far images are moved. Each is drawn anew for each image, uniformly up to the number but for `bend`.

    Attributes:
        turn: degrees, either way.
        scale: logarithm of the factor along either axis, either way: 0.1 is a tenth larger or smaller.
        shear: columns a row, either way.
        shift: pixels along either axis, either way.
        bend: standard deviation in pixels of a smooth random displacement ("elastic": Simard, Steinkraus and Platt,
            "Best practices for convolutional neural networks", 2003).
    """

    turn: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    bend: float = 0.0

    def __call__(
        self, images: Float[Tensor, "batch height width"], rng: np.random.Generator
    ) -> Float[Tensor, "batch height width"]:
        """The moved images, by bilinear interpolation; what comes in from outside is zero."""
        return self.moved(images, *self.draw(len(images), rng))

    def draw(
        self, count: int, rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "batch 6"], Float[np.ndarray, "batch 2 bends bends"] | None]:
        """The random numbers of so many images, a row each: of the affine moves, and of the bend if there is one."""
        affine = rng.uniform(-1, 1, (6, count)).T
        return affine, rng.standard_normal((count, 2, BENDS, BENDS)) if self.bend > 0 else None

    def moved(
        self,
        images: Float[Tensor, "batch height width"],
        affine: Float[np.ndarray, "batch 6"],
        bend: Float[np.ndarray, "batch 2 bends bends"] | None,
    ) -> Float[Tensor, "batch height width"]:
        """The images moved by random numbers that were drawn."""
        count, height, width = images.shape
        turn, down, across, shear, shift_down, shift_across = (
            torch.from_numpy(np.ascontiguousarray(row)).to(images) for row in affine.T
        )
        angle = turn * self.turn * math.pi / 180
        cos, sin = angle.cos(), angle.sin()
        # Where an output pixel is read, in pixels from the middle: turned, after it was scaled and sheared.
        down, across, shear = (down * self.scale).exp(), (across * self.scale).exp(), shear * self.shear
        matrix = torch.stack(
            [
                torch.stack([cos * across, (cos * shear - sin) * down, shift_across * self.shift], 1),
                torch.stack([sin * across, (sin * shear + cos) * down, shift_down * self.shift], 1),
            ],
            1,
        )
        # affine_grid counts from -1 to 1 over each side, x before y.
        sides = matrix.new_tensor([width / 2, height / 2])
        matrix = matrix * torch.cat([sides, sides.new_ones(1)]) / sides[:, None]
        grid = functional.affine_grid(matrix, [count, 1, height, width], align_corners=False)
        if bend is not None:
            corners = torch.from_numpy(bend).to(images) * self.bend
            smooth = functional.interpolate(corners, (height, width), mode="bicubic", align_corners=True)
            grid = grid + smooth.permute(0, 2, 3, 1) / sides
        return functional.grid_sample(images[:, None], grid, align_corners=False)[:, 0]
