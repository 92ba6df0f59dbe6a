"""What steering is asked for, checked at the door."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from cde_nets.fields import Fields
from cde_nets.options import suggest
from cde_nets.solver.flow.tableau import TABLEAUS

READOUTS = ("difference", "identity")
# Numbers of the control for each number that is asked for: fewer than two leave most starts stuck.
_OVERSAMPLING = 4
# Values of lambda that are tried one after the other where none is given.
_LAMBDAS = (100.0, 50.0, 20.0, 10.0, 5.0, 2.0, 1.0)
# The least number of intervals: with fewer, small problems get stuck though their numbers would do.
_LEAST_STEPS = 48
# Of these none is taken for which two ends are nearer to each other than this share of their points' distance: it may
# be within reach, but not in little time.
_NEAR = 1e-2
_MOST_SEED = 2**64


@dataclass(frozen=True)
class Task:
    """What `interpolate` was given, in float64, with all that was left to it filled in.

    Attributes:
        fields: V_1..V_d.
        x: points, shape (N, m).
        y: targets, shape (N, m).
        readout: "difference" or "identity".
        lambdas: to be tried, the largest first; one where it was given, and 1 with the identity.
        steps: M.
        substeps: of the method on each interval.
        method: by name.
        tolerance: of the residual.
        refine_to: of the residual of the ODE, or None.
        seed: of the loops.
        time_limit: seconds.
    """

    fields: Fields
    x: Tensor
    y: Tensor
    readout: str
    lambdas: tuple[float, ...]
    steps: int
    substeps: int
    method: str
    tolerance: float
    refine_to: float | None
    seed: int
    time_limit: float

    @property
    def shift(self) -> Tensor:
        """Lambda (X_1 - x) as it should be."""
        return self.y - self.x if self.readout == "identity" else self.y

    @property
    def far(self) -> float:
        """What counts as blown up: entries far larger than those of all points and where they should end."""
        ends = self.x + self.shift / self.lambdas[-1]
        return 1e6 * (1 + max(float(self.x.abs().amax()), float(ends.abs().amax())))


def read_task(
    fields: Fields,
    x: Tensor,
    y: Tensor,
    *,
    lam: float | None = None,
    readout: str = "difference",
    steps: int | None = None,
    substeps: int = 1,
    method: str | None = None,
    tolerance: float = 1e-10,
    refine_to: float | None = None,
    seed: int = 0,
    time_limit: float = 60.0,
) -> Task:
    """The arguments of `cde_nets.steer.interpolate`, or why they are refused.

    Raises:
        ValueError: as `interpolate`.
    """
    fields = real_fields(fields)
    x, y = (reals(name, rows, fields) for name, rows in (("x", x), ("y", y)))
    if x.ndim != 2 or x.shape[1] != fields.dim or not len(x) or x.shape != y.shape:
        raise ValueError(
            f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}, expected (points, {fields.dim}) both, points >= 1."
        )
    _known("readout", readout, READOUTS)
    method = ("rk4" if refine_to is None else "tsit5") if method is None else method
    _known("method", method, tuple(TABLEAUS))
    tolerance = _positive("tolerance", tolerance)
    refine_to = None if refine_to is None else _positive("refine_to", refine_to, "a positive number or None")
    if refine_to is not None and refine_to < tolerance:
        raise ValueError(
            f"refine_to is {refine_to:g}, less than tolerance, which is {tolerance:g}: steps that meet targets to that "
            f"say no more of the ODE. Expected refine_to of at least {tolerance:g}, or a smaller tolerance."
        )
    limit = _positive("time_limit", time_limit, "a positive number", infinite=True)
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed < _MOST_SEED:
        raise ValueError(f"seed is {seed!r}, expected a whole number from 0 to 2**64 - 1.")
    _check_rows(fields, x, y)
    return Task(
        fields,
        x,
        y,
        readout,
        _lambdas(fields, x, y, lam, readout, tolerance),
        _steps(steps, fields.count, x.numel()),
        _whole("substeps", substeps),
        method,
        tolerance,
        refine_to,
        int(seed),
        limit,
    )


def reals(name: str, rows: Tensor, fields: Fields) -> Tensor:
    """A real tensor where the fields are, in float64.

    Raises:
        ValueError: lists and arrays, complex numbers, another device.
    """
    if not isinstance(rows, Tensor):
        raise ValueError(
            f"{name} is a {type(rows).__name__}, expected a tensor of shape (points, {fields.dim}): "
            f"torch.as_tensor({name}, dtype=torch.float64)."
        )
    if rows.is_complex():
        raise ValueError(
            f"{name} is {rows.dtype}, expected real numbers: as points of R^2m, torch.view_as_real({name}).flatten(1), "
            "with fields of twice the dimension."
        )
    if rows.device != fields.device:
        raise ValueError(
            f"{name} is on {rows.device} and the fields are on {fields.device}, expected one device: "
            f"{name}.to('{fields.device}')."
        )
    return rows.detach().double()


def real_fields(fields: Fields) -> Fields:
    """A copy in float64.

    Raises:
        ValueError: no family of fields, or a complex one.
    """
    if not isinstance(fields, Fields):
        kind = f"the class {fields.__name__}" if isinstance(fields, type) else f"a {type(fields).__name__}"
        raise ValueError(
            f"fields is {kind}, expected a family of fields, an instance of Fields such as PolynomialFields.random(..)."
        )
    if fields.dtype.is_complex:
        raise ValueError(
            f"{type(fields).__name__} has {fields.dtype} coefficients, expected real fields: write those of C^m on "
            "R^2m."
        )
    return copy.deepcopy(fields).double()


def _whole(name: str, value: Any, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} is {value!r}, expected a whole number of at least {least}.")
    return int(value)


def _positive(name: str, value: Any, expected: str = "a positive number", *, infinite: bool = False) -> float:
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    except OverflowError:  # a whole number that no float holds
        number = math.nan
    if not number > 0 or (number == math.inf and not infinite):
        raise ValueError(f"{name} is {value!r}, expected {expected}.")
    return number


def _known(name: str, value: Any, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(known)}{suggest(value, known)}")


def _steps(steps: int | None, count: int, outputs: int) -> int:
    least = math.ceil(outputs / count)
    if steps is None:
        return max(_LEAST_STEPS, 2 * math.ceil(_OVERSAMPLING * least / 2))
    steps = _whole("steps", steps)
    if steps < least:
        raise ValueError(
            f"steps is {steps}: {steps} x {count} numbers for {outputs} that are asked for; expected at least {least} "
            f"steps, and better {_OVERSAMPLING * least}."
        )
    return steps


def _check_rows(fields: Fields, x: Tensor, y: Tensor) -> None:
    for name, rows in (("x", x), ("y", y)):
        bad = (~torch.isfinite(rows)).any(1).nonzero()
        if len(bad):
            raise ValueError(f"{name}: row {int(bad[0])} is not finite: {rows[int(bad[0])].tolist()}.")
    same = _equal(x)
    if same:
        raise ValueError(f"x: rows {same[0]} and {same[1]} are the same point, which no flow tells apart.")
    with torch.no_grad():
        bad = (~torch.isfinite(fields.evaluate(x))).flatten(1).any(1).nonzero()
    if len(bad):
        row = int(bad[0])
        raise ValueError(
            f"x: at row {row}, {x[row].tolist()}, the fields are not finite. Scale points to about one, or leave out "
            "what is not in the fields' domain."
        )


def _lambdas(fields: Fields, x: Tensor, y: Tensor, lam: Any, readout: str, tolerance: float) -> tuple[float, ...]:
    """The lambdas for which nothing that is known before work stands against the targets."""
    if readout == "identity":
        if lam is not None:
            raise ValueError(f"lam is {lam!r}, but the identity readout has none: drop it.")
        lambdas: tuple[float, ...] = (1.0,)
    else:
        lambdas = _LAMBDAS if lam is None else (_positive("lam", lam, "a positive number or None"),)
    against = {value: _against(fields, x, y, value, readout, tolerance) for value in lambdas}
    good = tuple(value for value, why in against.items() if not why)
    if not good:
        # Of several, the smallest is what was looked for.
        raise ValueError(against[lambdas[-1]])
    return tuple(value for value in good if _apart(x, x + y / value)) or good


def _apart(x: Tensor, ends: Tensor) -> bool:
    """Whether no two ends are far nearer to each other than their points are."""
    distances = torch.nn.functional.pdist
    return bool((distances(ends) > _NEAR * distances(x)).all())


def _against(fields: Fields, x: Tensor, y: Tensor, lam: float, readout: str, tolerance: float) -> str:
    """Why no flow meets the targets of this lambda; empty where nothing is known."""
    identity = readout == "identity"
    name, ends = ("y", y) if identity else ("x + y / lam", x + y / lam)
    rounding = 4 * torch.finfo(x.dtype).eps * (lam * float(x.abs().amax()) + float(y.abs().amax()))
    if tolerance < rounding:
        return (
            f"tolerance is {tolerance:g}, less than rounding leaves of x, y{'' if identity else ' and lambda'}: "
            f"expected at least {rounding:.1e}. Scale points, targets and fields to about one."
        )
    same = _equal(ends)
    if same:
        way = "" if identity else f": take another lam than {lam:g}"
        return f"{name}: rows {same[0]} and {same[1]} are the same point, where no flow carries two points{way}."
    if not fields.tangent_to("sphere"):
        return ""
    here, there = x.norm(dim=1), ends.norm(dim=1)
    off = (there - here).abs() > tolerance / lam + rounding
    if not bool(off.any()):
        return ""
    row = int(off.nonzero()[0])
    way = (
        "take targets on the points' spheres, y * (x.norm(dim=1) / y.norm(dim=1))[:, None]."
        if identity
        else 'take readout="identity" and targets on the points\' spheres.'
    )
    return (
        f"{name}: row {row} has the norm {float(there[row]):.6g} and x {float(here[row]):.6g}, and along fields that "
        f"are tangent to spheres |x| stays as it is: {way}"
    )


def _equal(rows: Tensor) -> tuple[int, int] | None:
    """Two equal rows, if there are any."""
    _, inverse, counts = torch.unique(rows, dim=0, return_inverse=True, return_counts=True)
    if int(counts.amax()) < 2:
        return None
    first, second = (inverse == int(counts.argmax())).nonzero()[:2, 0].tolist()
    return first, second
