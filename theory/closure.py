"""Brackets of polynomial fields modulo a prime, coefficient by coefficient and degree by degree."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

from theory.monomials import monomial_count, monomial_exponents
from theory.programs.monomial import MonomialProgram
from theory.rowspace import Residues, RowSpace, centred, reduce
from theory.words import Word


@dataclass(frozen=True)
class Level:
    """What is known once the brackets of a level have been formed.

    Attributes:
        degree: g: all these brackets have degree at most g.
        space: their span over the monomials of degree <= g, components the fastest.
        depth: the longest word so far.
    """

    degree: int
    space: RowSpace
    depth: int


class GradedClosure:
    """Right-normed brackets [V_a, [V_b, .. V_c]] whose degrees are bounded by `most` at every nesting.

    A bracket with a field of degree k raises the bound of the degree by k - 1. The bounds are read off the exact
    coefficients of the fields, never off residues: modulo p more may cancel than over the rationals.

    Args:
        program: the fields.
        prime: p.
        most: the largest degree.
    """

    def __init__(self, program: MonomialProgram, prime: int, most: int) -> None:
        self._program, self._p, self._most = program, prime, most
        self._degrees = degrees(program)
        rises = [k - 1 for k in self._degrees]
        # Rows of level g are fields of degree at most g: their last coefficients are zero, so that each level has a
        # space of its own as long as brackets may come back to it, and one space serves all where they only rise.
        self._rising = min(rises) >= 1
        self._spaces: dict[int, RowSpace] = {}
        self._single = RowSpace(program.dim, prime)
        self._operators = [(BracketOperator(program, i, prime), rise) for i, rise in enumerate(rises)]
        self._words: list[tuple[int, Word]] = []

    def levels(self, deadline: float = math.inf) -> Iterator[Level]:
        """Form brackets, from low degrees up, until there are no more or the time is over."""
        m, p = self._program.dim, self._p
        start = centred(self._program.coefficients.residues(p), p)
        waiting: dict[int, list[tuple[Residues, list[Word]]]] = {}
        for i, degree in enumerate(self._degrees):
            if degree <= self._most:
                row = placed(self._program.exponents, start[i : i + 1], degree)
                waiting.setdefault(degree, []).append((row, [(i,)]))
        depth = 0
        while waiting and time.monotonic() < deadline:
            level = min(waiting)
            batch = waiting.pop(level)
            columns = m * monomial_count(m, level)
            rows = np.concatenate([_widened(rows, columns) for rows, _ in batch])
            words = [word for _, part in batch for word in part]
            depth = max(depth, *(len(word) for word in words))
            space = self._space(level)
            kept = space.keep(rows, deadline).tolist()
            new, words = rows[kept], [words[k] for k in kept]
            self._words += [(level, word) for word in words]
            if not self._rising and kept:
                for other in range(level + 1, self._most + 1):
                    self._space(other).add(_widened(new, m * monomial_count(m, other)))
            yield Level(level, space, depth)
            if not kept:
                continue
            for i, (operator, rise) in enumerate(self._operators):
                to = level + rise
                if 0 <= to <= self._most and time.monotonic() < deadline:
                    waiting.setdefault(to, []).append((operator.of(new, level, to), [(i, *word) for word in words]))
        # Rows that came from below, after the level itself had its turn.
        yield from (Level(level, space, depth) for level, space in sorted(self._spaces.items()))

    def words(self, degree: int) -> list[Word]:
        """Right-normed words whose brackets span what has been found up to a degree."""
        return [word for level, word in self._words if level <= degree]

    def _space(self, level: int) -> RowSpace:
        columns = self._program.dim * monomial_count(self._program.dim, level)
        if not self._rising:
            return self._spaces.setdefault(level, RowSpace(columns, self._p))
        if columns > self._single.columns:
            self._single.widen(columns)
        return self._single


def degrees(program: MonomialProgram) -> list[int]:
    """The degree of each field by its exact coefficients; 0 for the field that is zero."""
    size = program.exponents.sum(axis=1)
    used = (program.coefficients.numerators != 0).any(axis=1)
    return [int(size[row].max(initial=0)) for row in np.asarray(used, dtype=bool)]


def placed(exponents: Any, coefficients: Residues, degree: int) -> Residues:
    """Fields of shape (rows, m, monomials) as rows over the monomials of degree <= degree, components the fastest."""
    m = exponents.shape[1]
    place = {tuple(a): k for k, a in enumerate(monomial_exponents(m, degree).tolist())}
    out = np.zeros((len(coefficients), len(place), m))
    for k, a in enumerate(exponents.tolist()):
        if sum(a) <= degree:
            out[:, place[tuple(a)]] = coefficients[:, :, k]
    return out.reshape(len(coefficients), -1)


def _widened(rows: Residues, columns: int) -> Residues:
    if rows.shape[1] == columns:
        return rows
    return np.concatenate([rows, np.zeros((len(rows), columns - rows.shape[1]))], axis=1)


class BracketOperator:
    """W -> [V, W] = DW V - DV W on coefficients modulo p, for one field V."""

    def __init__(self, program: MonomialProgram, i: int, p: int) -> None:
        self._m, self._p = program.dim, p
        values = centred(program.coefficients.residues(p)[i], p)
        self._terms = [(b, tuple(program.exponents[k].tolist()), values[b, k]) for b, k in np.argwhere(values).tolist()]
        self._known: dict[tuple[int, int], scipy.sparse.csr_matrix] = {}

    def of(self, rows: Residues, level: int, to: int) -> Residues:
        """The brackets of fields of degree <= level, as rows over the monomials of degree <= to."""
        if (level, to) not in self._known:
            self._known[level, to] = self._matrix(level, to)
        found = self._known[level, to] @ rows[:, : self._m * monomial_count(self._m, level)].T
        return reduce(np.ascontiguousarray(found.T), self._p)

    def _matrix(self, level: int, to: int) -> scipy.sparse.csr_matrix:
        m, p = self._m, self._p
        betas, targets = monomial_exponents(m, level), monomial_exponents(m, to)
        # Exponents as one number each, so that sums of exponents are looked up all at once.
        base = max(level, to, 1) + max((sum(g) for _, g, _ in self._terms), default=0) + 2
        radix = np.array([base**b if base**m < 2**62 else 0 for b in range(m)], dtype=np.int64)
        if base**m >= 2**62:
            raise ValueError(f"fields on R^{m} have too many monomials of degree {to} for a universality check")
        codes = targets @ radix
        order = np.argsort(codes)
        sources: list[Any] = []
        places: list[Any] = []
        weights: list[Any] = []

        def add(wanted: Any, valid: Any, component_in: Any, component_out: Any, weight: Any) -> None:
            where = np.flatnonzero(valid)
            found = order[np.minimum(np.searchsorted(codes[order], wanted[where]), len(codes) - 1)]
            hit = codes[found] == wanted[where]
            where, found = where[hit], found[hit]
            sources.append(where * m + component_in)
            places.append(found * m + component_out)
            weights.append(np.broadcast_to(weight, valid.shape)[where])

        code = betas @ radix
        for b, gamma, value in self._terms:
            shift = int(np.array(gamma) @ radix)
            # D W V: the monomial beta of each component, differentiated by x_b.
            by_b = betas[:, b]
            slope = reduce(value * by_b.astype(np.float64), p)
            for a in range(m):
                add(code + shift - radix[b], by_b > 0, a, a, slope)
            # - D V W: component b of V, differentiated by x_c, times component c of W.
            for c in range(m):
                if gamma[c]:
                    weight = float(reduce(np.array([-value * gamma[c]]), p)[0])
                    add(code + shift - radix[c], np.ones(len(betas), dtype=bool), c, b, weight)
        size = (len(targets) * m, len(betas) * m)
        if not sources:
            return scipy.sparse.csr_matrix(size)
        entries = (np.concatenate(weights), (np.concatenate(places), np.concatenate(sources)))
        matrix = scipy.sparse.csr_matrix(entries, shape=size)
        matrix.data = reduce(matrix.data, p)
        if np.diff(matrix.indptr).max(initial=0) > 2**14:
            raise ValueError("fields of so many monomials that sums of their products are not exact")
        return matrix
