"""Steering N points: the theorem says that controls exist, and this finds them."""

from __future__ import annotations

import time
import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.fields import Fields
from cde_nets.solver.flow.tableau import TABLEAUS
from cde_nets.steer.endpoint import Endpoint
from cde_nets.steer.report import report
from cde_nets.steer.result import Interpolation
from cde_nets.steer.search import Search
from cde_nets.steer.task import read_task

# The share of the time in which lambda is lowered, where there is more to do after it.
_DESCENT = 0.4
# Seconds for the certificate, and no more than this share of the time.
_CERTIFICATE, _SHARE = 10.0, 0.5


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
    solution to solution as far as time allows: 40 % of the time where `least_energy` or `refine_to` follow.

    This interpolates with the discrete steps. With `refine_to` they are made finer, and the problem solved again from
    there, until the readout stays that near to y under twice as many steps: then the ODE interpolates. Controls of
    little energy need fewer steps: `least_energy` helps there, and makes paths that please the eye. Where no lambda is
    given, the smallest one is returned of which the ODE was reached.

    Fields that are tangent to spheres leave |x| as it is: there only X_1 = y with |y_i| = |x_i| can be asked for,
    with a tolerance no smaller than the error by which steps leave the spheres.

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
        refine_to: the residual of the ODE, no less than the tolerance; None leaves the steps as they are.
        seed: of the loops, 0 to 2**64 - 1.
        time_limit: seconds, after which the best that was found is returned: a Jacobian that is at work is finished.
        certify: whether to ask `theory.check_points` first, and to warn where nothing is proved.

    Returns:
        True as a condition where all that was asked for was reached. Never raises for what could not be reached: see
        `Interpolation.status` and `.reason`, which also says what there was no time for.

    Raises:
        ValueError: fields that are none, or complex; points or targets that are no real tensors, of another shape, not
            finite, or that coincide, or where the fields are not finite; ends off the points' spheres, along fields
            that are tangent to these; a lambda that is not positive, or given with the identity; fewer numbers M d
            than the m N that are asked for; an unknown method or readout; a tolerance, refine_to or time_limit that is
            not positive, a tolerance below rounding, a refine_to below the tolerance; steps or substeps that are no
            whole numbers from 1 up; another seed.
    """
    task = read_task(
        fields,
        x,
        y,
        lam=lam,
        readout=readout,
        steps=steps,
        substeps=substeps,
        method=method,
        tolerance=tolerance,
        refine_to=refine_to,
        seed=seed,
        time_limit=time_limit,
    )
    deadline = time.monotonic() + task.time_limit
    seconds = min(_CERTIFICATE, _SHARE * task.time_limit)
    rank, full = _certified(task.fields, task.x, seconds) if certify else (None, None)
    tableau = TABLEAUS[task.method]
    search = Search(
        Endpoint(task.fields, task.x, tableau.bare, task.substeps, task.far),
        task.shift,
        task.steps,
        task.tolerance,
        deadline,
        torch.Generator("cpu").manual_seed(task.seed),
    )
    # Whatever torch's default device is.
    with torch.no_grad(), task.x.device:
        if lam is not None or task.readout == "identity":
            search.solve(task.lambdas[0])
        else:
            search.lower(task.lambdas, _DESCENT if least_energy or task.refine_to is not None else 1.0)
        search.finish(least_energy, task.refine_to, tableau.order)
        return report(search, task, rank, full)


def _certified(fields: Fields, x: Tensor, seconds: float) -> tuple[int | None, int | None]:
    """Rank and full rank at the points; a warning where the condition is not proved."""
    import theory

    try:
        found = theory.check_points(fields.exact(), x.cpu().numpy(), seed=0, time_limit=seconds)
    except ValueError as error:  # no polynomials, or not at these points
        warnings.warn(f"No certificate of the fields: {error}", stacklevel=3)
        return None, None
    if not found.proved:
        warnings.warn(f"The fields may not reach the targets. {found}", stacklevel=3)
    return found.rank, found.full_rank
