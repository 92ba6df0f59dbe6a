"""Batches of moved images, the same for the same seed, epoch and place, so that a run can go on in the middle."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from cde_nets.train.moves import Moves
from cde_nets.train.processes import Processes


class Batches:
    """Training images in random order, each moved at random; a last short batch is left out.

    Args:
        images: shape (n, height, width), as intensities.
        labels: shape (n,), int64.
        batch_size: images a batch, at most n.
        moves: how far images are moved. Those that are only shifted are by whole pixels.
        seed: of the orders and moves.
        processes: those that share every batch: each gets its rows, moved as they are in the whole batch.

    Raises:
        ValueError: a batch larger than the data, or with fewer rows than there are processes.
    """

    def __init__(
        self,
        images: Float[Tensor, "n height width"],
        labels: Int[Tensor, "n"],
        batch_size: int,
        moves: Moves,
        seed: int,
        processes: Processes = Processes(),  # noqa: B008 (frozen)
    ) -> None:
        if batch_size > len(images):
            raise ValueError(f"batch_size={batch_size} is more than the {len(images)} training images.")
        if batch_size < processes.count:
            raise ValueError(f"batch_size={batch_size} leaves some of {processes.count} processes without an image.")
        self.labels, self.batch_size, self.moves, self.seed = labels, batch_size, moves, seed
        self._side, self._share = images.shape[1:], processes.share(batch_size)
        # Whole pixels are copied; all else is interpolated.
        self._copied = moves == Moves(shift=float(int(moves.shift)))
        self._pixels = int(moves.shift) if self._copied else 0
        self._padded = functional.pad(images, (self._pixels,) * 4)

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self.labels) // self.batch_size

    def epoch(
        self, number: int, first: int = 0
    ) -> Iterator[tuple[Float[Tensor, "batch height width"], Int[Tensor, "batch"]]]:
        """The batches of an epoch from batch `first` on, or this process's rows of them."""
        order = torch.from_numpy(_stream(self.seed, number).permutation(len(self.labels)))
        for place in range(first, len(self)):
            whole = order[place * self.batch_size : (place + 1) * self.batch_size]
            chosen = whole[self._share].to(self.labels.device)
            yield self._moved(chosen, number, place), self.labels[chosen]

    def _moved(self, chosen: Tensor, number: int, place: int) -> Tensor:
        # Drawn for the whole batch: a row's moves do not depend on which process has it.
        rng = _stream(self.seed, number, place)
        if not self._copied:
            affine, bend = self.moves.draw(self.batch_size, rng)
            bend = None if bend is None else bend[self._share]
            return self.moves.moved(self._padded[chosen], affine[self._share], bend)
        height, width = self._side
        moves = rng.integers(0, 2 * self._pixels + 1, (2, self.batch_size, 1))[:, self._share]
        down, right = torch.from_numpy(moves).to(chosen.device)
        rows = (down + torch.arange(height, device=chosen.device))[:, :, None]
        columns = (right + torch.arange(width, device=chosen.device))[:, None, :]
        return self._padded[chosen[:, None, None], rows, columns]


def as_intensity(images: UInt8[Tensor, "n height width"]) -> Float[Tensor, "n height width"]:
    """Bytes to numbers between 0 and 1."""
    return images.to(torch.get_default_dtype()) / 255


def _stream(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
