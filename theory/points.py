"""The N-point Hoermander condition (Chow and Rashevskii), proved at given points."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from theory.bounds import Bound, at_points
from theory.certificate import PROVERS, Certificate, Run
from theory.curve import Curve
from theory.data import from_data, to_data
from theory.exact import ExactArray, exact_array
from theory.memory import most_orders
from theory.primes import modulo_some_prime
from theory.program import Program
from theory.reading import read_fields
from theory.rowspace import Residues, RowSpace, centred
from theory.schedule import CONTROL_DEGREE, schedule
from theory.spanning import MOST_DEPTH, are_independent, independent_words
from theory.words import Word

if TYPE_CHECKING:
    import sympy

Progress = Callable[[int, int], None]

# Curves in a row that bring nothing new, each with more orders, before a rank is taken for what it is.
_PATIENCE = 2
_MORE_ORDERS, _MOST_ORDERS = 6, 64
# Numbers that a curve of the most orders may hold: 8 MB for each of its series.
_MOST_NUMBERS = 2**20


def check_points(
    fields: Any,
    points: npt.ArrayLike | ExactArray,
    *,
    symbols: Sequence[sympy.Symbol] | None = None,
    words: bool = False,
    primes: int = 3,
    seed: int | None = None,
    time_limit: float | None = None,
    progress: Progress | None = None,
) -> Certificate:
    """Whether brackets of the fields span (R^m)^N at N points: then controls carry them to any others nearby.

    The stacked fields (V_i(x_1), .., V_i(x_N)) and their brackets must have rank m N. The rank is computed modulo
    random primes along random curves (see `theory.curve.Curve`): full modulo one prime, it is full. Fields tangent to
    spheres (theory.SphericalProgram, cde_nets.SphericalFields) are asked for the rank (m - 1) N, all there is on them.

    The condition and what follows from it: C. Cuchiero, M. Larsson and J. Teichmann, "Deep neural networks, generic
    universal interpolation, and controlled ODEs", SIAM Journal on Mathematics of Data Science 2(3), 2020.

    Args:
        fields: as `theory.reading.read_fields`: a family of cde_nets, a program, or SymPy expressions.
        points: (N, m) integers, Fractions or floats (the dyadic rationals they are), no two equal.
        symbols: of SymPy expressions.
        words: also find explicit brackets that are independent at the points, as many as the full rank:
            `Certificate.words`, of at most ten letters. `Certificate.verify` then tries these very ones again.
        primes: how many primes are tried before a deficient rank is reported.
        seed: of primes and curves; drawn where None, and kept in the certificate.
        time_limit: seconds, after which what has been found is reported.
        progress: called with the rank and the full rank as it grows.

    Returns:
        A certificate with claim "points". Memory is that of some (m N)**2 / 2 float64 numbers and of what is held along
        a curve (see `theory.memory`): 0.6 GB for a rank of 7,120 of 248 fields on R^90, 1.8 GB for one of 7,836 on
        R^1960.

    Raises:
        ValueError: no points, points that coincide or are not finite, or of another dimension; primes below 1 or a
            time_limit that is negative; more memory needed than the machine has; fields as `read_fields`.
        TypeError: as `read_fields`.
    """
    program = read_fields(fields, symbols)
    x = exact_array(points, "points")
    check_distinct(program, x)
    check_effort(primes, time_limit)
    return PointsProver(program, x, words or None, primes, time_limit, progress).prove(seed)


@dataclass(frozen=True)
class PointsProver:
    """Data of an N-point check, ready to be proved.

    Attributes:
        program: the fields.
        points: exact, (N, m).
        words: True to look for explicit brackets, those that are to be tried again, or None.
        primes: how many to try.
        time_limit: seconds, or None.
        progress: told of the rank as it grows.
    """

    program: Program
    points: ExactArray
    words: bool | tuple[Word, ...] | None = None
    primes: int = 3
    time_limit: float | None = None
    progress: Progress | None = None

    @classmethod
    def of(cls, certificate: Certificate) -> PointsProver:
        """As `theory.certificate.Prover.of`."""
        program, points = from_data(certificate.data or {})
        if points is None:
            raise ValueError("the certificate is about points and has none")
        check_distinct(program, points)
        full, words = full_rank_at(program, points), certificate.words
        if words and (
            len(words) != full
            or any(not 1 <= len(word) <= MOST_DEPTH for word in words)
            or any(type(letter) is not int or not 0 <= letter < program.count for word in words for letter in word)
        ):
            raise ValueError(f"the certificate has words that are not {full} of letters 0 to {program.count - 1}")
        return cls(program, points, words or None)

    def prove(self, seed: int | None) -> Certificate:
        """As `check_points`."""
        program, x = self.program, self.points
        seed = fresh_seed(seed)
        rng, deadline = np.random.default_rng(seed), deadline_after(self.time_limit)
        target = full_rank_at(program, x)
        runs = ranks_modulo_primes(program, x, target, self.primes, rng, deadline, self.progress)
        best = max(runs, key=lambda run: run.rank)
        late = time.monotonic() >= deadline and best.rank < target
        words = self._words(rng, best, target, deadline) if self.words and best.rank == target else ()
        missing = "" if words or not self.words else self._missing(target, deadline)
        return certificate_at(
            "points",
            program,
            x,
            runs,
            seed,
            subject=str(program),
            words=words,
            impossible=below(at_points(program, x), target) if best.rank < target else "",
            note=f"stopped after {self.time_limit:g} s" if late else missing,
            prover=replace(self, words=words or self.words, time_limit=None, progress=None),
            data=to_data(program, x),
        )

    def _words(self, rng: np.random.Generator, run: Run, target: int, deadline: float) -> tuple[Word, ...]:
        """Words of full rank, those at hand or new ones; none where they are not found."""
        program, x, given, p = self.program, self.points, self.words, run.prime
        if not isinstance(given, tuple):
            found = independent_words(program, x, p, target, min(run.depth, MOST_DEPTH), rng, deadline)
            return tuple(found) if len(found) == target else ()
        # A prime divides the one determinant that is not zero by bad luck only.
        lucky = are_independent(program, x, given, p) or any(
            modulo_some_prime(rng, lambda q: are_independent(program, x, given, q)) for _ in range(self.primes - 1)
        )
        return given if lucky else ()

    def _missing(self, target: int, deadline: float) -> str:
        if isinstance(self.words, tuple):
            return "the words at hand were not seen to be independent"
        late = f" within {self.time_limit:g} s" if time.monotonic() > deadline else ""
        return f"no {target} independent words of at most {MOST_DEPTH} letters were found{late}"


PROVERS["points"] = PointsProver


def full_rank_at(program: Program, points: ExactArray) -> int:
    """The rank that is all of the space: m N, or (m - 1) N on spheres."""
    count, m = points.shape
    return (m - (program.manifold == "sphere")) * count


def certificate_at(
    claim: str, program: Program, points: ExactArray, runs: list[Run], seed: int, **said: Any
) -> Certificate:
    """A certificate about a rank at points, from the best of the runs; the rest is said by the prover."""
    best, target = max(runs, key=lambda run: run.rank), full_rank_at(program, points)
    return Certificate(
        claim=claim,
        proved=best.rank == target,
        scope=("sphere" if program.manifold == "sphere" else "points") + ("" if program.everywhere else " of the ball"),
        rank=best.rank,
        full_rank=target,
        depth=best.depth,
        dim=program.dim,
        count=program.count,
        points=len(points),
        degree=None,
        runs=tuple(runs),
        seed=seed,
        dtype=program.dtype,
        digest=program.digest(),
        points_digest=hashlib.sha256(points.canonical_bytes()).hexdigest(),
        **said,
    )


def below(bound: Bound, target: int) -> str:
    """Why a rank cannot be full, if the bound says so."""
    return "" if bound.rank >= target else f"the rank is at most {bound.rank}: {bound.reason}"


def ranks_modulo_primes(
    program: Program,
    points: ExactArray,
    target: int,
    primes: int,
    rng: np.random.Generator,
    deadline: float,
    progress: Progress | None,
    *,
    drift: bool = False,
) -> list[Run]:
    """The rank at the points modulo one random prime after the other, until it is the target.

    With `drift` the last field is one that nobody controls, and of the algebra only the ideal is taken that the other
    fields generate: brackets with at least one of them. At least one prime is tried.
    """
    runs: list[Run] = []
    while not runs or (len(runs) < primes and time.monotonic() < deadline):
        runs.append(modulo_some_prime(rng, lambda p: _run(program, points, target, p, rng, deadline, progress, drift)))
        if runs[-1].rank == target:
            break
    return runs


def _run(
    program: Program,
    points: ExactArray,
    target: int,
    p: int,
    rng: np.random.Generator,
    deadline: float,
    progress: Progress | None,
    drift: bool,
) -> Run:
    """The rank modulo p, by curves until it is full or no more come."""
    program._check_points(points, p)
    count, m = points.shape
    plan = schedule(m, program.count, program.degree, count, target)
    most = most_orders(program, count, target, plan.orders, _MOST_ORDERS, p)
    orders, idle, depth = plan.orders, 0, 0
    space = RowSpace(m * count, p)
    curves: list[Any] = []
    while space.rank < target and idle < _PATIENCE and time.monotonic() < deadline:
        if idle == _PATIENCE - 1:
            # The last one before giving up: brackets that are needed may be deeper than any plan expects.
            held = count * m * (m + program.count)
            orders = min(most, max(orders, _MOST_NUMBERS // held))
        elif curves and orders == 1:
            # Of order 0 a second curve brings nothing, whatever it is.
            orders = min(orders + _MORE_ORDERS, most)
        controls = centred(rng.integers(0, p, (CONTROL_DEGREE + 1, program.count)), p)
        curves.append(tuple(tuple(int(c) % p for c in row) for row in controls))
        curve = Curve(program, points, controls, orders, p)
        gained, used = _add(space, curve, orders, len(curves) == 1, target, deadline, drift)
        depth = max(depth, used)
        if gained == 0:
            idle, orders = idle + 1, min(orders + _MORE_ORDERS, most)
        else:
            idle = 0
        if progress is not None:
            progress(space.rank, target)
    return Run(p, space.rank, depth, tuple(curves))


def _add(
    space: RowSpace, curve: Curve, orders: int, first: bool, target: int, deadline: float, drift: bool
) -> tuple[int, int]:
    """Add a curve's rows; by how much the rank rose, and the depth of the brackets among them."""
    before = space.rank
    if first:
        # Order by order, so that the depth that is told is one that was needed.
        for n in range(orders):
            w = curve.coefficients()
            # The last field is the one that adds nothing. A drift stands there: of itself it has no controlled field.
            space.add(w if n == 0 and not drift else w[:-1])
            if space.rank == target or time.monotonic() > deadline:
                return space.rank - before, n + 1
        return space.rank - before, orders
    rows: list[Residues] = []
    for n in range(orders):
        w = curve.coefficients()
        # Of order 0, the fields themselves, nothing is new; and one field adds nothing at any other order.
        if n:
            rows.append(w[:-1])
        if time.monotonic() > deadline:
            return 0, 0
    if rows:
        space.add(np.concatenate(rows))
    return space.rank - before, orders


def check_distinct(program: Program, x: ExactArray) -> None:
    """Refuse what are no N >= 1 different points of the program's space."""
    if len(x.shape) != 2 or x.shape[1] != program.dim or not x.shape[0]:
        raise ValueError(
            f"points have shape {x.shape}, expected (N, {program.dim}) with N >= 1: a point of the space a row"
        )
    seen: dict[bytes, int] = {}
    for n in range(x.shape[0]):
        key = x[n].canonical_bytes()
        if key in seen:
            raise ValueError(
                f"points: rows {seen[key]} and {n} are the same point, which no flow tells apart: drop one"
            )
        seen[key] = n


def check_effort(primes: int, time_limit: float | None) -> None:
    """Refuse numbers of primes below one, and negative times."""
    if primes < 1:
        raise ValueError(f"primes is {primes}, expected at least 1")
    if time_limit is not None and not time_limit >= 0:
        raise ValueError(f"time_limit is {time_limit}, expected seconds from 0 up, or None")


def fresh_seed(seed: int | None) -> int:
    """A seed: the one given, or one drawn from the system's entropy."""
    return secrets.randbits(63) if seed is None else index(seed)


def deadline_after(limit: float | None) -> float:
    """The time, by `time.monotonic`, at which so many seconds are over."""
    return float("inf") if limit is None else time.monotonic() + limit
