"""Universality: brackets that fill the polynomial fields of some degree, and so hold for every N at all points."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from theory.certificate import Certificate, Run
from theory.data import to_data
from theory.monomials import monomial_count, monomial_exponents
from theory.points import Progress, fresh_seed
from theory.primes import modulo_some_prime
from theory.programs.monomial import MonomialProgram
from theory.programs.restricted import RestrictedProgram
from theory.reading import as_monomials, read_fields
from theory.rowspace import Residues, RowSpace, centred, reduce

if TYPE_CHECKING:
    import sympy

# Coefficients of a polynomial field: beyond this the echelon forms take too long.
_MOST_COLUMNS = 8000


def universal(
    fields: Any,
    *,
    symbols: Sequence[sympy.Symbol] | None = None,
    min_degree: int = 2,
    max_degree: int | None = None,
    primes: int = 2,
    seed: int | None = None,
    time_limit: float | None = None,
    progress: Progress | None = None,
) -> Certificate:
    """Whether brackets of polynomial fields span all polynomial fields: then any N distinct points can be steered.

    Let P_D be the polynomial fields of degree at most D, of dimension m C(m + D, m). If brackets whose degrees are
    at most D fill P_D for some D >= 2, they contain five fields that generate all (`theory.five_fields`), and the
    N-point condition holds for every N at all distinct points. On the line (m = 1) D >= 3 is asked for, as brackets of
    quadratic fields stay quadratic there, and flows keep the order of the points.

    A rank that is full modulo a prime is full over the rationals. That modulo p the span contains P_2 would prove
    nothing: the fields (1 - p x_1) V_i look like V_i modulo p, and all their brackets vanish at x_1 = 1/p. So degrees
    are those of the exact coefficients, and P_D must be filled to its whole dimension. Hamiltonian and divergence-free
    families interpolate too, but by another algebra; they never get this certificate.

    Args:
        fields: as `theory.reading.read_fields`, polynomial.
        symbols: of SymPy expressions.
        min_degree: the least D to try: a larger one shows that all fields up to it are among the brackets.
        max_degree: the largest D to try; where None, a little beyond the first that counting brackets allows.
        primes: how many primes are tried before a deficient rank is reported.
        seed: of the primes.
        time_limit: seconds, after which what has been found is reported.
        progress: called with the rank and the dimension of P_D as they grow.

    Returns:
        A certificate with claim "universal" and scope "polynomial".

    Raises:
        ValueError: fields that are not polynomial; degrees below 2, or the largest below the least.
        TypeError: as `read_fields`.
    """
    program = read_fields(fields, symbols)
    least = 3 if program.dim == 1 else 2
    if min_degree < 2 or (max_degree is not None and max_degree < max(least, min_degree)):
        raise ValueError(
            f"min_degree is {min_degree} and max_degree {max_degree}, expected {least} <= min_degree <= max_degree: "
            f"P_D must contain the {'cubic' if least == 3 else 'quadratic'} fields"
        )
    monomials = as_monomials(program)
    if isinstance(program, RestrictedProgram):
        raise ValueError(
            f"{program}: what is known in a ball only says nothing of all points; certify the fields without the cutoff"
        )
    prover = UniversalProver(monomials, str(program), min_degree, max_degree, primes, time_limit, progress)
    return prover.prove(seed)


@dataclass(frozen=True)
class UniversalProver:
    """Data of a universality check, ready to be proved.

    Attributes:
        program: the fields by their monomials.
        subject: the fields in words.
        min_degree: the least D.
        max_degree: the largest D, or None.
        primes: how many to try.
        time_limit: seconds, or None.
        progress: told of the rank as it grows.
    """

    program: MonomialProgram
    subject: str
    min_degree: int = 2
    max_degree: int | None = None
    primes: int = 2
    time_limit: float | None = None
    progress: Progress | None = None

    def prove(self, seed: int | None) -> Certificate:
        """As `universal`."""
        program, seed = self.program, fresh_seed(seed)
        rng = np.random.default_rng(seed)
        deadline = math.inf if self.time_limit is None else time.monotonic() + self.time_limit
        least = max(self.min_degree, 3 if program.dim == 1 else 2)
        most = max(self.max_degree or _most_degree(program), least)
        found: list[_Filled] = []
        while not found or (len(found) < self.primes and time.monotonic() < deadline):
            found.append(modulo_some_prime(rng, lambda p: _fill(program, p, least, most, deadline, self.progress)))
            if found[-1].proved:
                break
        best = max(found, key=lambda filled: (filled.proved, filled.rank))
        return Certificate(
            claim="universal",
            proved=best.proved,
            scope="polynomial",
            rank=best.rank,
            full_rank=best.full,
            depth=best.depth,
            dim=program.dim,
            count=program.count,
            points=None,
            degree=best.degree,
            runs=tuple(Run(filled.prime, filled.rank, filled.depth) for filled in found),
            seed=seed,
            subject=self.subject,
            dtype=program.dtype,
            digest=program.digest(),
            points_digest=None,
            note="" if best.proved or time.monotonic() < deadline else f"stopped after {self.time_limit:g} s",
            prover=replace(self, time_limit=None, progress=None),
            data=self._data(),
        )

    def _data(self) -> dict[str, Any] | None:
        data = to_data(self.program, None)
        return None if data is None else {**data, "min_degree": self.min_degree, "max_degree": self.max_degree}


@dataclass(frozen=True)
class _Filled:
    prime: int
    proved: bool
    rank: int
    full: int
    degree: int
    depth: int


def _most_degree(program: MonomialProgram) -> int:
    """A little beyond the first degree that brackets can fill by their number; what is feasible, at most."""
    from theory.words import witt

    m, d, k = program.dim, program.count, max(program.degree, 2)
    degree, words, length = k, d, 1
    while words < m * monomial_count(m, degree) and degree < 40:
        length, degree = length + 1, degree + k - 1
        words += witt(d, length)
    degree += 2 * (k - 1)
    while degree > 2 and m * monomial_count(m, degree) > _MOST_COLUMNS:
        degree -= 1
    return max(degree, 3)


def _fill(
    program: MonomialProgram, p: int, least: int, most: int, deadline: float, progress: Progress | None
) -> _Filled:
    """Brackets by the degree that they have at most, level by level, until some P_D with least <= D <= most is full."""
    m = program.dim
    degrees = _degrees(program)
    brackets = [_Bracket(program, i, p) for i in range(program.count)]
    rises = [k - 1 for k in degrees]
    # Rows of level g are fields of degree at most g: their last coefficients are zero, so that each level has a space
    # of its own as long as brackets may come back to it, and one space serves all where they only rise.
    rising = min(rises) >= 1
    spaces: dict[int, RowSpace] = {}
    waiting: dict[int, list[tuple[int, Residues]]] = {}
    start = centred(program.coefficients.residues(p), p)
    for i, degree in enumerate(degrees):
        if degree <= most:
            row = _placed(program, start[i : i + 1], degree)
            waiting.setdefault(degree, []).append((1, row))
    best = _Filled(p, False, 0, m * monomial_count(m, least), least, 0)
    single = RowSpace(m, p)
    depth = 0
    while waiting and time.monotonic() < deadline:
        level = min(waiting)
        batch = waiting.pop(level)
        depth = max(depth, *(length for length, _ in batch))
        length = max(length for length, _ in batch)
        columns = m * monomial_count(m, level)
        if rising:
            space = single
            if columns > space.columns:
                space.widen(columns)
        else:
            space = spaces.setdefault(level, RowSpace(columns, p))
        before = space.rank
        space.add(np.concatenate([_widened(rows, columns) for _, rows in batch]))
        new = space.basis(before)
        if not rising and len(new):
            for other in range(level + 1, most + 1):
                wide = m * monomial_count(m, other)
                spaces.setdefault(other, RowSpace(wide, p)).add(_widened(new, wide))
        full = m * monomial_count(m, level)
        if level >= least and (space.rank > best.rank or space.rank == full):
            best = _Filled(p, space.rank == full, space.rank, full, level, depth)
        if progress is not None:
            progress(space.rank, full)
        if best.proved:
            return best
        if not len(new):
            continue
        for bracket, rise in zip(brackets, rises, strict=True):
            to = level + rise
            if 0 <= to <= most:
                waiting.setdefault(to, []).append((length + 1, bracket.of(new, level, to)))
    for level, space in sorted(spaces.items()):
        # Rows that came from below, after the level itself had its turn.
        if level >= least and (space.full or space.rank > best.rank):
            best = _Filled(p, space.full, space.rank, space.columns, level, depth)
        if best.proved:
            break
    return best


def _degrees(program: MonomialProgram) -> list[int]:
    """The degree of each field by its exact coefficients; 0 for the field that is zero."""
    size = program.exponents.sum(axis=1)
    used = (program.coefficients.numerators != 0).any(axis=1)
    return [int(size[row].max(initial=0)) for row in np.asarray(used, dtype=bool)]


def _placed(program: MonomialProgram, coefficients: Residues, degree: int) -> Residues:
    """Fields of shape (rows, m, monomials) as rows over the monomials of degree <= degree, components the fastest."""
    m = program.dim
    place = {tuple(a): k for k, a in enumerate(monomial_exponents(m, degree).tolist())}
    out = np.zeros((len(coefficients), len(place), m))
    for k, a in enumerate(program.exponents.tolist()):
        if sum(a) <= degree:
            out[:, place[tuple(a)]] = coefficients[:, :, k]
    return out.reshape(len(coefficients), -1)


def _widened(rows: Residues, columns: int) -> Residues:
    if rows.shape[1] == columns:
        return rows
    return np.concatenate([rows, np.zeros((len(rows), columns - rows.shape[1]))], axis=1)


class _Bracket:
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
        return matrix
