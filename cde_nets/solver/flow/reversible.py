"""Any explicit Runge-Kutta method made algebraically reversible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from cde_nets.options import options, within
from cde_nets.solver.dynamics import Counted, Dynamics
from cde_nets.solver.flow.fixed import OnGrid
from cde_nets.solver.flow.runge_kutta import RungeKutta
from cde_nets.solver.flow.steps import Step, combine, stages
from cde_nets.solver.flow.tableau import Tableau
from cde_nets.solver.initial_value import InitialValueProblem
from cde_nets.solver.method import Iterate, Method, Scheme, start
from cde_nets.solver.status import Status
from cde_nets.solver.tolerance import Tolerance


@options
class Reversible(Method):
    """Two copies of the state that step each other, so that a step can be undone up to rounding.

    With Psi_h(t, x) the increment of the base method and mixing m:
    y' = m y + (1 - m) z + Psi_h(t, z), z' = z - Psi_{-h}(t + h, y') (McCallum and Foster, "Efficient, accurate and
    stable gradients for neural ODEs", 2024). The order is the base's. With `Discrete` the states are reconstructed on
    the way back and none is stored.

    It is for flows that do not contract much. Where x' = -r x the difference of the copies follows x' = r x, as in the
    leapfrog scheme: it grows as exp(r (t1 - t0)) from what a step leaves out, whatever the steps' number. Mixing damps
    it by m a step, so that steps shorter than (1 - m) / r are stable; but the way back undoes that, and grows rounding
    by 1 / m a step beside what the flow itself grows backward in time. How far the copies ended apart is in the
    solution's `statistics.separation`; where that exceeds the state, `solve` warns, unless throw=False forbids to look.

    Args:
        base: a `RungeKutta` on a fixed grid.
        mixing: m in (0, 1]; below 1 for stability.

    Raises:
        ValueError: an adaptive base, or mixing outside (0, 1].
    """

    solves: ClassVar[str] = "flow"

    base: RungeKutta
    mixing: float = 0.999

    def __post_init__(self) -> None:
        """Check both."""
        if not isinstance(self.base, RungeKutta) or not self.base.fixed:
            raise ValueError(
                f"Reversible takes a RungeKutta on a fixed grid, such as RungeKutta('rk4', steps=20); got {self.base}."
            )
        if not isinstance(self.mixing, int | float) or self.mixing != 1:
            within("mixing", self.mixing, 0, 1)

    def resolve(self, problem: InitialValueProblem, save_at: Sequence[float] = ()) -> Scheme:
        """On the problem's mesh.

        Raises:
            ValueError: a manifold or event, or save times that are no step ends.
        """
        for name, value in (("manifold", problem.manifold), ("event", problem.event)):
            if value is not None:
                raise ValueError(f"A reversible step cannot be undone across a {name}: take the base method itself.")
        mesh = self.base.grid(problem)
        astray = [t for t in save_at if t not in mesh]
        if astray:
            raise ValueError(
                f"A reversible method has no continuous extension: the save time {astray[0]:g} is no step's end. Give "
                "the step ends with RungeKutta(name, mesh=(..))."
            )
        tableau = self.base.tableau.bare
        # The second half of a step runs backward in time from its end.
        nodes = (*tableau.c, *(1 - c for c in tableau.c))
        return FixedReversible(tableau, mesh, Counted(problem.dynamics.bind(mesh, nodes)), self.mixing)


@dataclass(frozen=True, eq=False)
class FixedReversible(Scheme):
    """Reversible steps between given times; the packed state holds y and z side by side.

    Attributes:
        tableau: of the base.
        mesh: the step ends.
        dynamics: bound to the mesh, with the nodes of both halves.
        mixing: m.
    """

    tableau: Tableau
    mesh: Sequence[float]
    dynamics: Counted
    mixing: float

    def planned(self, problem: InitialValueProblem) -> int:
        """The number of steps of the mesh."""
        return len(self.mesh) - 1

    def init(self, problem: InitialValueProblem, tolerance: Tolerance) -> Iterate:
        """Both copies at the initial state."""
        x = problem.packed()
        return start(torch.cat([x, x], 1), memory=OnGrid())

    def step(self, problem: InitialValueProblem, state: Iterate) -> Iterate:
        """One step of the pair."""
        last: Step | None = state.memory.step
        n = 0 if last is None else last.n + 1
        there, back = halves(n, self.mesh[n + 1] - self.mesh[n], self.tableau)
        y, z = state.value.chunk(2, 1)
        y = self.mixing * y + (1 - self.mixing) * z + increment(self.dynamics, self.tableau, z, there)
        z = z - increment(self.dynamics, self.tableau, y, back)
        return replace(state, value=torch.cat([y, z], 1), moved=None, memory=OnGrid(there))

    def terminate(self, problem: InitialValueProblem, state: Iterate) -> Tensor:
        """Rows that are still finite at the mesh's last time are done."""
        return torch.full_like(state.status, int(Status.DONE))


def halves(n: int, h: float, tableau: Tableau) -> tuple[Step, Step]:
    """The two increments that step n is made of."""
    return Step(n, h), Step(n, -h, offset=tableau.stages)


def increment(dynamics: Dynamics, tableau: Tableau, x: Tensor, step: Step) -> Tensor:
    """Psi_h(t, x) = h sum_j b_j k_j."""
    total = combine(tableau.b, stages(dynamics, tableau, x, step)[1])
    assert total is not None
    return step.h * total
