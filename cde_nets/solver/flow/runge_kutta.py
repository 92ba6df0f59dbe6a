"""Explicit Runge-Kutta methods, as users name them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar

from cde_nets.options import options, within
from cde_nets.solver.dynamics import Counted
from cde_nets.solver.flow.adaptive import AdaptiveRungeKutta
from cde_nets.solver.flow.controller import Controller, PIController
from cde_nets.solver.flow.fixed import FixedRungeKutta
from cde_nets.solver.flow.mesh import aligned_mesh
from cde_nets.solver.flow.tableau import Tableau, tableau
from cde_nets.solver.initial_value import InitialValueProblem
from cde_nets.solver.method import Method, Scheme


@options
class RungeKutta(Method):
    """An explicit Runge-Kutta method, on a fixed grid or with steps that adapt.

    On a fixed grid the tolerance is not looked at and nothing is read from the device. Steps always end on the
    breakpoints of the control.

    Args:
        name: "euler" (with one step an interval of the control: the residual network), "midpoint", "heun", "heun3",
            "rk4", "rk38", "bosh3", "dopri5" or "tsit5".
        steps: of the fixed grid. None: steps adapt where the method has an embedded error estimate (heun, bosh3,
            dopri5, tsit5); for the others one step for each interval of the control.
        per_row: adaptive steps are every row's own; False takes one step size for all, decided by the root mean square
            of their errors.
        first_step: width of the first adaptive step; chosen from the field where None.
        controller: of adaptive steps.
        mesh: the step ends themselves, in place of steps.

    Raises:
        ValueError: an unknown name, steps below 1, options of adaptive steps given with a fixed grid, a controller
            that is none.
        TypeError: an unknown option; the message names the nearest.
    """

    solves: ClassVar[str] = "flow"

    name: str
    steps: int | None = None
    per_row: bool = True
    first_step: float | None = None
    controller: Controller | None = None
    mesh: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Check all that can be checked without a problem."""
        tableau(self.name)
        steps = self.steps
        if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
            raise ValueError(f"{self.name} takes steps >= 1, or None {self._without_steps()}; got {steps!r}.")
        if not isinstance(self.per_row, bool):
            raise ValueError(f"per_row must be True or False; got {self.per_row!r}.")
        if self.first_step is not None:
            within("first_step", self.first_step, 0)
        if self.controller is not None and not isinstance(self.controller, Controller):
            raise ValueError(f"controller must be one such as PIController(); got {self.controller!r}.")
        if self.mesh is not None:
            self._check_mesh()
        if self.fixed:
            given = [
                name
                for name, is_default in (
                    ("per_row", self.per_row),
                    ("first_step", self.first_step is None),
                    ("controller", self.controller is None),
                )
                if not is_default
            ]
            if given:
                raise ValueError(
                    f"{given[0]} belongs to adaptive steps, and {self.name} takes fixed ones here. Leave it out, or "
                    "take heun, bosh3, dopri5 or tsit5 without steps."
                )

    @property
    def tableau(self) -> Tableau:
        """The method's coefficients."""
        return tableau(self.name)

    @property
    def fixed(self) -> bool:
        """Whether the steps are known beforehand."""
        return self.steps is not None or self.mesh is not None or self.tableau.error is None

    def grid(self, problem: InitialValueProblem) -> tuple[float, ...]:
        """The step ends on a problem.

        Raises:
            ValueError: a number of steps is neither given nor known, or too few for the breakpoints.
        """
        if self.mesh is not None:
            if (self.mesh[0], self.mesh[-1]) != (problem.t0, problem.t1):
                raise ValueError(
                    f"The mesh runs from {self.mesh[0]:g} to {self.mesh[-1]:g}, the problem from {problem.t0:g} to "
                    f"{problem.t1:g}."
                )
            astray = set(problem.breakpoints) - set(self.mesh)
            if astray:
                raise ValueError(f"The mesh leaves the breakpoint t={min(astray):.6g} inside a step; add it.")
            return self.mesh
        if self.steps is None and problem.intervals is None:
            raise ValueError(
                f"{self.name} has no error estimate to choose steps by: give RungeKutta({self.name!r}, steps=..), or "
                "take heun, bosh3, dopri5 or tsit5."
            )
        steps = len(problem.breakpoints) + 1 if self.steps is None else self.steps
        return aligned_mesh(problem.t0, problem.t1, steps, problem.breakpoints)

    def resolve(self, problem: InitialValueProblem, save_at: Sequence[float] = ()) -> Scheme:
        """With the problem's mesh and the control's values on it, or with its dynamics where steps adapt."""
        if not self.fixed:
            if problem.fresh:
                raise ValueError(
                    "Fields that are fresh at every interval need a fixed grid: rows that step by themselves would be "
                    f"in different intervals. Give RungeKutta({self.name!r}, steps=..)."
                )
            # A single row steps by itself, and knows one time.
            per_row = self.per_row and not problem.packing.single
            return AdaptiveRungeKutta(
                self.tableau,
                PIController() if self.controller is None else self.controller,
                per_row,
                self.first_step,
                Counted(problem.dynamics),
                (problem.t0, problem.t1),
                tuple(save_at),
            )
        mesh = self.grid(problem)
        within_steps = problem.event is not None or not set(save_at) <= set(mesh)
        table = self.tableau if within_steps else self.tableau.bare
        return FixedRungeKutta(table, mesh, Counted(problem.dynamics.bind(mesh, table.c)))

    def _check_mesh(self) -> None:
        mesh = self.mesh
        assert mesh is not None
        if self.steps is not None:
            raise ValueError("steps and mesh say the same thing twice: give one of them.")
        rises = [t > s for s, t in itertools.pairwise(mesh)]
        if len(mesh) < 2 or any(s == t for s, t in itertools.pairwise(mesh)) or len(set(rises)) > 1:
            raise ValueError(f"A mesh needs at least two times, strictly increasing or decreasing; got {mesh}.")

    def _without_steps(self) -> str:
        adaptive = self.tableau.error is not None
        return "to adapt them" if adaptive else "for one step an interval of the control"
