"""The last vectors of every row."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cde_nets.solver.opaque import opaque

# Of a new buffer; one that is more than half full when its front is reached makes room for twice as many.
SLOTS = 16


class Window(NamedTuple):
    """The last vectors of every row, the newest first, at most `most` of them, or all where it is None.

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
    most: int | None
    buffer: Tensor | None = None
    front: int = 0

    @classmethod
    def empty(cls, like: Tensor, most: int | None, dtype: torch.dtype | None = None) -> Window:
        """Before the first.

        Args:
            like: of the rows, numbers and device of the vectors, shape (rows, numbers).
            most: how many are kept; all where None.
            dtype: theirs; that of `like` where None.
        """
        rows, numbers = like.shape
        if torch.is_grad_enabled() or opaque():
            return cls(like.new_empty(rows, 0, numbers, dtype=dtype), most)
        slots = SLOTS if most is None else min(SLOTS, 3 * most + 1)
        buffer = like.new_empty(rows, slots, numbers, dtype=dtype)
        return cls(buffer[:, slots:], most, buffer, slots)

    @property
    def number(self) -> int:
        """How many there are."""
        return self.kept.shape[1]

    def add(self, newest: Tensor) -> Window:
        """With one vector more, shape (rows, numbers), and without the oldest where there are `most` of them."""
        others = self.number if self.most is None else min(self.number, self.most - 1)
        if self.buffer is None:
            return Window(torch.cat([newest[:, None].to(self.kept.dtype), self.kept[:, :others]], 1), self.most)
        buffer, front = self.buffer, self.front - 1
        # The slot at the front is for `led_by`.
        if not front:
            slots = buffer.shape[1]
            front = slots - others - 1
            if 2 * front < slots:
                buffer = buffer.new_empty(buffer.shape[0], 2 * slots, buffer.shape[2])
                front += slots
            buffer[:, front + 1 :] = self.kept[:, :others]
        buffer[:, front] = newest
        return Window(buffer[:, front : front + others + 1], self.most, buffer, front)

    def led_by(self, x: Tensor) -> Tensor:
        """Any vector and the newest, shape (rows, 2, numbers), until another is added."""
        if self.buffer is None:
            return torch.stack([x.to(self.kept.dtype), self.kept[:, 0]], 1)
        self.buffer[:, self.front - 1] = x
        return self.buffer[:, self.front - 1 : self.front + 1]
