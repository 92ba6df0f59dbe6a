"""The span of vectors modulo a prime: an echelon form that grows row by row, never started over.

Residues are centred at zero and held in float64, so that BLAS multiplies them exactly: p < 2**20 makes products of at
most 2**38, and 2**14 of them add up below 2**52.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from theory.modular import IntArray, check_modulus

Residues: TypeAlias = npt.NDArray[np.float64]

LARGEST_PRIME = 2**20
# Terms of a sum of products of two centred residues that stay exact, with room for the reduction that follows.
_TERMS = 2**14
# Rows that are reduced together, against all earlier ones at once; and rows that are reduced one by one.
_BLOCK, _PANEL = 256, 32


def centred(values: IntArray, p: int) -> Residues:
    """Integers as residues in [-p/2, p/2], held in float64.

    Raises:
        ValueError: p is no prime, or too large for exact products.
    """
    if check_modulus(p) > LARGEST_PRIME:
        raise ValueError(f"the modulus is {p}, expected a prime below 2**20, so that BLAS products are exact")
    residues = np.asarray(values % p, dtype=np.float64)
    return np.where(residues > p // 2, residues - p, residues)


def reduce(x: Residues, p: int) -> Residues:
    """Integers of at most 2**52 brought back to residues around zero, in place.

    The quotient may round the other way within 2**-18 of a half, so that residues may exceed p/2 by as little.
    """
    x -= p * np.rint(x * (1.0 / p))
    return x


def product(a: Residues, b: Residues, p: int) -> Residues:
    """A matrix product of centred residues, reduced; stacks of matrices as in numpy."""
    inner = a.shape[-1]
    if inner <= _TERMS:
        return reduce(a @ b, p)
    total = reduce(a[..., :_TERMS] @ b[..., :_TERMS, :], p)
    for start in range(_TERMS, inner, _TERMS):
        part = slice(start, start + _TERMS)
        total += reduce(a[..., part] @ b[..., part, :], p)
    return reduce(total, p)


def inverse(value: float, p: int) -> float:
    """The centred inverse of a residue that is not zero."""
    found = pow(int(value) % p, -1, p)
    return float(found if found <= p // 2 else found - p)


@dataclass
class _Block:
    """Some rows of the basis, in reduced echelon form among themselves and zero at the pivots of earlier blocks.

    Attributes:
        columns: the columns that were free before it.
        places: where its pivots stand among those, in the order of the rows.
        kept: where the others stand: the columns that are free after it.
        rows: the rows at those, shape (len(places), len(kept)).
    """

    columns: IntArray
    places: IntArray
    kept: IntArray
    rows: Residues


class RowSpace:
    """The span of rows added so far, by a basis in echelon form, a block of rows after the other.

    New rows pass the blocks in turn, each of which takes its pivots' columns away: as in an LU decomposition, later
    work is on fewer and fewer columns, two thirds of n**3 in all.

    Attributes:
        columns: the length of a row.
        modulus: p < 2**20.
        rank: the dimension of the span.
    """

    def __init__(self, columns: int, modulus: int) -> None:
        self.columns, self.modulus, self.rank = columns, modulus, 0
        self._blocks: list[_Block] = []
        self._free: IntArray = np.arange(columns)

    @property
    def full(self) -> bool:
        """Whether the rows span everything."""
        return self.rank == self.columns

    def add(self, rows: Residues) -> int:
        """Add rows of centred residues, shape (k, columns); by how much the rank rose."""
        return len(self.keep(rows))

    def keep(self, rows: Residues, deadline: float = math.inf) -> IntArray:
        """Add rows; the numbers of some that span, with what was there, the same as all of them: one for each rank.

        Rows that are not reached by the deadline, of time.monotonic(), are left out.
        """
        kept = [np.zeros(0, dtype=np.int64)]
        for start in range(0, len(rows), _BLOCK):
            if self.full or time.monotonic() >= deadline:
                break
            kept.append(start + self._add_block(rows[start : start + _BLOCK]))
        return np.sort(np.concatenate(kept))

    def residual(self, rows: Residues) -> Residues:
        """What is left of rows modulo the span, zero at all pivots: zero exactly for those that lie in it."""
        out = np.zeros((len(rows), self.columns))
        out[:, self._free] = self._forward(rows)
        return out

    def contains(self, rows: Residues) -> bool:
        """Whether all these rows lie in the span."""
        return not self._forward(rows).any()

    def basis(self, first: int = 0) -> Residues:
        """The echelon basis in the order it was found, without its first rows: shape (rank - first, columns)."""
        parts, start = [np.zeros((0, self.columns))], 0
        for block in self._blocks:
            size = len(block.places)
            if start + size > first:
                rows = np.zeros((size, self.columns))
                rows[np.arange(size), block.columns[block.places]] = 1.0
                rows[:, block.columns[block.kept]] = block.rows
                parts.append(rows[max(0, first - start) :])
            start += size
        return np.concatenate(parts)

    def widen(self, columns: int) -> None:
        """Let rows be longer: what has been added has zeros there."""
        more = np.arange(self.columns, columns)
        for block in self._blocks:
            block.kept = np.concatenate([block.kept, len(block.columns) + np.arange(len(more))])
            block.columns = np.concatenate([block.columns, more])
            block.rows = np.concatenate([block.rows, np.zeros((len(block.rows), len(more)))], axis=1)
        self._free = np.concatenate([self._free, more])
        self.columns = columns

    def _forward(self, rows: Residues) -> Residues:
        """Rows at the free columns, after what the blocks take from them."""
        rest = reduce(np.array(rows, dtype=np.float64), self.modulus)
        for block in self._blocks:
            taken = product(rest[:, block.places], block.rows, self.modulus)
            rest = reduce(rest[:, block.kept] - taken, self.modulus)
        return rest

    def _add_block(self, rows: Residues) -> IntArray:
        p = self.modulus
        new, pivots, kept_rows = self._echelon(self._forward(rows), np.arange(len(rows)))
        if not len(pivots):
            return kept_rows
        free = np.ones(new.shape[1], dtype=bool)
        free[pivots] = False
        kept = np.flatnonzero(free)
        last = self._blocks[-1] if self._blocks else None
        if last is not None and len(last.places) + len(pivots) <= _BLOCK:
            # Few rows at a time would make many small blocks: they join the last one.
            above = reduce(last.rows - product(last.rows[:, pivots], new, p), p)
            last.places = np.concatenate([last.places, last.kept[pivots]])
            last.kept = last.kept[kept]
            last.rows = np.concatenate([above, new])[:, kept]
        else:
            self._blocks.append(_Block(self._free, pivots, kept, new[:, kept]))
        self._free = self._free[kept]
        self.rank += len(pivots)
        return kept_rows

    def _echelon(self, rows: Residues, names: IntArray) -> tuple[Residues, IntArray, IntArray]:
        """The reduced echelon form of a few rows: rows, the columns of their pivots, and the names of those used."""
        p = self.modulus
        if len(rows) > _PANEL:
            half = len(rows) // 2
            upper, first, above = self._echelon(rows[:half], names[:half])
            lower = rows[half:]
            if len(first):
                lower = reduce(lower - product(lower[:, first], upper, p), p)
            lower, second, below = self._echelon(lower, names[half:])
            if len(first) and len(second):
                upper = reduce(upper - product(upper[:, second], lower, p), p)
            return np.concatenate([upper, lower]), np.concatenate([first, second]), np.concatenate([above, below])
        found, pivots = np.zeros((0, rows.shape[1])), np.zeros(0, dtype=np.int64)
        used = np.zeros(0, dtype=np.int64)
        rows, names = _without_zeros(rows, names)
        start, width = 0, 2 * _PANEL
        # A few columns decide what is done to all: twice as many as rows are nearly always enough.
        while len(rows) and start < rows.shape[1]:
            transform, places, order = _eliminate(rows[:, start : start + width], p)
            if not len(places):
                start, width = start + width, 2 * width
                continue
            rows = product(transform, rows, p)
            new, here = rows[: len(places)], start + places
            if len(pivots):
                found = reduce(found - product(found[:, here], new, p), p)
            names = names[order]
            found, pivots = np.concatenate([found, new]), np.concatenate([pivots, here])
            used = np.concatenate([used, names[: len(places)]])
            rows, names = _without_zeros(rows[len(places) :], names[len(places) :])
        return found, pivots, used


def _without_zeros(rows: Residues, names: IntArray) -> tuple[Residues, IntArray]:
    nonzero = rows.any(axis=1)
    return rows[nonzero], names[nonzero]


def _eliminate(panel: Residues, p: int) -> tuple[Residues, IntArray, IntArray]:
    """Gauss and Jordan on a small matrix: what was done to its rows, as a matrix, the pivots' columns, the new order.

    Only rows with a pivot are taken from others, so that the rows that come first in the new order span all.
    """
    count, width = panel.shape
    work = np.concatenate([panel, np.eye(count)], axis=1)
    order = np.arange(count)
    pivots: list[int] = []
    for column in range(width):
        rank = len(pivots)
        if rank == count:
            break
        candidates = np.flatnonzero(work[rank:, column])
        if not len(candidates):
            continue
        chosen = rank + int(candidates[0])
        if chosen != rank:
            work[[rank, chosen]] = work[[chosen, rank]]
            order[[rank, chosen]] = order[[chosen, rank]]
        row = reduce(work[rank] * inverse(work[rank, column], p), p)
        factors = work[:, column].copy()
        factors[rank] = 0.0
        work -= factors[:, None] * row
        reduce(work, p)
        work[rank] = row
        pivots.append(column)
    return work[:, width:], np.array(pivots, dtype=np.int64), order
