"""The N-point Hoermander condition (Chow and Rashevskii), proved at given points."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from theory.bounds import Bound, at_points
from theory.certificate import PROVERS, Certificate, Run
from theory.data import from_data, to_data
from theory.effort import Progress, check_effort, deadline_after, fresh_seed
from theory.exact import ExactArray, exact_array
from theory.primes import modulo_some_prime
from theory.program import Program
from theory.programs.union import UnionProgram
from theory.rank import ranks_modulo_primes
from theory.reading import read_fields
from theory.spanning import MOST_DEPTH, are_independent, independent_words
from theory.words import Word

if TYPE_CHECKING:
    import sympy


def check_points(
    fields: Any,
    points: npt.ArrayLike | ExactArray,
    *,
    symbols: Sequence[sympy.Symbol] | None = None,
    in_turn: bool = False,
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

    Families that act one after the other (in_turn=True), as where the fields of a network are fresh on every interval,
    make no brackets of fields of two: the sum of their algebras at the points must be everything. That is enough: each
    family has controls, as small as one likes, that carry the points back to where they were and whose endpoint's
    derivative has that family's algebra for image (E. D. Sontag, "Control of systems without drift via generic loops",
    IEEE Transactions on Automatic Control 40, 1995); one after the other these come as near to the sum as one likes.

    Args:
        fields: as `theory.reading.read_fields`: a family of cde_nets, a program, or SymPy expressions.
        points: (N, m) integers, Fractions or floats (the dyadic rationals they are), no two equal.
        symbols: of SymPy expressions.
        in_turn: fields are a `UnionProgram`, whose parts act one after the other: brackets are those within a part.
        words: also find explicit brackets that are independent at the points, as many as the full rank:
            `Certificate.words`, of at most ten letters. `Certificate.verify` then tries these very ones again.
        primes: how many primes are tried before a deficient rank is reported.
        seed: of primes and curves; drawn where None, and kept in the certificate.
        time_limit: seconds, after which what has been found is reported.
        progress: called with the rank and the full rank as it grows.

    Returns:
        A certificate with claim "points", or "points in turn". Memory is that of some (m N)**2 / 2 float64 numbers and
        of what is held along a curve (see `theory.memory`): 0.6 GB for a rank of 7,120 of 248 fields on R^90, 1.8 GB
        for one of 7,836 on R^1960.

    Raises:
        ValueError: no points, points that coincide or are not finite, or of another dimension; primes below 1 or a
            time_limit that is negative; more memory needed than the machine has; in_turn with fields that are no
            `UnionProgram`; fields as `read_fields`.
        TypeError: as `read_fields`.
    """
    program = read_fields(fields, symbols)
    x = exact_array(points, "points")
    check_distinct(program, x)
    check_effort(primes, time_limit)
    if in_turn and not isinstance(program, UnionProgram):
        raise ValueError(
            f"in_turn=True is about families that act one after the other, and these fields are one ({program}): give "
            "theory.UnionProgram([..]) of them"
        )
    return PointsProver(program, x, words or None, primes, time_limit, progress, in_turn=in_turn).prove(seed)


_CLAIM, _IN_TURN = "points", "points in turn"


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
        in_turn: the program is a union, whose parts act one after the other.
    """

    program: Program
    points: ExactArray
    words: bool | tuple[Word, ...] | None = None
    primes: int = 3
    time_limit: float | None = None
    progress: Progress | None = None
    in_turn: bool = False

    @property
    def families(self) -> tuple[Program, ...]:
        """Those whose fields make brackets with each other."""
        return self.program.parts if self.in_turn and isinstance(self.program, UnionProgram) else (self.program,)

    @classmethod
    def of(cls, certificate: Certificate) -> PointsProver:
        """As `theory.certificate.Prover.of`."""
        program, points = from_data(certificate.data or {})
        if points is None:
            raise ValueError("the certificate is about points and has none")
        check_distinct(program, points)
        in_turn = certificate.claim == _IN_TURN
        if in_turn and not isinstance(program, UnionProgram):
            raise ValueError(f"the certificate claims {_IN_TURN!r} of one family, expected fields of the kind 'union'")
        full, words = full_rank_at(program, points), certificate.words
        if words and (
            len(words) != full
            or any(not 1 <= len(word) <= MOST_DEPTH for word in words)
            or any(type(letter) is not int or not 0 <= letter < program.count for word in words for letter in word)
        ):
            raise ValueError(f"the certificate has words that are not {full} of letters 0 to {program.count - 1}")
        return cls(program, points, words or None, in_turn=in_turn)

    def prove(self, seed: int | None) -> Certificate:
        """As `check_points`."""
        program, x = self.program, self.points
        seed = fresh_seed(seed)
        rng, deadline = np.random.default_rng(seed), deadline_after(self.time_limit)
        target = full_rank_at(program, x)
        runs = ranks_modulo_primes(self.families, x, target, self.primes, rng, deadline, self.progress)
        best = max(runs, key=lambda run: run.rank)
        late = time.monotonic() >= deadline and best.rank < target
        words = self._words(rng, best, target, deadline) if self.words and best.rank == target else ()
        missing = "" if words or not self.words else self._missing(target, deadline)
        return certificate_at(
            _IN_TURN if self.in_turn else _CLAIM,
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
        families, x, given, p = self.families, self.points, self.words, run.prime
        if not isinstance(given, tuple):
            found = independent_words(families, x, p, target, min(run.depth, MOST_DEPTH), rng, deadline)
            return tuple(found) if len(found) == target else ()
        # A prime divides the one determinant that is not zero by bad luck only.
        lucky = are_independent(families, x, given, p) or any(
            modulo_some_prime(rng, lambda q: are_independent(families, x, given, q)) for _ in range(self.primes - 1)
        )
        return given if lucky else ()

    def _missing(self, target: int, deadline: float) -> str:
        if isinstance(self.words, tuple):
            return "the words at hand were not seen to be independent"
        late = f" within {self.time_limit:g} s" if time.monotonic() > deadline else ""
        return f"no {target} independent words of at most {MOST_DEPTH} letters were found{late}"


PROVERS[_CLAIM] = PROVERS[_IN_TURN] = PointsProver


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
