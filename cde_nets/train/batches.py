"""Batches of moved images, the same for the same seed, epoch and place, so that a run can go on in the middle."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional


class Batches:
    """Training images in random order, each moved by up to `shift` pixels; a last short batch is left out.

    Args:
        images: shape (n, height, width), uint8.
        labels: shape (n,), int64.
        batch_size: images a batch, at most n.
        shift: largest move in pixels along either axis; what comes in from outside is background.
        seed: of the orders and moves.

    Raises:
        ValueError: a batch larger than the data.
    """

    def __init__(
        self,
        images: UInt8[Tensor, "n height width"],
        labels: Int[Tensor, "n"],
        batch_size: int,
        shift: int,
        seed: int,
    ) -> None:
        if batch_size > len(images):
            raise ValueError(f"batch_size={batch_size} is more than the {len(images)} training images.")
        self.labels, self.batch_size, self.shift, self.seed = labels, batch_size, shift, seed
        self._side = images.shape[1:]
        self._padded = functional.pad(images, (shift,) * 4)

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self.labels) // self.batch_size

    def epoch(
        self, number: int, first: int = 0
    ) -> Iterator[tuple[Float[Tensor, "batch height width"], Int[Tensor, "batch"]]]:
        """The batches of an epoch from batch `first` on; images have values between 0 and 1."""
        order = torch.from_numpy(_stream(self.seed, number).permutation(len(self.labels)))
        for place in range(first, len(self)):
            chosen = order[place * self.batch_size : (place + 1) * self.batch_size].to(self.labels.device)
            yield self._moved(chosen, number, place), self.labels[chosen]

    def _moved(self, chosen: Tensor, number: int, place: int) -> Tensor:
        height, width = self._side
        moves = _stream(self.seed, number, place).integers(0, 2 * self.shift + 1, (2, len(chosen), 1))
        down, right = torch.from_numpy(moves).to(chosen.device)
        rows = (down + torch.arange(height, device=chosen.device))[:, :, None]
        columns = (right + torch.arange(width, device=chosen.device))[:, None, :]
        return as_intensity(self._padded[chosen[:, None, None], rows, columns])


def as_intensity(images: UInt8[Tensor, "n height width"]) -> Float[Tensor, "n height width"]:
    """Bytes to numbers between 0 and 1."""
    return images.to(torch.get_default_dtype()) / 255


def _stream(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
