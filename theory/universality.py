"""Universality: brackets that fill the polynomial fields of some degree, and so hold for every N at all points."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from theory.bounds import universality
from theory.certificate import PROVERS, Certificate, Run
from theory.closure import GradedClosure, Level, placed
from theory.data import from_data, to_data
from theory.effort import Progress, check_effort, fresh_seed
from theory.lifting import Lift, generators, lift
from theory.monomials import monomial_count
from theory.primes import modulo_some_prime
from theory.programs.monomial import MonomialProgram
from theory.reading import as_monomials, read_fields
from theory.rowspace import centred

if TYPE_CHECKING:
    import sympy

# Coefficients of a polynomial field: beyond this the echelon forms take too long.
_MOST_COLUMNS = 8000
# Brackets among which combinations are looked for over the rationals: more take too long.
_MOST_WORDS = 200


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
    are those of the exact coefficients, and P_D must be filled to its whole dimension. Where brackets contain the five
    without filling any P_D, as their highest parts may generate little, combinations of brackets that are the five are
    found over the rationals and multiplied out (`Certificate.lift`). Hamiltonian and divergence-free families
    interpolate too, but by another algebra; they never get this certificate.

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
    check_effort(primes, time_limit)
    monomials = as_monomials(program)
    if not program.everywhere:
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

    @classmethod
    def of(cls, certificate: Certificate) -> UniversalProver:
        """As `theory.certificate.Prover.of`."""
        data = certificate.data or {}
        program, _ = from_data(data)
        if not isinstance(program, MonomialProgram):
            raise ValueError(f"the certificate is universal and about {program}: universality is about monomials")
        return cls(program, certificate.subject, data["min_degree"], data["max_degree"])

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
        impossible = "" if best.proved else universality(program)
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
            degree=None if best.lift else best.degree,
            runs=tuple(Run(filled.prime, filled.rank, filled.depth) for filled in found),
            seed=seed,
            subject=self.subject,
            dtype=program.dtype,
            digest=program.digest(),
            points_digest=None,
            lift=best.lift,
            impossible=impossible,
            note="" if best.proved or impossible else self._why(best, most, deadline),
            prover=replace(self, time_limit=None, progress=None),
            data=self._data(),
        )

    def _why(self, best: _Filled, most: int, deadline: float) -> str:
        if time.monotonic() >= deadline:
            return f"stopped after {self.time_limit:g} s"
        return f"to fill degree {best.degree}; degrees up to {most} were tried, and max_degree asks for more"

    def _data(self) -> dict[str, Any] | None:
        data = to_data(self.program, None)
        return None if data is None else {**data, "min_degree": self.min_degree, "max_degree": self.max_degree}


PROVERS["universal"] = UniversalProver


@dataclass(frozen=True)
class _Filled:
    prime: int
    proved: bool
    rank: int
    full: int
    degree: int
    depth: int
    lift: Lift | None = None


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
    """Brackets degree by degree until some P_D with least <= D <= most is full, or contains what generates all."""
    m = program.dim
    closure = GradedClosure(program, p, most)
    wanted = generators(m)
    coefficients = centred(wanted.coefficients.residues(p), p)
    best = _Filled(p, False, 0, m * monomial_count(m, least), least, 0)
    within: Level | None = None
    for found in closure.levels(deadline):
        degree, space = found.degree, found.space
        full = m * monomial_count(m, degree)
        if progress is not None:
            progress(space.rank, full)
        if degree >= least and (space.rank > best.rank or space.rank == full):
            best = _Filled(p, space.rank == full, space.rank, full, degree, found.depth)
        if best.proved:
            return best
        if within is None and degree >= wanted.degree:
            within = found if space.contains(placed(wanted.exponents, coefficients, degree)) else None
    lifted = None if within is None else _lifted(closure, program, p, within, deadline)
    return lifted or best


def _lifted(closure: GradedClosure, program: MonomialProgram, p: int, level: Level, deadline: float) -> _Filled | None:
    words = closure.words(level.degree)
    found = lift(program, words, p, deadline) if len(words) <= _MOST_WORDS else None
    if found is None:
        return None
    count = len(found.combinations)
    return _Filled(p, True, count, count, level.degree, max(map(len, found.words)), found)
