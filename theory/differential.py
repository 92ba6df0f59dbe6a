"""Jacobians that are mostly zeros: what fields on images have, a few entries in each row and a product or two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np

from theory.exact import exact_array
from theory.modular import IntArray
from theory.rings import Ring


@dataclass(frozen=True)
class Blocks(Generic[Ring]):
    """Matrices that read a few components for every few they make.

    Attributes:
        entries: (N, positions, rows, size) ring elements: component p * rows + r of the product is the sum over s of
            entries[:, p, r, s] times the component index[p, s].
        index: (positions, size), no component twice in a row; -1 where entries are zero.
    """

    entries: Ring
    index: IntArray

    @classmethod
    def whole(cls, matrices: Ring) -> Blocks[Ring]:
        """Plain matrices, (N, m, m)."""
        rows, m, _ = matrices.shape
        return cls(matrices.reshape(rows, 1, m, m), np.arange(m)[None])

    @property
    def is_whole(self) -> bool:
        """Whether these are plain matrices."""
        return len(self.index) == 1 and np.array_equal(self.index[0], np.arange(self.entries.shape[2]))

    def times(self, vectors: Ring) -> Ring:
        """The products with vectors (N, m, w)."""
        if self.is_whole:
            return self.entries[:, 0] @ vectors
        return self.entries.stencil(self.index, vectors).once().reshape(*vectors.shape)

    def under(self, vectors: Ring) -> Ring:
        """The products of one vector each, (N, m), with the matrices: those of the transposed ones."""
        points, positions, rows, size = self.entries.shape
        sums = (self.entries.transpose(0, 1, 3, 2) * vectors.reshape(points, positions, 1, rows)).sum()
        if self.is_whole:
            return sums[:, 0]
        return sums.reshape(points, positions * size).gather(_places(self.index, positions * rows)).sum()

    def shifted(self, scales: Ring) -> Blocks[Ring]:
        """Scales, one for each of the N points, added along the diagonal."""
        _, positions, rows, _ = self.entries.shape
        component = np.arange(positions * rows).reshape(positions, rows, 1)
        diagonal = scales.constant(exact_array((self.index[:, None, :] == component).astype(np.int64)))
        return Blocks(self.entries + scales[:, None, None, None] * diagonal, self.index)

    def dense(self) -> Ring:
        """The matrices, (N, m, m)."""
        if self.is_whole:
            return self.entries[:, 0]
        points, positions, rows, size = self.entries.shape
        m = positions * rows
        under = np.full((positions, m + 1), -1)
        # What is read as zero goes to a last column, which is dropped.
        np.put_along_axis(under, self.index, np.arange(positions * size).reshape(positions, size), axis=1)
        # Position by position, each reads places of its own.
        read = self.entries.transpose(0, 2, 1, 3).reshape(points, rows, positions * size).gather(under[:, :-1])
        return read.transpose(0, 2, 1, 3).reshape(points, m, m)


def _places(index: IntArray, m: int) -> IntArray:
    """(m, most): where each component stands in an index, flat; -1 behind."""
    order = np.argsort(index, axis=None, kind="stable")
    found = index.ravel()[order]
    order, found = order[found >= 0], found[found >= 0]
    rank = np.arange(len(found)) - np.searchsorted(found, found)
    places = np.full((m, int(rank.max(initial=0)) + 1), -1)
    places[found, rank] = order
    return places


@dataclass(frozen=True)
class Differential(Generic[Ring]):
    """The Jacobian of one combination of fields at N points: a sum of blocks and of products left right^T.

    Attributes:
        blocks: at least one.
        pairs: left and right, each (N, m).
    """

    blocks: tuple[Blocks[Ring], ...]
    pairs: tuple[tuple[Ring, Ring], ...] = ()

    @classmethod
    def whole(cls, matrices: Ring) -> Differential[Ring]:
        """Plain matrices, (N, m, m): the components before the variables."""
        return cls((Blocks.whole(matrices),))

    @classmethod
    def sum(cls, parts: Sequence[Differential[Ring]]) -> Differential[Ring]:
        """The Jacobian of a sum."""
        blocks: list[Blocks[Ring]] = []
        for block in (block for part in parts for block in part.blocks):
            for k, other in enumerate(blocks):
                if np.array_equal(block.index, other.index):
                    blocks[k] = Blocks(other.entries + block.entries, other.index)
                    break
            else:
                blocks.append(block)
        return cls(tuple(blocks), tuple(pair for part in parts for pair in part.pairs))

    @property
    def size(self) -> int:
        """Products that one vector takes at one point: the entries that are held."""
        return sum(int(np.prod(block.entries.shape[1:])) for block in self.blocks) + sum(
            2 * left.shape[1] for left, _ in self.pairs
        )

    def times(self, vectors: Ring) -> Ring:
        """The products with vectors, (N, m, w)."""
        first, *others = (block.times(vectors) for block in self.blocks)
        others += [left[:, :, None] @ (right[:, None, :] @ vectors) for left, right in self.pairs]
        total = first.once()
        for part in others:
            total = (total + part.once()).once()
        return total

    def under(self, vectors: Ring) -> Ring:
        """The products of one vector each, (N, m), with the matrices."""
        first, *others = self.blocks
        total = first.under(vectors)
        for block in others:
            total = total + block.under(vectors)
        for left, right in self.pairs:
            total = total + (left * vectors).sum()[:, None] * right
        return total

    def shifted(self, scales: Ring) -> Differential[Ring]:
        """Scales, one for each of the N points, added along the diagonal."""
        first, *others = self.blocks
        return Differential((first.shifted(scales), *others), self.pairs)

    def dense(self) -> Ring:
        """The matrices, (N, m, m)."""
        first, *others = self.blocks
        total = first.dense()
        for block in others:
            total = total + block.dense()
        for left, right in self.pairs:
            total = total + left[:, :, None] * right[:, None, :]
        return total
