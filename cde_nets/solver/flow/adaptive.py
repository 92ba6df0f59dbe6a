"""Runge-Kutta with steps chosen by an embedded error estimate, a row each or one for all."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cde_nets.solver.dynamics import Counted, Moment
from cde_nets.solver.flow.controller import Controller
from cde_nets.solver.flow.events import Hits, advance, begin
from cde_nets.solver.flow.gathered import gathered
from cde_nets.solver.flow.steps import Step, along, combine, stages
from cde_nets.solver.flow.tableau import Tableau
from cde_nets.solver.initial_value import InitialValueProblem
from cde_nets.solver.method import Iterate, Scheme, start
from cde_nets.solver.states import finite_rows, real
from cde_nets.solver.status import Status
from cde_nets.solver.tolerance import Tolerance

# How much wider than the controller's a step may be to land on a stop.
SLIVER = 1e-3


class Adapted(NamedTuple):
    """What is kept between adaptive steps; "rows" is 1 in the shapes where all rows step together.

    Attributes:
        tolerance: the solve's.
        stops: the breakpoints and the end, float64, shape (stops + 1,); the end twice.
        middles: of the stretches between breakpoints, as stops; the last one twice.
        times: the save times, float64, shape (times,).
        t: where every row stands, float64, shape (rows, 1).
        h: the next step's width, at least 0, float64, shape (rows, 1).
        piece: which stretch between breakpoints a row is in, shape (rows, 1).
        stop: where it ends, float64, shape (rows, 1).
        middle: its middle, float64, shape (rows, 1).
        previous: the last accepted error, shape (rows, 1).
        first: the slope at the state, where the last step's last stage gave it.
        sound: rows that run have a finite slope there, of which the last error is a proof.
        step: the step tried last; None before the first.
        slopes: its stages' slopes.
        scale: what the manifold's pullback needs of its retraction.
        saved: how many of the save times each row has passed, shape (rows, 1).
        passed: how many of them in the last step, shape (rows, 1).
        fine: rows whose last trial was finite, shape (batch,).
        worst: rows whose last error was the largest of those that decide together, shape (batch,).
        sick: rows whose velocity is not finite where they stand, shape (batch,); None where that is known of none.
        events: where rows met their event; None where there is none.
    """

    tolerance: Tolerance
    stops: Tensor
    middles: Tensor
    times: Tensor
    t: Tensor
    h: Tensor
    piece: Tensor
    stop: Tensor
    middle: Tensor
    previous: Tensor
    saved: Tensor
    passed: Tensor
    fine: Tensor
    worst: Tensor
    sick: Tensor | None = None
    events: Hits | None = None
    first: Tensor | None = None
    sound: bool = False
    step: Step | None = None
    slopes: Sequence[Tensor] = ()
    scale: Tensor | None = None


@dataclass(frozen=True, eq=False)
class AdaptiveRungeKutta(Scheme):
    """An embedded pair with a step size controller.

    Attributes:
        tableau: the method, with an error estimate.
        controller: how widths follow from errors.
        per_row: every row has its own times; else the root mean square over all rows decides for all.
        first_step: the first width; chosen as Hairer, Norsett and Wanner do (II.4) where None.
        dynamics: dX/dt.
        times: where the flow starts and ends.
        save_at: times that observers want the state at, in the order they are passed.
    """

    tableau: Tableau
    controller: Controller
    per_row: bool
    first_step: float | None
    dynamics: Counted
    times: tuple[float, float]
    save_at: Sequence[float] = ()

    def init(self, problem: InitialValueProblem, tolerance: Tolerance) -> Iterate:
        """At t0, with a first step's width."""
        x = problem.packed()
        rows = x.shape[0] if self.per_row else 1
        t = torch.full((rows, 1), problem.t0, dtype=torch.float64, device=x.device)
        whole = torch.zeros((rows, 1), dtype=torch.int64, device=x.device)
        none = torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
        # The end twice, so that rows which have arrived look nowhere else.
        ends = [problem.t0, *problem.breakpoints, problem.t1]
        middles = [(s + e) / 2 for s, e in itertools.pairwise(ends)]
        memory = Adapted(
            tolerance,
            stops=t.new_tensor([*ends[1:], problem.t1]),
            middles=t.new_tensor([*middles, middles[-1]]),
            times=t.new_tensor(list(self.save_at)),
            t=t,
            h=t,
            piece=whole,
            stop=torch.full_like(t, ends[1]),
            middle=torch.full_like(t, middles[0]),
            previous=torch.ones_like(t),
            saved=whole,
            passed=whole,
            fine=none,
            worst=none,
        )
        if problem.event is not None:
            memory = memory._replace(events=begin(problem.event, problem.packing, x, t, self.tableau.stages))
        if self.first_step is not None:
            return start(x, memory=memory._replace(h=torch.full_like(t, self.first_step)))
        first = self.dynamics.velocity(x, Moment(0, 0, t, memory.middle))
        with torch.no_grad():
            memory = memory._replace(h=self._first_width(problem, x, first, memory), first=first)
        return start(x, memory=memory)

    def step(self, problem: InitialValueProblem, state: Iterate) -> Iterate:
        """Try a step; rows where the error is too large, or the trial not finite, stay where they are."""
        memory: Adapted = state.memory
        x, direction = state.value, math.copysign(1.0, problem.t1 - problem.t0)
        left = (memory.stop - memory.t).abs()
        # A sliver that would be left over is taken along.
        lands = memory.h * (1 + SLIVER) >= left
        width = torch.where(lands, left, memory.h)
        wide = (width if direction > 0 else -width).to(real(x.dtype))
        end = torch.where(lands, memory.stop, torch.add(memory.t, width, alpha=direction))
        step = Step(0, wide, memory.t, end, memory.middle)
        dynamics = gathered(self.dynamics, state.running)
        states, slopes = stages(dynamics, self.tableau, x, step, first=memory.first)
        # The last stage of such a method stands where the step ends.
        trial = states[-1] if self.tableau.fsal else along(x, wide, self.tableau.b, slopes)
        value, scale = trial, None
        if problem.manifold is not None:
            value, scale = problem.manifold.retract(x, trial)
        sick, counted = None, state.running
        if not memory.sound:
            sick = counted & ~finite_rows(slopes[0])
            counted = counted & ~sick
        # Widths are held fixed by every gradient.
        with torch.no_grad():
            zero = torch.linalg.vector_norm(value - value, dim=1, keepdim=True)
            own = self._errors(x, trial, wide, slopes, memory.tolerance, zero)
            error, worst = self._together(own, counted)
            factor = self.controller.factor(error, memory.previous, self._order)
        good = error <= 1
        moved = counted & good[:, 0]
        here = moved[:, None]
        onward = here if self.per_row else good
        landed = onward & lands
        further = width * factor
        piece = memory.piece + landed
        again = self._next_slope(problem, here, slopes)
        after = memory._replace(
            t=torch.where(onward, end, memory.t),
            # The width before it was cut to land on a stop is what the controller has learnt about.
            h=torch.where(landed & (factor >= 1), torch.maximum(further, memory.h), further),
            piece=piece,
            previous=torch.where(onward, error, memory.previous),
            first=again,
            # No error is finite that has a slope in it which is not.
            sound=again is not None and self._ends_weigh,
            step=step,
            slopes=slopes,
            scale=scale,
            fine=zero[:, 0] == 0,
            worst=worst,
            sick=sick,
        )
        if problem.breakpoints:
            place = piece[:, 0]
            stop, middle = (table.index_select(0, place)[:, None] for table in (memory.stops, memory.middles))
            after = after._replace(stop=stop, middle=middle)
        # A trial that was refused may be anything, infinite too: its row stays where it is, to try less.
        value = torch.where(here, value, x)
        after = self._count_saves(problem, after)
        if problem.event is not None:
            assert memory.events is not None
            times = memory.t, end
            hits = advance(problem.event, problem.packing, memory.events, x, value, times, slopes, moved)
            after = after._replace(events=hits)
        # All rows that do not move have been put back: what runs is finite.
        return replace(state, value=value, moved=moved, memory=after, settled=state.running)

    def terminate(self, problem: InitialValueProblem, state: Iterate) -> Tensor:
        """DONE at t1; failed where the width is below the times' resolution, or the velocity is not finite."""
        memory: Adapted = state.memory
        running = torch.zeros_like(state.status)
        if memory.step is None:
            return running
        scale = max(abs(problem.t0), abs(problem.t1), abs(problem.t1 - problem.t0))
        least = 8 * torch.finfo(torch.float64).eps * scale
        done = memory.piece > len(problem.breakpoints)
        short = memory.h < least
        if not self.per_row:
            # Only rows that are to blame fail; the others go on from a step of the least width.
            short = short & memory.worst[:, None]
        failure = torch.where(memory.fine, int(Status.STEP_TOO_SMALL), int(Status.DIVERGED))[:, None]
        code = torch.where(done, int(Status.DONE), short * failure)[:, 0]
        if memory.sick is not None:
            code = torch.where(memory.sick, int(Status.DIVERGED), code)
        return code if memory.events is None else torch.where(memory.events.hit, int(Status.EVENT), code)

    def signals(self, state: Iterate) -> list[Tensor]:
        """Whether any row moved, and the most save times that one of them passed."""
        return [
            state.moved.sum() if state.moved is not None else state.running.sum() * 0,
            # Of no rows there is no largest.
            state.memory.passed.max() if state.memory.passed.numel() else state.running.sum() * 0,
        ]

    def fraction(self, state: Iterate) -> float | None:
        """How far the slowest running row is."""
        memory: Adapted = state.memory
        part = (memory.t - self.times[0]) / (self.times[1] - self.times[0])
        part = torch.where(state.running[:, None], part, 1.0)
        return float(part.min()) if part.numel() else 1.0

    @property
    def _order(self) -> int:
        assert self.tableau.error_order is not None
        return min(self.tableau.error_order, self.tableau.order) + 1

    @cached_property
    def _ends_weigh(self) -> bool:
        """Whether the slopes at both ends of a step are part of its error."""
        error = self.tableau.error
        return error is not None and error[0] != 0 and error[-1] != 0

    def _errors(
        self, x: Tensor, trial: Tensor, h: Tensor, slopes: Sequence[Tensor], tolerance: Tolerance, zero: Tensor
    ) -> Tensor:
        """The root mean square of every row's scaled error, shape (batch, 1).

        A trial that is not finite is refused even where the estimate happens to be: zero is NaN there, else 0.
        """
        assert self.tableau.error is not None
        estimate = combine(self.tableau.error, slopes)
        assert estimate is not None
        return _root_mean_square(h * estimate / scale_of(tolerance, x, trial)) + zero

    def _together(self, error: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        """The errors that decide, shape (rows, 1), and the rows to blame if steps get too small, shape (batch,)."""
        error = error.to(torch.float64)
        if self.per_row:
            return error, counted
        total = torch.where(counted[:, None], error, 0.0).square().sum(0, keepdim=True)
        own = torch.where(counted, error[:, 0].nan_to_num(nan=math.inf), -1.0)
        worst = own == own.amax() if own.numel() else counted
        return (total / counted.sum().clamp(min=1)).sqrt(), worst

    def _next_slope(self, problem: InitialValueProblem, here: Tensor, slopes: Sequence[Tensor]) -> Tensor | None:
        # The last slope is the next first one where neither the state nor the formula changes in between.
        if not self.tableau.fsal or problem.manifold is not None or problem.jumps:
            return None
        return torch.where(here, slopes[-1], slopes[0])

    def _count_saves(self, problem: InitialValueProblem, memory: Adapted) -> Adapted:
        if not self.save_at:
            return memory
        direction = math.copysign(1.0, problem.t1 - problem.t0)
        saved = torch.searchsorted(direction * memory.times, direction * memory.t, right=True)
        return memory._replace(saved=saved, passed=saved - memory.saved)

    def _first_width(self, problem: InitialValueProblem, x: Tensor, first: Tensor, memory: Adapted) -> Tensor:
        """Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, section II.4."""
        span = abs(problem.t1 - problem.t0)
        direction = math.copysign(1.0, problem.t1 - problem.t0)
        scale = scale_of(memory.tolerance, x, x)
        size, slope = self._norm(x / scale), self._norm(first / scale)
        guess = torch.where((size < 1e-5) | (slope < 1e-5), 1e-6, 0.01 * size / slope).clamp(max=span)
        left = (memory.stop - memory.t).abs()
        guess = torch.minimum(guess.to(torch.float64), left)
        wide = (direction * guess).to(real(x.dtype))
        end = torch.where(guess < left, memory.t + direction * guess, memory.stop)
        step = Step(0, wide, memory.t, end, memory.middle)
        second = self.dynamics.velocity(x + wide * first, step.moment(1, 1.0))
        bend = self._norm((second - first) / scale) / guess
        most = torch.maximum(slope, bend)
        better = torch.where(most <= 1e-15, (guess * 1e-3).clamp(min=1e-6), (0.01 / most) ** (1 / self._order))
        # Rows that are not finite get some width: they fail in the first step, and say why.
        width = torch.minimum(100 * guess, better)
        return torch.where(torch.isfinite(width), width, span * 1e-3).clamp(max=span)

    def _norm(self, scaled: Tensor) -> Tensor:
        size = _root_mean_square(scaled).to(torch.float64)
        if not self.per_row:
            finite = torch.isfinite(size)
            total = torch.where(finite, size, 0.0).square().sum(0, keepdim=True)
            size = (total / finite.sum().clamp(min=1)).sqrt()
        return size


def _root_mean_square(x: Tensor) -> Tensor:
    """Of every row, float, shape (rows, 1); 0 of no numbers."""
    size: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return size * (1 / math.sqrt(max(x.shape[1], 1)))


def scale_of(tolerance: Tolerance, x: Tensor, y: Tensor) -> Tensor:
    """Atol + rtol max(|x|, |y|), element by element."""
    scale: Any = tolerance.atol + tolerance.rtol * torch.maximum(x.abs(), y.abs())
    return scale  # type: ignore[no-any-return]
