"""A flow's solution as a function of time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cde_nets.solver.dynamics import Dynamics
from cde_nets.solver.flow.record import Taken, interpolate
from cde_nets.solver.flow.steps import Step, stages
from cde_nets.solver.flow.tableau import Tableau
from cde_nets.solver.initial_value import InitialValueProblem
from cde_nets.solver.states import real


class Stopped(NamedTuple):
    """Rows that stopped at an event.

    Attributes:
        met: which, shape (rows, 1).
        time: when, float64, shape (rows, 1).
        state: where, shape (rows, numbers).
    """

    met: Tensor
    time: Tensor
    state: Tensor

    def hold(self, t: Tensor | float, x: Tensor, sign: float) -> Tensor:
        """The states x at t, with rows that have stopped by then where they stopped; sign is that of time's course."""
        return torch.where(self.met & (sign * t >= sign * self.time), self.state, x)


class DenseOutput:
    """t -> state, on the continuous extension of the steps taken; without a gradient.

    The slopes are evaluated again at every call: only the states at the step ends are held, and what trains as it was.

    Args:
        problem: the flow.
        tableau: the method, with its extension.
        mesh: the step ends where all rows share them, else None.
        taken: the steps.
        states: where each of them started.
        end: the last states.
        stopped: the rows that stopped within a step.
    """

    def __init__(
        self,
        problem: InitialValueProblem,
        tableau: Tableau,
        mesh: Sequence[float] | None,
        taken: Sequence[Taken],
        states: Sequence[Tensor],
        end: Tensor,
        stopped: Stopped | None = None,
    ) -> None:
        self._problem, self._tableau, self._mesh, self._taken = problem, tableau, mesh, taken
        self._stopped = stopped
        self._states, self._end = torch.stack([*states, end]).detach(), end.detach()
        with torch.no_grad():
            dynamics = problem.dynamics
            bound: Dynamics = dynamics if mesh is None else dynamics.bind(mesh, tableau.c)
            # Copies: what is trained on moves, and these states do not.
            self._dynamics = bound.on([leaf.detach().clone() for leaf in bound.leaves])
        self._sign = math.copysign(1.0, problem.t1 - problem.t0)

    @torch.no_grad()
    def __call__(self, t: float | Sequence[float] | Tensor) -> Any:
        """The state at t, built as the initial state. Rows that ended before t give their last state.

        Args:
            t: a time, or several: those come first in the shape of what is returned.

        Raises:
            ValueError: no numbers, a table of them, or a time outside of the flow's.
        """
        try:
            times = np.asarray(t, dtype=np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"t must be a time or a sequence of times; got {t!r}.") from None
        if times.ndim > 1:
            raise ValueError(f"t must be a time or a sequence of times; got shape {times.shape}.")
        if not times.ndim:
            return self._problem.packing.unpack(self._at(float(times)))
        states = [self._at(one) for one in times.tolist()]
        return self._problem.packing.unpack(torch.stack(states) if states else self._end.new_zeros(0, *self._end.shape))

    def _at(self, t: float) -> Tensor:
        low, high = sorted((self._problem.t0, self._problem.t1))
        if not low <= t <= high:
            raise ValueError(f"t={t!r} lies outside of the flow's times, {low:g} to {high:g}.")
        value = self._on_mesh(t) if self._mesh is not None else self._by_row(t)
        if self._stopped is not None:
            value = self._stopped.hold(t, value, self._sign)
        return value

    def _on_mesh(self, t: float) -> Tensor:
        assert self._mesh is not None
        n = sum(self._sign * s <= self._sign * t for s in self._mesh[1:-1])
        start, end = self._mesh[n], self._mesh[n + 1]
        x, taken = self._states[n], self._taken[n]
        value = self._extension(x, taken.step, (t - start) / (end - start))
        return torch.where(taken.moved[:, None], value, x)

    def _by_row(self, t: float) -> Tensor:
        rows = self._end.shape[0]
        starts = torch.stack([self._column(taken.step.t, rows) for taken in self._taken])
        widths = torch.stack([self._column(taken.step.h, rows) for taken in self._taken])
        ends = torch.stack([self._column(taken.step.end, rows) for taken in self._taken])
        middles = torch.stack([self._column(taken.step.inside, rows) for taken in self._taken])
        moved = torch.stack([taken.moved for taken in self._taken])
        # The last step each row took that starts no later than t.
        numbers = torch.arange(len(self._taken), device=moved.device)[:, None]
        last = torch.where(moved & (self._sign * starts <= self._sign * t), numbers, -1).max(0).values
        together = self._taken[0].step.t is not None and self._taken[0].step.t.shape[0] == 1
        # Rows that step together are all looked up in the step of those that go on; the others stand still there.
        latest = last.max() if together and rows else last
        last = torch.where(last == latest, last, -1) if together else last
        place, row = latest.clamp(min=0).expand(rows), torch.arange(rows, device=moved.device)
        x = self._states[place, row]
        width, at, end, middle = (part[place, row][:, None] for part in (widths, starts, ends, middles))
        theta = ((t - at) / (end - at)).clamp(max=1.0).to(real(x.dtype))
        keep = slice(0, 1) if together else slice(None)
        step = Step(0, width.to(real(x.dtype))[keep], at[keep], end[keep], middle[keep])
        return torch.where(last[:, None] >= 0, self._extension(x, step, theta), x)

    def _extension(self, x: Tensor, step: Step, theta: float | Tensor) -> Tensor:
        _, slopes = stages(self._dynamics, self._tableau, x, step)
        return interpolate(self._tableau, self._problem.manifold, x, step, slopes, theta)

    @staticmethod
    def _column(value: Any, rows: int) -> Tensor:
        column: Tensor = value.to(torch.float64).expand(rows, 1)[:, 0]
        return column
