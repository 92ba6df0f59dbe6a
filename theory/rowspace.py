"""The span of vectors modulo a prime: an echelon form that grows row by row, never started over.

Residues are centred at zero and held in float64, so that BLAS multiplies them exactly: p < 2**20 makes products of at
most 2**38, and 2**14 of them add up below 2**52.
"""

from __future__ import annotations

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


class RowSpace:
    """The span of rows added so far, by a basis in reduced echelon form.

    Attributes:
        columns: the length of a row.
        modulus: p < 2**20.
        rank: the dimension of the span.
    """

    def __init__(self, columns: int, modulus: int) -> None:
        self.columns, self.modulus, self.rank = columns, modulus, 0
        self._rows = np.zeros((0, columns))
        self._pivots = np.zeros(0, dtype=np.int64)
        self._free = np.ones(columns, dtype=bool)

    @property
    def full(self) -> bool:
        """Whether the rows span everything."""
        return self.rank == self.columns

    def add(self, rows: Residues) -> int:
        """Add rows of centred residues, shape (k, columns); by how much the rank rose."""
        before = self.rank
        for start in range(0, len(rows), _BLOCK):
            if self.full:
                break
            self._add_block(rows[start : start + _BLOCK])
        return self.rank - before

    def residual(self, rows: Residues) -> Residues:
        """What is left of rows modulo the span: zero exactly for those that lie in it."""
        if not self.rank:
            return reduce(np.array(rows, dtype=np.float64), self.modulus)
        return reduce(rows - product(rows[:, self._pivots], self._rows[: self.rank], self.modulus), self.modulus)

    def contains(self, rows: Residues) -> bool:
        """Whether all these rows lie in the span."""
        return not self.residual(rows).any()

    def basis(self, first: int = 0) -> Residues:
        """The echelon basis, shape (rank, columns), or its part that came after the first so many rows."""
        return self._rows[first : self.rank].copy()

    def widen(self, columns: int) -> None:
        """Let rows be longer: what has been added has zeros there."""
        more = columns - self.columns
        self._rows = np.concatenate([self._rows, np.zeros((len(self._rows), more))], axis=1)
        self._free = np.concatenate([self._free, np.ones(more, dtype=bool)])
        self.columns = columns

    def _add_block(self, block: Residues) -> None:
        p = self.modulus
        new, pivots = self._echelon(self.residual(block), np.flatnonzero(self._free))
        if not len(pivots):
            return
        known = self._rows[: self.rank]
        if self.rank:
            known -= product(known[:, pivots], new, p)
            reduce(known, p)
        after = self.rank + len(pivots)
        if after > len(self._rows):
            grown = np.zeros((min(self.columns, max(2 * len(self._rows), after)), self.columns))
            grown[: self.rank] = known
            self._rows = grown
        self._rows[self.rank : after] = new
        self._pivots = np.concatenate([self._pivots, pivots])
        self._free[pivots] = False
        self.rank = after

    def _echelon(self, rows: Residues, free: IntArray) -> tuple[Residues, IntArray]:
        """The reduced echelon form of a few rows that are zero outside the free columns: rows and their pivots."""
        p = self.modulus
        if len(rows) > _PANEL:
            half = len(rows) // 2
            upper, first = self._echelon(rows[:half], free)
            lower = rows[half:]
            if len(first):
                lower = reduce(lower - product(lower[:, first], upper, p), p)
            lower, second = self._echelon(lower, free)
            if len(first) and len(second):
                upper = reduce(upper - product(upper[:, second], lower, p), p)
            return np.concatenate([upper, lower]), np.concatenate([first, second])
        found, pivots = np.zeros((0, self.columns)), np.zeros(0, dtype=np.int64)
        rows = rows[rows.any(axis=1)]
        start, width = 0, 2 * _PANEL
        # A few columns decide what is done to all: twice as many as rows are nearly always enough.
        while len(rows) and start < len(free):
            columns = free[start : start + width]
            transform, places = _eliminate(rows[:, columns], p)
            if not len(places):
                start, width = start + width, 2 * width
                continue
            rows = product(transform, rows, p)
            new, here = rows[: len(places)], columns[places]
            if len(pivots):
                found = reduce(found - product(found[:, here], new, p), p)
            found, pivots = np.concatenate([found, new]), np.concatenate([pivots, here])
            rows = rows[len(places) :]
            rows = rows[rows.any(axis=1)]
        return found, pivots


def _eliminate(panel: Residues, p: int) -> tuple[Residues, IntArray]:
    """Gauss and Jordan on a small matrix: what was done to its rows, as a matrix, and the pivots' columns."""
    count, width = panel.shape
    work = np.concatenate([panel, np.eye(count)], axis=1)
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
        row = reduce(work[rank] * inverse(work[rank, column], p), p)
        factors = work[:, column].copy()
        factors[rank] = 0.0
        work -= factors[:, None] * row
        reduce(work, p)
        work[rank] = row
        pivots.append(column)
    return work[:, width:], np.array(pivots, dtype=np.int64)
