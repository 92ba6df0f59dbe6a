"""What has been proved about a family of fields, with all that is needed to prove it again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Protocol

from theory.words import Word, right_normed

if TYPE_CHECKING:
    from theory.lifting import Lift

FORMAT = 2


@dataclass(frozen=True)
class Run:
    """One computation modulo one prime.

    Attributes:
        prime: p, drawn at random.
        rank: the rank found modulo p: never more than the rank over the rationals.
        depth: the rows are combinations of brackets of depth at most this.
        curves: the random controls of the curves, residues modulo p: curves[c][k][i] is the coefficient of t**k of u_i.
    """

    prime: int
    rank: int
    depth: int
    curves: tuple[tuple[tuple[int, ...], ...], ...] = ()


class Prover(Protocol):
    """How a certificate is made again: the data it is about, and the computation."""

    def prove(self, seed: int | None) -> Certificate:
        """The same question, answered with other random numbers."""

    @classmethod
    def of(cls, certificate: Certificate) -> Prover:
        """The prover of a certificate that was read from JSON, by its `data`.

        Raises:
            ValueError: data that no such certificate has.
        """


# By claim: the modules that make certificates enter theirs.
PROVERS: dict[str, type[Prover]] = {}


@dataclass(frozen=True)
class Certificate:
    """The answer to whether brackets of a family span, by exact arithmetic modulo random primes.

    A full rank modulo a prime is a proof over the rationals, and so for the very coefficients and points given (floats
    are the dyadic rationals they are). A deficient rank proves nothing, however many primes agree: `proved` is then
    False and means "not proved", never "false".

    Attributes:
        claim: "points" (the N-point Hoermander condition at given points), "points in turn" (the same of families that
            act one after the other, without brackets of fields of two), "universal" (for every N, at all distinct
            points) or "strong accessibility" (at given points, with a drift: see `theory.check_accessibility`).
        proved: whether the rank is full.
        scope: what a proof covers: "points", "sphere" (tangent to the spheres through the points), either with "of the
            ball" behind where a cutoff leaves the fields polynomial in a ball only, or "polynomial" (brackets span all
            polynomial fields).
        rank: the best rank found.
        full_rank: the rank that proves the claim.
        depth: brackets up to this depth were used.
        dim: m.
        count: d, the number of fields.
        points: N; None for a universal claim.
        degree: for a universal claim, the degree D of the polynomial fields that brackets fill; None for others, and
            where the proof is a lift.
        runs: the computations, a prime each.
        seed: of the random numbers.
        subject: the family in words.
        dtype: the floating dtype the coefficients came from, or None.
        digest: sha256 of the exact coefficients.
        points_digest: sha256 of the exact points, or None.
        lift: for a universal claim, the combinations of brackets that generate all, where that was the proof.
        words: for a claim about points, where they were asked for and found: right-normed words (a, b, .., c), for the
            brackets [V_a, [V_b, .. V_c]] with fields counted from 0, as many as the full rank and independent.
        impossible: why the claim does not hold, where that is plain by other means than a rank modulo primes.
        note: why nothing is proved, or nothing more, where more can be said.
        data: fields and points as JSON values (see `theory.data`); None where there are more than two million
            coefficients, or where a program is of a class of the user's own.
    """

    claim: str
    proved: bool
    scope: str
    rank: int
    full_rank: int
    depth: int
    dim: int
    count: int
    points: int | None
    degree: int | None
    runs: tuple[Run, ...]
    seed: int
    subject: str
    dtype: str | None
    digest: str
    points_digest: str | None
    lift: Lift | None = None
    words: tuple[Word, ...] = ()
    impossible: str = ""
    note: str = ""
    prover: Prover | None = field(default=None, repr=False, compare=False)
    data: dict[str, Any] | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        primes = [run.prime for run in self.runs]
        within = " within families that act in turn" if self.claim == "points in turn" else ""
        if not self.proved:
            count = "1 prime" if len(primes) == 1 else f"{len(primes)} primes"
            why = f" ({self.note})" if self.note else ""
            said = (
                f"Not proved: rank {self.rank} of {self.full_rank} with {count}, brackets of depth <= {self.depth}"
                f"{within}{why}"
            )
            if self.impossible and self.claim == "universal":
                return f"{said}. They do not span all polynomial fields: {self.impossible}."
            if self.impossible:
                return f"{said}. It does not hold: {self.impossible}."
            return f"{said}. A deficient rank modulo a prime proves nothing either way."
        modulo = f"modulo {primes[-1]}"
        if self.claim == "universal":
            order = " (on the line a flow keeps the order of points: those in the same order)" if self.dim == 1 else ""
            if self.lift is not None:
                return (
                    f"Proved: {len(self.lift.words)} brackets of depth <= {self.depth} combine, exactly over the "
                    f"rationals, to {self.full_rank} fields that generate all polynomial fields: the condition holds "
                    f"for every N at all distinct points{order}."
                )
            return (
                f"Proved: brackets contain all fields of degree <= {self.degree} ({self.rank} of {self.full_rank} "
                f"{modulo}), and so all polynomial fields: the condition holds for every N at all distinct points"
                f"{order}."
            )
        where = "on the spheres through these points" if self.scope.startswith("sphere") else "at these points"
        generic = "points of the ball" if self.scope.endswith("of the ball") else "points"
        if self.claim == "strong accessibility":
            return (
                f"Proved: rank {self.rank} of {self.full_rank} {modulo} {where}, brackets of depth <= {self.depth} "
                f"with a controlled field in each: strong accessibility holds there, and for generic {generic} and "
                "coefficients."
            )
        return (
            f"Proved: rank {self.rank} of {self.full_rank} {modulo} {where}, brackets of depth <= {self.depth}"
            f"{within}: the {self.points}-point condition holds there, and for generic {generic} and coefficients."
        )

    def __bool__(self) -> bool:
        return self.proved

    def brackets(self, *, latex: bool = False) -> list[str]:
        """The explicit brackets of the proof, `words` or those of the `lift`, as text: [V_1, [V_2, V_1]] and so on."""
        from theory.brackets import nesting_text

        return [
            nesting_text(right_normed(word), latex=latex) for word in (self.lift.words if self.lift else self.words)
        ]

    def verify(self, seed: int | None = None) -> Certificate:
        """The same claim computed again from the data, with other primes and other random numbers.

        Raises:
            ValueError: the certificate was read from JSON without data, or the data are not those it was made for.
        """
        if self.prover is None:
            raise ValueError("this certificate holds no data to verify: make it anew with theory.check_points")
        again = self.prover.prove(seed)
        if (again.digest, again.points_digest) != (self.digest, self.points_digest):
            raise ValueError("the data have changed since this certificate was made: their digests differ")
        return again

    def to_json(self) -> str:
        """All of it as JSON; `theory/checker.py` proves it again from this alone, where there are data."""
        content = asdict(replace(self, prover=None))
        content.pop("prover")
        return json.dumps({"format": FORMAT, **content}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Certificate:
        """Read what `to_json` wrote.

        Raises:
            ValueError: no certificate, or one of another format.
        """
        from theory.lifting import Lift

        try:
            content = json.loads(text)
            found = content.pop("format")
            if found != FORMAT:
                raise ValueError(f"the certificate has format {found}, expected {FORMAT}: make it anew")
            lacking = sorted({part.name for part in fields(cls)} - {"prover", *content})
            if lacking:
                raise ValueError(f"this is no certificate: it has no {lacking[0]}")
            runs = tuple(Run(**{**run, "curves": _tuples(run["curves"])}) for run in content.pop("runs"))
            lifted = content.pop("lift")
            lift = None if lifted is None else Lift(**{name: _tuples(part) for name, part in lifted.items()})
            words = _tuples(content.pop("words"))
            made = cls(runs=runs, lift=lift, words=words, **content)
            _check(made)
            return made if made.data is None else replace(made, prover=PROVERS[made.claim].of(made))
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(
                f"this is no certificate: expected the JSON that Certificate.to_json writes ({error!r})"
            ) from error


# What stands in a certificate besides runs, words, lift and data.
_COUNTS = ("rank", "full_rank", "depth", "dim", "count", "seed")
_TEXTS = ("claim", "scope", "subject", "digest", "impossible", "note")
# A word is read by as many calls of one function.
_MOST_LETTERS = 256


def _check(made: Certificate) -> None:
    """Refuse values of other types than a certificate's.

    Raises:
        ValueError: a value is of another type, or out of range.
    """
    wrong = [name for name in _COUNTS if not _is_count(getattr(made, name))]
    wrong += [name for name in ("points", "degree") if not _is_count(getattr(made, name) or 0)]
    wrong += [name for name in _TEXTS if not isinstance(getattr(made, name), str)]
    wrong += [name for name in ("dtype", "points_digest") if not isinstance(getattr(made, name), str | None)]
    wrong += [] if isinstance(made.proved, bool) else ["proved"]
    wrong += [] if isinstance(made.data, dict | None) else ["data"]
    wrong += [] if all(_is_run(run) for run in made.runs) else ["runs"]
    lifted = made.lift is None or (_are_words(made.lift.words, made.count) and _are_texts(made.lift.combinations))
    wrong += [] if lifted else ["lift"]
    if made.claim not in PROVERS:
        raise ValueError(f"this is no certificate: it claims {made.claim!r}, expected one of {', '.join(PROVERS)}")
    if wrong:
        raise ValueError(f"this is no certificate: {wrong[0]} is {str(getattr(made, wrong[0]))[:80]!r}")
    if not _are_words(made.words, made.count):
        raise ValueError(
            f"the certificate has words that are not {made.full_rank} of letters 0 to {made.count - 1}, of at most "
            f"{_MOST_LETTERS} each"
        )
    if not made.runs:
        raise ValueError("the certificate holds no runs")


def _is_count(value: Any) -> bool:
    # True is an int to Python, and no number of anything.
    return type(value) is int and value >= 0


def _is_run(run: Run) -> bool:
    rows = [row for curve in _tuple(run.curves) for row in _tuple(curve)]
    residues = [c for row in rows for c in _tuple(row)]
    return all(map(_is_count, (run.prime, run.rank, run.depth))) and run.prime > 1 and all(map(_is_count, residues))


def _tuple(value: Any) -> tuple[Any, ...]:
    # An object or a text would be gone through, too.
    if not isinstance(value, tuple):
        raise TypeError(f"expected a list, found {value!r:.40}")
    return value


def _are_words(words: Any, count: int) -> bool:
    return isinstance(words, tuple) and all(
        isinstance(word, tuple)
        and 0 < len(word) <= _MOST_LETTERS
        and all(_is_count(letter) and letter < count for letter in word)
        for word in words
    )


def _are_texts(rows: Any) -> bool:
    return isinstance(rows, tuple) and all(
        isinstance(row, tuple) and all(isinstance(c, str) for c in row) for row in rows
    )


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
