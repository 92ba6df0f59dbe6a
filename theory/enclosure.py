"""Exact controls near those found in floats, proved to exist by interval arithmetic."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from theory.balls import Balls, lower, require_flint, upper
from theory.discrete import DiscreteFlow
from theory.exact import ExactArray, exact_array
from theory.program import shaped
from theory.reading import read_fields

if TYPE_CHECKING:
    import sympy

_LEAST_PRECISION = 64
# The radius of the first box, in units of the ends, and the least share of one that is tried next.
_FIRST, _LEAST_SHARE = 2.0**-16, 2.0**-20

_MOST_SUBSTEPS, _MOST_PRECISION = 1_000_000, 100_000
_LONGEST = 1e9


@dataclass(frozen=True)
class Enclosure:
    """Whether exact controls were proved to lie near those given.

    Distances are the largest over all M d numbers of the control. The slice is the affine space of m N dimensions
    u + B z through the controls u that were given, with B near the pseudo-inverse of the Jacobian.

    Attributes:
        proved: whether they exist.
        radius: an upper bound of their distance from the controls given; infinite where nothing is proved.
        isolation: there are no other exact controls in the slice within this distance of them; 0 where nothing is
            proved.
        residual: an upper bound of the largest entry of |lam (X_1 - x) - y| at the controls given, for the method in
            real numbers without rounding; infinite where it could not be enclosed.
        contraction: an upper bound of the largest row sum of |I - J(u) B| over the box of the proof, or the last one
            that was tried; infinite where there was none.
        unknowns: M d.
        equations: m N.
        precision: bits.
        seconds: what it took.
        reason: why nothing is proved; empty where it is.
    """

    proved: bool
    radius: float
    isolation: float
    residual: float
    contraction: float
    unknowns: int
    equations: int
    precision: int
    seconds: float
    reason: str = ""

    def __str__(self) -> str:
        if not self.proved:
            return f"Not proved: {self.reason}. A proof that fails shows nothing either way."
        return (
            f"Proved: exact controls lie within {_decimal(self.radius, ROUND_CEILING)} of these {self.unknowns} "
            f"numbers, and in a slice of {self.equations} dimensions no others within "
            f"{_decimal(self.isolation, ROUND_FLOOR)} of them (contraction "
            f"{_decimal(self.contraction, ROUND_CEILING)}, {self.precision} bits)."
        )

    def __bool__(self) -> bool:
        return self.proved


def enclose(
    fields: Any,
    x: npt.ArrayLike | ExactArray,
    y: npt.ArrayLike | ExactArray,
    controls: npt.ArrayLike | ExactArray,
    *,
    a: Sequence[Sequence[float | Fraction]],
    b: Sequence[float | Fraction],
    substeps: int = 1,
    lam: float | Fraction = 1.0,
    symbols: Sequence[sympy.Symbol] | None = None,
    precision: int = 128,
    radius: float | None = None,
    time_limit: float | None = None,
) -> Enclosure:
    """Prove that exact controls, with lam (X_1 - x) = y at all points, lie near those given.

    X_1 is where the one-step method with coefficients a, b takes x, in real numbers without rounding, with the step
    1 / (M substeps): the discrete system is solved exactly, and not the ODE. Every number given is taken for what it
    is: floats for the dyadic rationals they are, so that float coefficients (1/6, say) are the very numbers that run;
    Fractions for the method as it is printed.

    Let F(u) = X_1(u) - x - y / lam and J its Jacobian. On the slice u + B z, Newton's map G(z) = z - F(u + B z) is
    enclosed as by Krawczyk's operator, with the identity for a preconditioner as J B is near it: over a box of radius
    r around z_0, |G(z) - z_0| <= |F(u + B z_0)| + q r where q bounds the row sums of |I - J B| in the box. Where that
    is at most r and q < 1, G contracts the box into itself, and there is exactly one zero of F in it. B is computed in
    floats; any B will do, as it only chooses the slice: q < 1 proves it good enough. z_0 is taken close to the zero by
    Newton steps at full precision, so that the radius is that of the distance and not of the box. R. Krawczyk,
    "Newton-Algorithmen zur Bestimmung von Nullstellen mit Fehlerschranken", Computing 4, 1969; S. Rump, "Verification
    methods", Acta Numerica 19, 2010. For the enclosures of F and J see `theory.discrete`.

    Args:
        fields: V_1..V_d, as `theory.reading.read_fields`; they are polynomial or rational in all of space.
        x: (N, m) points.
        y: (N, m) targets; X_1 = y itself is asked for by the targets y - x, exact, and lam = 1.
        controls: (M, d), constant on each of M equal intervals of [0, 1].
        a: the strictly lower triangle of an explicit Runge-Kutta method, row j with j numbers.
        b: its weights.
        substeps: steps on each interval.
        lam: positive.
        symbols: of SymPy expressions.
        precision: of the balls, in bits.
        radius: the distance that is to be proved; None proves the best that can be.
        time_limit: seconds, after which nothing is proved.

    Returns:
        An `Enclosure`. Time is that of some six flows and four Jacobians in balls, all in Python but the products: of
        quadratic fields with 96 intervals of rk4 on one core, 3 seconds for 5 points in the plane (5 fields), 4 for 10,
        and 4 minutes for 20 points in R^10 (20 fields). The isolation falls as the fields' second derivatives grow: to
        4e-9, 2e-13 and 1e-22 in these cases.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, fewer numbers M d than the m N equations, a
            method that is not explicit, a lambda, radius, precision or time limit out of range, or fields that are
            known in a ball only; fields as `read_fields`.
        TypeError: as `read_fields`; numbers of other kinds.
        ImportError: python-flint is not installed.
    """
    started = time.monotonic()
    program = read_fields(fields, symbols)
    if not program.everywhere:
        raise ValueError(
            f"{program}: these fields are polynomial in a ball only, and a flow may leave it: enclose the controls of "
            "fields without a cutoff"
        )
    points = shaped(x, "x", (None, program.dim), f"(points, dim), on R^{program.dim}")
    targets = shaped(y, "y", points.shape, "(points, dim), a target for each row of x")
    values = shaped(controls, "controls", (None, program.count), f"(intervals, fields), of {program.count} fields")
    program._check_points(points, None)
    unknowns, equations = values.shape[0] * program.count, points.shape[0] * program.dim
    if unknowns < equations:
        raise ValueError(
            f"controls have {unknowns} numbers for {equations} equations, expected at least as many: take more "
            "intervals"
        )
    rows, weights = _method(a, b)
    scale = exact_array(np.array(lam), "lam")
    _check(scale, substeps, precision, radius, time_limit)
    deadline = math.inf if time_limit is None else started + time_limit
    with require_flint().ctx.workprec(precision):
        start, factor = Balls.of(points), Balls.of(scale)
        flow = DiscreteFlow(program, start, rows, weights, values.shape[0], index(substeps), deadline)
        nothing = Enclosure(False, math.inf, 0.0, math.inf, math.inf, unknowns, equations, precision, 0.0)
        proof = _Proof(flow, start + Balls.of(targets) * factor.reciprocal(), factor, nothing)
        try:
            proof.run(Balls.of(values), radius)
        except (ArithmeticError, TimeoutError) as error:
            proof.fail(str(error))
    return replace(proof.found, seconds=time.monotonic() - started)


@dataclass
class _Proof:
    """The state of a proof: what has been found."""

    flow: DiscreteFlow
    target: Balls
    lam: Balls
    found: Enclosure

    def run(self, u: Balls, wanted: float | None) -> None:
        """Prove what can be proved about the controls u, (M, d)."""
        error, jacobian = self._enclosed(u)
        self.found = replace(self.found, residual=upper(error.largest() * self.lam.values.item()))
        slice_ = Balls.floats(_pseudo_inverse(jacobian))
        moved = u + self._newton(u, slice_, error)
        error, jacobian = self._enclosed(moved)
        if not self._contraction(jacobian, slice_) < 1:
            self.fail("|I - J B| is not below 1 near the controls: J may not have full rank m N there")
            return
        defect, spread = error.largest(), slice_.magnitudes().sum().reshape(*u.shape)
        # The r are floats, and so exact in balls; how they are chosen proves nothing.
        r, least = _FIRST, 2.0**-self.found.precision
        while defect < r and least < r:
            try:
                _, jacobian = self._enclosed(moved, spread * u.constant(exact_array(r)))
                q = self._contraction(jacobian, slice_)
            except ArithmeticError:  # not bounded: the box is too large
                r *= _LEAST_SHARE
                continue
            if defect + q * r < r:
                rest = (defect / (1 - q)).abs_upper()
                distance = (moved - u).magnitudes() + spread * Balls(np.array(rest, dtype=object))
                self._succeed(distance.largest(), (r - rest) * (1 - q) / _norm(jacobian), wanted)
                return
            # q - q_0 grows with r, and a little faster than in proportion.
            r *= max(_LEAST_SHARE, 0.25 / upper(q))
        self.fail("no box was found that Newton's map contracts into itself: there may be no solution nearby")

    def _enclosed(self, u: Balls, radii: Balls | None = None) -> tuple[Balls, Balls]:
        """F and J at all controls within radii of those in u, which are balls themselves."""
        centre = u.centres()
        rounding = (u - centre).magnitudes()
        ends, jacobian = self.flow.enclosed(centre, rounding if radii is None else rounding + radii)
        return (ends - self.target).reshape(-1), jacobian

    def _newton(self, u: Balls, slice_: Balls, error: Balls) -> Balls:
        """B z for a z near the zero of F in the slice: exact z, as far as the Newton steps z <- z - F came nearer."""
        z, step = error.zeros(), u.zeros()
        while True:
            further = (z - error).centres()
            ahead = (slice_ @ further[:, None]).reshape(*u.shape)
            left = (self.flow.near((u + ahead).centres()) - self.target).reshape(-1)
            if not 4 * left.largest() < error.largest():
                return step
            z, step, error = further, ahead, left

    def _contraction(self, jacobian: Balls, slice_: Balls) -> Any:
        """An upper bound of |I - J B|, the largest row sum."""
        size = jacobian.shape[0]
        q = _norm(Balls.of(exact_array(np.eye(size, dtype=np.int64))) - jacobian @ slice_)
        self.found = replace(self.found, contraction=upper(q))
        return q

    def _succeed(self, distance: Any, isolation: Any, wanted: float | None) -> None:
        radius = upper(distance)
        if wanted is not None and not radius <= wanted:
            nearest = _decimal(radius, ROUND_CEILING)
            self.fail(
                f"exact controls are known to lie within {nearest} of these, and not within the radius {wanted:g}"
            )
            return
        self.found = replace(self.found, proved=True, radius=radius, isolation=lower(isolation))

    def fail(self, reason: str) -> None:
        """Nothing is proved."""
        self.found = replace(self.found, reason=reason)


def _norm(matrix: Balls) -> Any:
    """An upper bound of the largest row sum of magnitudes."""
    return matrix.magnitudes().sum().largest()


def _pseudo_inverse(jacobian: Balls) -> npt.NDArray[np.float64]:
    nearby = jacobian.rounded()
    if not np.isfinite(nearby).all():
        raise ArithmeticError("the Jacobian at the controls is too large for floats")
    return np.asarray(np.linalg.pinv(nearby), dtype=np.float64)


def _method(
    a: Sequence[Sequence[float | Fraction]], b: Sequence[float | Fraction]
) -> tuple[tuple[ExactArray, ...], ExactArray]:
    """The coefficients, exact."""
    weights = shaped(np.array(b, dtype=object), "b", (None,), "(stages,), the weights of the method")
    if len(a) != len(weights):
        raise ValueError(f"a has {len(a)} rows for {len(weights)} weights b, expected as many: one for each stage")
    rows = tuple(
        shaped(np.array(list(row), dtype=object), f"row {j} of a", (j,), f"the method is explicit, stage {j} uses {j}")
        for j, row in enumerate(a)
    )
    return rows, weights


def _check(lam: ExactArray, substeps: int, precision: int, radius: float | None, time_limit: float | None) -> None:
    if lam.shape != () or not lam.numerators > 0:
        raise ValueError(f"lam is {lam.fractions().tolist()}, expected one positive number")
    if not 1 <= index(substeps) <= _MOST_SUBSTEPS:
        raise ValueError(f"substeps is {substeps}, expected 1 to {_MOST_SUBSTEPS}")
    if not _LEAST_PRECISION <= index(precision) <= _MOST_PRECISION:
        raise ValueError(f"precision is {precision} bits, expected {_LEAST_PRECISION} to {_MOST_PRECISION}")
    if radius is not None and not 0 < radius < math.inf:
        raise ValueError(f"radius is {radius}, expected a positive number, or None for the best that can be proved")
    if time_limit is not None and (not isinstance(time_limit, int | float) or not 0 <= time_limit <= _LONGEST):
        raise ValueError(f"time_limit is {time_limit}, expected seconds, at most 10^9, or None")


def _decimal(value: float, rounding: str) -> str:
    """Two digits, rounded to the side where the statement stays true."""
    return f"{float(Context(prec=2, rounding=rounding).create_decimal(Decimal(value))):.2g}"
