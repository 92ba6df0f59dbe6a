"""What ranks cannot exceed, known without computing brackets: where they meet a lower bound, the rank is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

import numpy as np

from theory.exact import ExactArray
from theory.lifting import Field, as_dicts
from theory.program import Program
from theory.programs.monomial import MonomialProgram
from theory.words import witt

# Numbers that are evaluated exactly to see where all fields vanish.
_MOST = 20_000


class Limit(Enum):
    """What stops a rank; the value is what pictures and tables call it."""

    SPACE = "all of the space, mN"
    SPHERES = "tangent to spheres, (m − 1)N"
    ONE = "one field alone"
    LINEAR = "all linear fields, m²"
    AFFINE = "all affine fields, m(m + 1)"
    POLYNOMIALS = "all polynomial fields of this degree"
    LETTERS = "the free Lie algebra (Witt)"
    ZEROS = "points where all fields vanish"
    DRIFT = "an affine drift with constant fields"


@dataclass(frozen=True)
class Bound:
    """An upper bound of a rank.

    Attributes:
        rank: the bound.
        reason: in words, with the formula.
        limit: which kind of reason it is.
    """

    rank: int
    reason: str
    limit: Limit


def at_points(program: Program, points: ExactArray) -> Bound:
    """What all brackets of the fields span at most at N points.

    m N; (m - 1) N where fields are tangent to spheres; 1 of one field; m**2 of linear fields and m (m + 1) of affine
    ones; nothing at points where all fields vanish.
    """
    count, m = points.shape
    sphere = program.manifold == "sphere"
    bounds = [_space(m, count, sphere), *_algebra(program)]
    if count * m * program.count <= _MOST:
        values = program.evaluate(points).reshape(count, -1)
        zeros = [n for n in range(count) if not values[n].any()]
        if zeros:
            reason = f"all fields vanish at point {zeros[0]}, where brackets vanish too"
            bounds.append(Bound((m - sphere) * (count - len(zeros)), reason, Limit.ZEROS))
    return min(bounds, key=lambda bound: bound.rank)


def by_depth(program: Program, count: int, depth: int) -> Bound:
    """What brackets of depth at most `depth` span at most at N points.

    Also sum_(l <= depth) Witt(d, l), the brackets of the free Lie algebra, and m C(m + D, m), the polynomial fields of
    the degree D = depth (k - 1) + 1 that brackets of fields of degree k have.
    """
    m, sphere = program.dim, program.manifold == "sphere"
    bounds = [_space(m, count, sphere), *_algebra(program)]
    if not sphere and program.degree > 1:
        reach = depth * (program.degree - 1) + 1
        bounds.append(Bound(m * math.comb(m + reach, m), f"all polynomial fields of degree {reach}", Limit.POLYNOMIALS))
    letters = sum(witt(program.count, length) for length in range(1, depth + 1))
    bounds.append(Bound(letters, "the free Lie algebra (Witt)", Limit.LETTERS))
    return min(bounds, key=lambda bound: bound.rank)


def universality(program: MonomialProgram) -> str:
    """Why brackets of the fields are not all polynomial fields, where that is plain; else nothing."""
    if program.count == 1:
        return "the brackets of one field with itself vanish"
    fields = as_dicts(program)
    if all(sum(a) <= 1 for field in fields for _, a in field):
        return "brackets of affine fields are affine"
    # Brackets of fields of constant divergence have divergence zero.
    if all(_has_constant_divergence(field) for field in fields):
        return (
            "brackets of fields of constant divergence have divergence zero (such families may meet the N-point "
            "condition by another algebra: theory.check_points)"
        )
    return ""


def _space(m: int, count: int, sphere: bool) -> Bound:
    if sphere:
        return Bound((m - 1) * count, "(m - 1) N tangent to spheres", Limit.SPHERES)
    return Bound(m * count, "m N", Limit.SPACE)


def _algebra(program: Program) -> list[Bound]:
    m = program.dim
    if program.count == 1:
        return [Bound(1, "one field has no brackets but itself", Limit.ONE)]
    if program.manifold == "sphere" or program.degree > 1:
        return []
    if isinstance(program, MonomialProgram):
        constant = np.flatnonzero(program.exponents.sum(axis=1) == 0)
        if not (program.coefficients.numerators[:, :, constant] != 0).any():
            return [Bound(m * m, "linear fields have only m**2 dimensions", Limit.LINEAR)]
    return [Bound(m * (m + 1), "affine fields have only m (m + 1) dimensions", Limit.AFFINE)]


def _has_constant_divergence(field: Field) -> bool:
    total: dict[tuple[int, ...], Fraction] = {}
    for (j, a), c in field.items():
        if a[j]:
            lowered = tuple(k - (i == j) for i, k in enumerate(a))
            total[lowered] = total.get(lowered, Fraction(0)) + c * a[j]
    return all(not c for a, c in total.items() if any(a))
