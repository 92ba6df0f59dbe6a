"""Steering N points: the theorem says that controls exist, and this finds them."""

from __future__ import annotations

import copy
import math
import time
import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.fields import Fields
from cde_nets.options import suggest
from cde_nets.solver.flow.tableau import TABLEAUS
from cde_nets.steer.endpoint import Endpoint
from cde_nets.steer.result import Interpolation
from cde_nets.steer.search import Search

READOUTS = ("difference", "identity")
# Numbers of the control for each number that is asked for: fewer than two leave most starts stuck.
_OVERSAMPLING = 4
# Values of lambda that are tried one after the other where none is given.
_LAMBDAS = (100.0, 50.0, 20.0, 10.0, 5.0, 2.0, 1.0)
# The least number of intervals: with fewer, small problems get stuck though their numbers would do.
_LEAST_STEPS = 48


def interpolate(
    fields: Fields,
    x: Float[Tensor, "points dim"],
    y: Float[Tensor, "points dim"],
    *,
    lam: float | None = None,
    readout: str = "difference",
    steps: int | None = None,
    substeps: int = 1,
    method: str | None = None,
    tolerance: float = 1e-10,
    least_energy: bool = False,
    refine_to: float | None = None,
    seed: int = 0,
    time_limit: float = 60.0,
    certify: bool = True,
) -> Interpolation:
    """A control whose flow carries x_i so that y_i = lam (X_1^{x_i} - x_i) for all i, or X_1^{x_i} = y_i.

    Chow's and Rashevskii's theorem made constructive, by Gauss's and Newton's method with the exact discrete Jacobian.
    First for the shortest control, under a penalty that is let go (`cde_nets.steer.regularized`). Where that gets
    stuck, from random loops, whose flows come back to x and whose Jacobians are not singular, those first from which
    the targets are nearest to first order (`cde_nets.steer.starts`). Where no lambda is given, it is lowered from
    solution to solution as far as time allows.

    This interpolates with the discrete steps. With `refine_to` they are made finer, and the problem solved again from
    there, until the readout stays that near to y under twice as many steps: then the ODE interpolates. Controls of
    little energy need fewer steps: `least_energy` helps there, and makes paths that please the eye.

    Args:
        fields: V_1..V_d; computed with in float64, whatever their dtype.
        x: N different points.
        y: targets.
        lam: lambda; None looks for a small one.
        readout: "difference", y = lam (X_1 - x), or "identity", y = X_1.
        steps: M, intervals of the control; None takes 4 m N / d of them, an even number, and no fewer than 48.
        substeps: steps of the method on each interval, to begin with.
        method: an explicit Runge-Kutta method by name; None takes "rk4", and "tsit5" with `refine_to`.
        tolerance: of the residual, the largest entry of |readout - y|.
        least_energy: go on to a local minimum of int |u|^2, or near one.
        refine_to: the residual of the ODE; None leaves the steps as they are.
        seed: of the loops.
        time_limit: seconds, after which the best that was found is returned.
        certify: whether to ask `theory.check_points` first, and to warn where nothing is proved.

    Returns:
        Never raises for what it could not reach: see `Interpolation.status` and `.reason`.

    Raises:
        ValueError: points or targets of another shape, not finite, or that coincide; a lambda that is not positive, or
            given with the identity; fewer numbers M d than the m N that are asked for; an unknown method or readout;
            a tolerance, refine_to or time_limit that is not positive, a tolerance below rounding, substeps below one.
    """
    fields = copy.deepcopy(fields).double()
    x, y = x.detach().double(), y.detach().double()
    method = method or ("rk4" if refine_to is None else "tsit5")
    _check(fields, x, y, lam, readout, method)
    _check_numbers(substeps, {"tolerance": tolerance, "refine_to": refine_to, "time_limit": time_limit})
    rounding = 4 * torch.finfo(x.dtype).eps * float(x.abs().amax()) * (lam or 1.0)
    if tolerance < rounding:
        raise ValueError(
            f"tolerance is {tolerance:g}, less than rounding leaves of x and lambda: expected at least {rounding:.1e}. "
            "Scale points and fields to about one."
        )
    points, dim = x.shape
    steps = _steps(steps, fields.count, points * dim)
    deadline = time.monotonic() + time_limit
    rank, full = _certified(fields, x, certify)
    shift = y - x if readout == "identity" else y
    far = 1e6 * (1 + float(x.abs().amax()))
    endpoint = Endpoint(fields, x, TABLEAUS[method].bare, substeps, far)
    search = Search(endpoint, shift, steps, tolerance, deadline, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        given = 1.0 if readout == "identity" else lam
        if given is not None:
            search.solve(given)
        else:
            search.lower(_LAMBDAS)
        if search.solved and least_energy:
            search.shorten()
        if search.solved and refine_to is not None:
            search.refine(refine_to, TABLEAUS[method].order)
        return search.result(method, readout, refine_to, rank, full)


def _steps(steps: int | None, count: int, outputs: int) -> int:
    least = math.ceil(outputs / count)
    if steps is None:
        return max(_LEAST_STEPS, 2 * math.ceil(_OVERSAMPLING * least / 2))
    if steps < least:
        raise ValueError(
            f"steps is {steps}: {steps} x {count} numbers for {outputs} that are asked for; expected at least {least} "
            f"steps, and better {_OVERSAMPLING * least}."
        )
    return steps


def _check_numbers(substeps: int, positive: dict[str, float | None]) -> None:
    if isinstance(substeps, bool) or not isinstance(substeps, int) or substeps < 1:
        raise ValueError(f"substeps is {substeps!r}, expected a whole number of at least 1.")
    for name, value in positive.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name} is {value}, expected a positive number.")


def _check(fields: Fields, x: Tensor, y: Tensor, lam: float | None, readout: str, method: str) -> None:
    if x.ndim != 2 or x.shape[1] != fields.dim or not len(x) or x.shape != y.shape:
        raise ValueError(
            f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}, expected (points, {fields.dim}) both, points >= 1."
        )
    if readout not in READOUTS:
        raise ValueError(f"readout is {readout!r}, expected one of {', '.join(READOUTS)}{suggest(readout, READOUTS)}.")
    if method not in TABLEAUS:
        raise ValueError(
            f"method is {method!r}, expected one of {', '.join(TABLEAUS)}{suggest(method, tuple(TABLEAUS))}."
        )
    if lam is not None and readout == "identity":
        raise ValueError(f"lam is {lam}, but the identity readout has none: drop it.")
    if lam is not None and not (lam > 0 and math.isfinite(lam)):
        raise ValueError(f"lam is {lam}, expected a positive number or None.")
    for name, rows in (("x", x), ("y", y)):
        bad = (~torch.isfinite(rows)).any(1).nonzero()
        if len(bad):
            raise ValueError(f"{name}: row {int(bad[0])} is not finite: {rows[int(bad[0])].tolist()}.")
    _refuse_equal("x", x, "which no flow tells apart")
    if readout == "identity":
        _refuse_equal("y", y, "where no flow carries two points")
    elif lam is not None:
        _refuse_equal("x + y / lam", x + y / lam, "where no flow carries two points: take another lam")


def _refuse_equal(name: str, rows: Tensor, why: str) -> None:
    _, inverse, counts = torch.unique(rows, dim=0, return_inverse=True, return_counts=True)
    if int(counts.amax()) > 1:
        first, second = (inverse == int(counts.argmax())).nonzero()[:2, 0].tolist()
        raise ValueError(f"{name}: rows {first} and {second} are the same point, {why}.")


def _certified(fields: Fields, x: Tensor, wanted: bool) -> tuple[int | None, int | None]:
    """Rank and full rank at the points; a warning where the condition is not proved."""
    if not wanted:
        return None, None
    import theory

    try:
        found = theory.check_points(fields.exact(), x.cpu().numpy(), seed=0, time_limit=10.0)
    except ValueError as error:  # no polynomials, or not at these points
        warnings.warn(f"No certificate of the fields: {error}", stacklevel=3)
        return None, None
    if not found.proved:
        warnings.warn(f"The fields may not reach the targets. {found}", stacklevel=3)
    return found.rank, found.full_rank
