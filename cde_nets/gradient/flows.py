"""Running a flow and making its solution: what all gradients of flows share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cde_nets.gradient.base import Settings
from cde_nets.solver.flow.adaptive import AdaptiveRungeKutta
from cde_nets.solver.flow.dense import DenseOutput
from cde_nets.solver.flow.events import Hits, evaluate, locate
from cde_nets.solver.flow.fixed import FixedRungeKutta
from cde_nets.solver.flow.record import Recorder, States, interpolate
from cde_nets.solver.flow.reversible import FixedReversible
from cde_nets.solver.flow.steps import Step
from cde_nets.solver.flow.tableau import tableau
from cde_nets.solver.initial_value import InitialValueProblem
from cde_nets.solver.loop import run
from cde_nets.solver.method import Iterate, Scheme
from cde_nets.solver.solution import Solution, Statistics, Trace
from cde_nets.solver.states import real
from cde_nets.solver.status import Status

OwnSteps = FixedRungeKutta | AdaptiveRungeKutta | FixedReversible


class Raw(NamedTuple):
    """The packed states that a flow gives and that a gradient reaches.

    Attributes:
        end: after the last step, shape (rows, numbers).
        saved: at the save times after the start, shape (times, rows, numbers).
        hit: where rows met their event, shape (rows, numbers); None without an event.
    """

    end: Tensor
    saved: Tensor
    hit: Tensor | None = None


@dataclass
class Ran:
    """A flow that has run.

    Attributes:
        raw: its states.
        iterate: where the loop ended.
        recorder: what it wrote down.
        tracer: every state, where a trace or dense output is wanted.
        theta: where in its step each row met its event, shape (rows, 1); None without an event.
        crossing: when, float64, shape (rows, 1).
    """

    raw: Raw
    iterate: Iterate
    recorder: Recorder
    tracer: Recorder | None = None
    theta: Tensor | None = None
    crossing: Tensor | None = None


def own_steps(scheme: Scheme, gradient: str) -> OwnSteps:
    """A scheme of our own steps, or a refusal.

    Raises:
        ValueError: steps that `gradient` cannot walk back.
    """
    if not isinstance(scheme, FixedRungeKutta | AdaptiveRungeKutta | FixedReversible):
        raise ValueError(
            f"{gradient} walks back over the steps of RungeKutta; those of another library are differentiated by "
            "gradient=Autograd()."
        )
    return scheme


def save_times(problem: InitialValueProblem, times: Sequence[float] | Tensor | None) -> tuple[list[float], bool]:
    """The save times after the start, and whether the start is one.

    Raises:
        ValueError: times that are no numbers, lie outside, are equal or run the other way.
    """
    if times is None:
        return [], False
    try:
        wanted = [float(t) for t in (times.tolist() if isinstance(times, Tensor) else times)]
    except (TypeError, ValueError):
        raise ValueError(f"Save times are a sequence of numbers, or a SaveAt of one; got {times!r}.") from None
    low, high = sorted((problem.t0, problem.t1))
    sign = math.copysign(1.0, problem.t1 - problem.t0)
    outside = next((t for t in wanted if not low <= t <= high), None)
    if outside is not None:
        raise ValueError(f"The save time {outside:g} lies outside of the flow's times, {low:g} to {high:g}.")
    for one, two in itertools.pairwise(wanted):
        if sign * one >= sign * two:
            order = "rise" if sign > 0 else "fall"
            raise ValueError(f"Save times must {order} strictly, as the flow's time does; got {one:g} before {two:g}.")
    at_start = bool(wanted) and wanted[0] == problem.t0
    return wanted[at_start:], at_start


def run_flow(
    problem: InitialValueProblem,
    scheme: OwnSteps,
    settings: Settings,
    saves: Sequence[float],
    keep: States | None,
    *,
    differentiable: bool = False,
) -> Ran:
    """Run the loop, and read the states that were asked for off it."""
    mesh = None if isinstance(scheme, AdaptiveRungeKutta) else scheme.mesh
    manifold = problem.manifold
    recorder = Recorder(scheme.tableau, manifold, saves, mesh, keep, differentiable)
    watched = settings.save_at.steps or settings.save_at.dense
    tracer = Recorder(scheme.tableau, manifold, (), mesh, States()) if watched else None
    iterate = run(problem, scheme, settings.limits, [recorder] if tracer is None else [recorder, tracer])
    saved = recorder.values(iterate)
    if isinstance(scheme, FixedReversible):
        if settings.save_at.dense:
            raise ValueError("A reversible method has no continuous extension: take its base for dense output.")
        dim = iterate.value.shape[1] // 2
        return Ran(Raw(iterate.value[:, :dim], saved[:, :, :dim]), iterate, recorder, tracer)
    if problem.event is None:
        return Ran(Raw(iterate.value, saved), iterate, recorder, tracer)
    hits: Hits = iterate.memory.events

    def point(theta: Tensor) -> Tensor:
        step = Step(0, hits.h.to(theta.dtype))
        return interpolate(scheme.tableau, manifold, hits.start, step, hits.slopes, theta)

    real_dtype = real(iterate.value.dtype)
    with torch.no_grad():
        theta, crossing = locate(
            problem.event, problem.packing, hits, lambda theta: point(theta.to(real_dtype)).to(iterate.value.dtype)
        )
    theta = theta.to(real_dtype)
    step = Step(0, hits.h.to(real_dtype))
    hit = interpolate(scheme.tableau, manifold, hits.start, step, hits.slopes, theta)
    return Ran(Raw(iterate.value, saved, hit), iterate, recorder, tracer, theta, crossing)


def finish(
    problem: InitialValueProblem,
    ran: Ran,
    raw: Raw,
    evaluations: Callable[[], int],
    settings: Settings,
    *,
    at_start: bool,
) -> Solution:
    """The solution: states as the user builds them, events with their times' gradient."""
    packing, iterate = problem.packing, ran.iterate
    end, saved, event_time, reached = raw.end, raw.saved, None, _reached(ran)
    if raw.hit is not None:
        assert ran.crossing is not None
        met = (iterate.status == int(Status.EVENT))[:, None]
        reached = torch.where(met, ran.crossing, reached[:, None])[:, 0]
        point, time = _attach_time(problem, raw.hit, ran.crossing)
        end = torch.where(met, point, end)
        event_time = torch.where(met, time, problem.t1)[:, 0]
        if saved.shape[0]:
            sign = math.copysign(1.0, problem.t1 - problem.t0)
            times = torch.tensor(save_times(problem, settings.save_at.times)[0], dtype=torch.float64, device=end.device)
            late = met & (sign * times[:, None, None] > sign * time.detach())
            saved = torch.where(late, end, saved)
    value = end
    if settings.save_at.times is not None:
        value = torch.cat([problem.packed()[None], saved]) if at_start else saved
    statistics = Statistics(iterate.accepted, iterate.rejected, evaluations())
    trace = _trace(problem, ran, raw.end.detach()) if settings.save_at.steps else None
    dense = _dense(problem, ran, raw.end.detach()) if settings.save_at.dense else None
    return Solution(packing.unpack(value), iterate.status, statistics, reached, _size(end), event_time, trace, dense)


def _size(end: Tensor) -> Tensor:
    size: Tensor = torch.linalg.vector_norm(end.detach(), dim=1)
    return size


def _trace(problem: InitialValueProblem, ran: Ran, end: Tensor) -> Trace:
    tracer = ran.tracer
    assert tracer is not None
    assert tracer.keep is not None
    states = [tracer.keep.kept[n][:, : end.shape[1]] for n in range(tracer.keep.count)]
    values = problem.packing.unpack(torch.stack([*states, end]))
    if tracer.mesh is not None:
        return Trace(values, torch.tensor(tracer.mesh, dtype=torch.float64, device=end.device))
    # A step that was refused shows as a time that stands still.
    times = [taken.step.t for taken in tracer.taken if taken.step.t is not None]
    together = torch.cat([*times, ran.iterate.memory.t], 1).mT
    return Trace(values, together[:, 0] if together.shape[1] == 1 else together)


def _dense(problem: InitialValueProblem, ran: Ran, end: Tensor) -> DenseOutput:
    tracer = ran.tracer
    assert tracer is not None
    assert tracer.keep is not None
    states = [tracer.keep.kept[n] for n in range(tracer.keep.count)]
    # On a fixed grid the steps may have left out the stages that only the extension needs.
    return DenseOutput(problem, tableau(tracer.tableau.name), tracer.mesh, tracer.taken, states, end)


def _reached(ran: Ran) -> Tensor:
    iterate, mesh = ran.iterate, ran.recorder.mesh
    if mesh is None:
        t: Tensor = iterate.memory.t
        return t.expand(iterate.value.shape[0], 1)[:, 0]
    return torch.tensor(mesh, dtype=torch.float64, device=iterate.value.device)[iterate.accepted]


def _attach_time(problem: InitialValueProblem, point: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """The event's state and time with the gradient that the moving time gives them.

    One Newton step t - g / (dg/dt along the flow), with the slope held fixed, changes no value and has the derivative
    of the implicit function; the state moves along its velocity with it.
    """
    wanted = torch.is_grad_enabled() and point.requires_grad
    if not wanted:
        return point, time
    event, packing = problem.event, problem.packing
    assert event is not None
    here = time.detach()
    with torch.no_grad():
        velocity = velocity_at(problem, point.detach(), here)
        slope = torch.func.jvp(
            lambda t, x: evaluate(event, packing, t, x), (here, point.detach()), (torch.ones_like(here), velocity)
        )[1]
    g = evaluate(event, packing, here, point)
    shift = -((g - g.detach()) / slope)[:, None]
    moved = here + shift.to(here.dtype)
    return point + velocity * shift.to(velocity.dtype), moved


def velocity_at(problem: InitialValueProblem, x: Tensor, t: Tensor) -> Tensor:
    """dX/dt of packed states at times of shape (rows, 1)."""
    from cde_nets.solver.dynamics import Moment

    return problem.dynamics.velocity(x, Moment(0, 0, t, t))
