"""The last vectors of every row."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cde_nets.solver.opaque import opaque


class Window(NamedTuple):
    """The last vectors of every row, the newest first, at most `most` of them.

    Where autograd records nothing and nothing transforms, they stand in a buffer that is filled from its end to its
    front: a vector more is written in front of the others, which are moved only once the front is reached. Such a
    window is spent once a vector has been added to it. Elsewhere every vector more makes a new tensor.

    Attributes:
        kept: shape (rows, vectors, numbers).
        most: how many are kept.
        buffer: shape (rows, slots, numbers); None where there is none.
        front: the slot of the newest, in the buffer.
    """

    kept: Tensor
    most: int
    buffer: Tensor | None = None
    front: int = 0

    @classmethod
    def empty(cls, like: Tensor, most: int, dtype: torch.dtype | None = None) -> Window:
        """Before the first.

        Args:
            like: of the rows, numbers and device of the vectors, shape (rows, numbers).
            most: how many are kept.
            dtype: theirs; that of `like` where None.
        """
        rows, numbers = like.shape
        if torch.is_grad_enabled() or opaque():
            return cls(like.new_empty(rows, 0, numbers, dtype=dtype), most)
        # One more in front, for `led_by`; half as many moves as vectors at most.
        slots = 3 * most + 1
        buffer = like.new_empty(rows, slots, numbers, dtype=dtype)
        return cls(buffer[:, slots:], most, buffer, slots)

    @property
    def count(self) -> int:
        """How many there are."""
        return self.kept.shape[1]

    def add(self, newest: Tensor) -> Window:
        """With one vector more, shape (rows, numbers), and without the oldest where there are `most` of them."""
        others = min(self.count, self.most - 1)
        if self.buffer is None:
            return Window(torch.cat([newest[:, None].to(self.kept.dtype), self.kept[:, :others]], 1), self.most)
        front = self.front - 1
        if not front:
            front = self.buffer.shape[1] - others - 1
            self.buffer[:, front + 1 :] = self.kept[:, :others]
        self.buffer[:, front] = newest
        return Window(self.buffer[:, front : front + others + 1], self.most, self.buffer, front)

    def led_by(self, x: Tensor) -> Tensor:
        """Any vector and the newest, shape (rows, 2, numbers), until another is added."""
        if self.buffer is None:
            return torch.stack([x.to(self.kept.dtype), self.kept[:, 0]], 1)
        self.buffer[:, self.front - 1] = x
        return self.buffer[:, self.front - 1 : self.front + 1]
