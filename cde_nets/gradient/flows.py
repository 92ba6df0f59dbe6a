"""Running a flow and making its solution: what all gradients of flows share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cde_nets.door import numbers
from cde_nets.gradient.base import Settings
from cde_nets.gradient.meeting import MetIn, meeting
from cde_nets.solver.flow.adaptive import AdaptiveRungeKutta
from cde_nets.solver.flow.dense import DenseOutput, Stopped
from cde_nets.solver.flow.events import Hits, locate
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
from cde_nets.solver.status import Status, succeeded

OwnSteps = FixedRungeKutta | AdaptiveRungeKutta | FixedReversible


class Raw(NamedTuple):
    """The packed states that a flow gives and that a gradient reaches.

    Attributes:
        end: after the last step, shape (rows, numbers).
        saved: at the save times after the start, shape (times, rows, numbers).
        start: where the step began in which a row met its event, shape (rows, numbers); None without an event.
        slopes: that step's stages' slopes, shape (stages, rows, numbers); None likewise.
    """

    end: Tensor
    saved: Tensor
    start: Tensor | None = None
    slopes: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Those there are."""
        return tuple(part for part in self if part is not None)


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
        separation: norm of the difference of a reversible method's copies, shape (rows,).
    """

    raw: Raw
    iterate: Iterate
    recorder: Recorder
    tracer: Recorder | None = None
    theta: Tensor | None = None
    crossing: Tensor | None = None
    separation: Tensor | None = None


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
    if isinstance(times, Tensor) and times.requires_grad:
        raise ValueError(
            "The save times want a gradient, which times do not get here: detach them, or take "
            "cde_nets.compat.torchdiffeq.odeint, where they do."
        )
    if isinstance(times, Tensor):
        numbers("The save times", times)
    try:
        wanted = [float(t) for t in (times.tolist() if isinstance(times, Tensor) else times)]
    except (TypeError, ValueError):
        raise ValueError(f"Save times are a sequence of numbers, or a SaveAt of one; got {times!r}.") from None
    low, high = sorted((problem.t0, problem.t1))
    sign = math.copysign(1.0, problem.t1 - problem.t0)
    outside = next((t for t in wanted if not low <= t <= high), None)
    if outside is not None:
        raise ValueError(
            f"The save time {outside!r} lies outside of the flow's times, {low:g} to {high:g}. (Times made in single "
            "precision are seldom those in double: give them as numbers, or with dtype=torch.float64.)"
        )
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
        y, z = iterate.value.detach().chunk(2, 1)
        dim = y.shape[1]
        raw = Raw(iterate.value[:, :dim], saved[:, :, :dim])
        return Ran(raw, iterate, recorder, tracer, separation=_size(y - z))
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
    raw = Raw(iterate.value, saved, hits.start, torch.stack(list(hits.slopes)))
    return Ran(raw, iterate, recorder, tracer, theta.to(real_dtype), crossing)


def run_apart(
    problem: InitialValueProblem, scheme: OwnSteps, settings: Settings, saves: Sequence[float], keep: States | None
) -> Ran:
    """`run_flow` without a graph, for a gradient that makes its own; keep is None where nothing known wants one.

    Raises:
        ValueError: no tensor that the flow was given wants a gradient, but one that it depends on does.
    """
    if keep is not None or not torch.is_grad_enabled():
        with torch.no_grad():
            return run_flow(problem, scheme, settings, saves, keep)
    # No graph comes about here, unless the field depends on what nobody has told of.
    ran = run_flow(problem, scheme, settings, saves, None)
    if ran.raw.end.requires_grad:
        raise ValueError(
            "The field depends on tensors that want a gradient and that it was not given, though not at the start: "
            "this gradient would lose them. Make it an nn.Module that holds them, pass them in args=(..) as "
            "f(t, x, *args), or take gradient=Autograd()."
        )
    return ran


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
    end, saved, event_time, reached, stopped = raw.end, raw.saved, None, _reached(ran), None
    if raw.start is not None:
        assert raw.slopes is not None
        assert ran.crossing is not None
        assert ran.theta is not None
        met = (iterate.status == int(Status.EVENT))[:, None]
        reached = torch.where(met, ran.crossing, reached[:, None])[:, 0]
        step = MetIn(iterate.memory.events, met, succeeded(iterate.status), raw.start, raw.slopes)
        point, time = meeting(problem, ran.recorder.tableau, step, ran.theta, ran.crossing)
        end = torch.where(met, point, end)
        stopped = Stopped(met, ran.crossing, point.detach())
        event_time = torch.where(met, time, problem.t1)[:, 0]
        if saved.shape[0]:
            sign = math.copysign(1.0, problem.t1 - problem.t0)
            times = torch.tensor(save_times(problem, settings.save_at.times)[0], dtype=torch.float64, device=end.device)
            late = met & (sign * times[:, None, None] > sign * time.detach())
            saved = torch.where(late, end, saved)
    value = end
    if settings.save_at.times is not None:
        value = torch.cat([problem.packed()[None], saved]) if at_start else saved
    statistics = Statistics(iterate.accepted, iterate.rejected, evaluations(), separation=ran.separation)
    trace = _trace(problem, ran, raw.end.detach(), stopped) if settings.save_at.steps else None
    dense = _dense(problem, ran, raw.end.detach(), stopped) if settings.save_at.dense else None
    return Solution(packing.unpack(value), iterate.status, statistics, reached, _size(end), event_time, trace, dense)


def _size(end: Tensor) -> Tensor:
    size: Tensor = torch.linalg.vector_norm(end.detach(), dim=1)
    return size


def _trace(problem: InitialValueProblem, ran: Ran, end: Tensor, stopped: Stopped | None) -> Trace:
    tracer = ran.tracer
    assert tracer is not None
    assert tracer.keep is not None
    states = [tracer.keep.kept[n][:, : end.shape[1]] for n in range(tracer.keep.count)]
    if tracer.mesh is not None:
        times = torch.tensor(tracer.mesh, dtype=torch.float64, device=end.device)[:, None]
    else:
        # A step that was refused shows as a time that stands still.
        starts = [taken.step.t for taken in tracer.taken if taken.step.t is not None]
        times = torch.cat([*starts, ran.iterate.memory.t], 1).mT
    values = torch.stack([*states, end])
    if stopped is not None:
        sign = math.copysign(1.0, problem.t1 - problem.t0)
        values = torch.stack([stopped.hold(t[:, None], x, sign) for t, x in zip(times, values, strict=True)])
        if times.shape[1] == len(end):
            late = stopped.met[:, 0] & (sign * times > sign * stopped.time[:, 0])
            times = torch.where(late, stopped.time[:, 0], times)
    return Trace(problem.packing.unpack(values), times[:, 0] if times.shape[1] == 1 else times)


def _dense(problem: InitialValueProblem, ran: Ran, end: Tensor, stopped: Stopped | None) -> DenseOutput:
    tracer = ran.tracer
    assert tracer is not None
    assert tracer.keep is not None
    states = [tracer.keep.kept[n] for n in range(tracer.keep.count)]
    # On a fixed grid the steps may have left out the stages that only the extension needs.
    return DenseOutput(problem, tableau(tracer.tableau.name), tracer.mesh, tracer.taken, states, end, stopped)


def _reached(ran: Ran) -> Tensor:
    iterate, mesh = ran.iterate, ran.recorder.mesh
    if mesh is None:
        t: Tensor = iterate.memory.t
        return t.expand(iterate.value.shape[0], 1)[:, 0]
    return torch.tensor(mesh, dtype=torch.float64, device=iterate.value.device)[iterate.accepted]
