"""What a search found, in numbers and words."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cde_nets.controls import PiecewiseConstantControl
from cde_nets.solver import RungeKutta
from cde_nets.steer.result import Interpolation, SteerStatus
from cde_nets.steer.search import Found, Search
from cde_nets.steer.task import Task

# Where the ODE misses the targets by more than this share of the largest, the steps are said to be far from it.
_FAR = 1e-2


def report(search: Search, task: Task, rank: int | None, full: int | None) -> Interpolation:
    """The result of a search.

    Args:
        search: when it is over.
        task: what was asked for.
        rank: at the points, where it is known.
        full: the rank that is all of the space.
    """
    started = search.best is not None
    if not started:
        values = task.x.new_zeros(task.steps, task.fields.count)
        nothing = Found(values, task.lambdas[0], math.inf, search.endpoint)
        search.best = Found(values, task.lambdas[0], nothing.error(search.endpoint, search.shift), search.endpoint)
    refined, best = search.refined(), search.best
    assert best is not None
    status, reason = _in_words(search, best, task, refined) if started else _no_start(search)
    linearized = best.endpoint.linearized(best.values) if best.linearized is None else best.linearized
    ends = best.endpoint.at(best.values) if linearized is None else linearized[0]
    assert ends is not None
    largest, smallest = math.inf, math.nan
    if linearized is not None:
        singular = torch.linalg.svdvals(linearized[1])
        largest, smallest = float(singular[0]), float(singular[-1])
    return Interpolation(
        control=PiecewiseConstantControl(task.steps, task.fields.count, values=best.values),
        method=RungeKutta(task.method, steps=task.steps * best.endpoint.substeps),
        readout=task.readout,
        lam=best.lam,
        residual=float((best.lam * (ends - task.x) - search.shift).abs().amax()),
        substeps=best.endpoint.substeps,
        refined_residual=refined,
        energy=float(best.values.square().sum() / task.steps),
        smallest_singular_value=smallest,
        condition=largest / smallest if smallest > 0 else math.inf,
        status=status,
        reason=reason,
        attempts=search.attempts,
        evaluations=search.evaluations,
        blown_up=search.blown_up,
        rank=rank,
        full_rank=full,
        ends=ends,
    )


def _no_start(search: Search) -> tuple[SteerStatus, str]:
    reason = f"{search.blown_up} loops of all amplitudes left every bounded set"
    return SteerStatus.NO_START, reason + (" before time was up" if search.late() else "")


def _crossed(x: Tensor, ends: Tensor) -> bool:
    """Whether points of the line, shape (points, 1), are to change their order."""
    return x.shape[1] == 1 and not torch.equal(x.argsort(0), ends.argsort(0))


def _in_words(search: Search, best: Found, task: Task, refined: float) -> tuple[SteerStatus, str]:
    reason = f"residual {best.nearest:.1e} at lambda {best.lam:g}"
    crossed = _crossed(task.x, task.x + search.shift / best.lam)
    line = "; on the line no flow changes the order of points, as these targets ask" if crossed else ""
    if not search.solved:
        larger = "a larger lam" if task.readout == "difference" else "targets nearer to the points"
        if task.fields.tangent_to("sphere"):
            larger = "a tolerance no smaller than the error by which steps leave the spheres"
        reason = f"try {larger}, more steps or other seeds: {reason} after {search.attempts} starts"
        if not math.isnan(search.smallest):
            reason += f"; the best loop had singular values down to {search.smallest:.1e}"
        return SteerStatus.NOT_SOLVED, reason + line
    status = SteerStatus.SOLVED
    if task.refine_to is not None and refined > task.refine_to:
        status = SteerStatus.COARSE
        reason += f", {refined:.1e} under refinement where {task.refine_to:.1e} was asked for{line}"
    elif task.refine_to is None and refined > max(_FAR * float(search.shift.abs().amax()), 1e4 * task.tolerance):
        off = f"misses the targets by {refined:.1e}" if math.isfinite(refined) else "blows up"
        reason += f"; these steps are far from the ODE, which {off} (with steps half as long)"
        reason += line or ": ask for refine_to"
    if best.missing:
        reason += f"; no time for {' and '.join(best.missing)} in {task.time_limit:g} s: raise time_limit"
    return status, reason
