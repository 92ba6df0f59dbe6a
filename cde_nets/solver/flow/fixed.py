"""Runge-Kutta on a mesh that is known beforehand: nothing is read from the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from cde_nets.solver.dynamics import Counted
from cde_nets.solver.flow.events import Hits, advance, begin
from cde_nets.solver.flow.steps import Step, along, stages
from cde_nets.solver.flow.tableau import Tableau
from cde_nets.solver.initial_value import InitialValueProblem
from cde_nets.solver.method import Iterate, Scheme, start
from cde_nets.solver.states import finite_rows
from cde_nets.solver.status import Status
from cde_nets.solver.tolerance import Tolerance


class OnGrid(NamedTuple):
    """What is kept of a step on a fixed grid.

    Attributes:
        step: the step that was taken last; None before the first.
        slopes: its stages' slopes.
        scale: what the manifold's pullback needs of the retraction, shape (rows, 1); None without a manifold.
        events: where rows met their event; None where there is none.
    """

    step: Step | None = None
    slopes: Sequence[Tensor] = ()
    scale: Tensor | None = None
    events: Hits | None = None


@dataclass(frozen=True, eq=False)
class FixedRungeKutta(Scheme):
    """Explicit Runge-Kutta steps between given times.

    Attributes:
        tableau: the method.
        mesh: the step ends.
        dynamics: bound to the mesh.
    """

    tableau: Tableau
    mesh: Sequence[float]
    dynamics: Counted

    def planned(self, problem: InitialValueProblem) -> int:
        """The number of steps of the mesh."""
        return len(self.mesh) - 1

    def init(self, problem: InitialValueProblem, tolerance: Tolerance) -> Iterate:
        """At the mesh's first time."""
        x = problem.packed()
        if problem.event is None:
            return start(x, memory=OnGrid())
        hits = begin(problem.event, problem.packing, x, self._time(0, x), self.tableau.stages)
        return start(x, memory=OnGrid(events=hits))

    def step(self, problem: InitialValueProblem, state: Iterate) -> Iterate:
        """One step, put back on the manifold where there is one."""
        last: Step | None = state.memory.step
        n = 0 if last is None else last.n + 1
        x, step = state.value, self.place(n)
        _, slopes = stages(self.dynamics, self.tableau, x, step)
        value = along(x, step.h, self.tableau.b, slopes)
        scale = None
        if problem.manifold is not None:
            value, scale = problem.manifold.retract(x, value)
        if problem.event is None:
            return replace(state, value=value, moved=None, memory=OnGrid(step, slopes, scale))
        times = self._time(n, x), self._time(n + 1, x)
        moved = state.running & finite_rows(value)
        hits = advance(problem.event, problem.packing, state.memory.events, x, value, times, slopes, moved)
        return replace(
            state,
            value=value,
            moved=None,
            running=state.running & ~hits.hit,
            status=torch.where(state.running & hits.hit, int(Status.EVENT), state.status),
            memory=OnGrid(step, slopes, scale, hits),
        )

    def terminate(self, problem: InitialValueProblem, state: Iterate) -> Tensor:
        """Rows that are still finite at the mesh's last time are done."""
        return torch.full_like(state.status, int(Status.DONE))

    def place(self, n: int) -> Step:
        """Where step n stands in time."""
        return Step(n, self.mesh[n + 1] - self.mesh[n])

    def _time(self, n: int, x: Tensor) -> Tensor:
        return torch.full((1, 1), self.mesh[n], dtype=torch.float64, device=x.device)
