"""The flow z' = f(z) - z, followed until it rests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from cde_nets.options import options, within
from cde_nets.solver.convergence import norms
from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.flow.controller import Controller, PIController
from cde_nets.solver.flow.steps import along, combine
from cde_nets.solver.flow.tableau import Tableau, tableau
from cde_nets.solver.method import Iterate, Method, Scheme
from cde_nets.solver.rest.iteration import Evaluated, Iteration, arrive, attempt, fail
from cde_nets.solver.states import finite_rows, real
from cde_nets.solver.status import Status

LEAST_WIDTH = 1e-8


@options
class FlowToRest(Method):
    """Integrates z' = f(z) - z by an explicit Runge-Kutta method until |f(z) - z| is small.

    With "euler" and step 1 it is Picard's iteration, with a smaller step damped Picard. What it finds are the rest
    points that attract the flow, where the eigenvalues of f's Jacobian have real parts below 1: a rotation by 90
    degrees that also expands is one, though Picard runs away from it. The residual is the first slope, so the stop
    test is free.

    Steps that adapt keep |h sum_j e_j k_j| <= accuracy |h (f(z) - z)|, in the row's 2-norm, e the embedded error
    estimate: relative to the way that the step goes, since the end matters more than the way there. Nothing in it
    depends on units or on how near rest is, and h settles at a width that is stable: on z' = -c z, with accuracy 0.1,
    at h c = 2.1 for bosh3, 2.7 for dopri5, 3.1 for tsit5, but 0.2 for heun. Every row has its own h. A trial that is
    not finite is refused; a row whose h falls below 1e-8 has failed (DIVERGED where its last trial was not finite, else
    STEP_TOO_SMALL).

    Args:
        flow: the method's name: "euler", "midpoint", "heun", "heun3", "rk4", "rk38", "bosh3", "dopri5" or "tsit5".
        step: h, the same at every step; None: adaptive, for heun, bosh3, dopri5 and tsit5.
        accuracy: of adaptive steps, above 0; 0.1 where None.
        first_step: h of the first adaptive step; where None 1, the time in which z' = -z forgets where it started.
        controller: of adaptive steps; PIController() where None.

    Raises:
        ValueError: an unknown name, a number not above 0, no step for a method without an error estimate, or options
            of adaptive steps beside a fixed one.
    """

    solves: ClassVar[str] = "rest"

    flow: str = "bosh3"
    step: float | None = None
    accuracy: float | None = None
    first_step: float | None = None
    controller: Controller | None = None

    def __post_init__(self) -> None:
        """Check all."""
        table = tableau(self.flow)
        for name, value in (("step", self.step), ("accuracy", self.accuracy), ("first_step", self.first_step)):
            if value is not None:
                within(name, value, 0)
        if self.step is None and table.error is None:
            raise ValueError(
                f"{self.flow} has no error estimate to choose steps by: give FlowToRest({self.flow!r}, step=..), or "
                "take heun, bosh3, dopri5 or tsit5."
            )
        if self.controller is not None and not isinstance(self.controller, Controller):
            raise ValueError(f"controller must be one such as PIController(); got {self.controller!r}.")
        adaptive = {"accuracy": self.accuracy, "first_step": self.first_step, "controller": self.controller}
        given = [name for name, value in adaptive.items() if value is not None]
        if self.step is not None and given:
            raise ValueError(
                f"{given[0]} belongs to adaptive steps, and step={self.step:g} makes them all the same. Leave one out."
            )

    def resolve(self, problem: FixedPointProblem, save_at: Sequence[float] = ()) -> Scheme:
        """With fixed or adaptive steps."""
        table = tableau(self.flow)
        if self.step is not None:
            return FixedFlowToRest(table.bare, float(self.step))
        return AdaptiveFlowToRest(
            table,
            PIController() if self.controller is None else self.controller,
            0.1 if self.accuracy is None else float(self.accuracy),
            1.0 if self.first_step is None else float(self.first_step),
        )


@dataclass(frozen=True, eq=False)
class FixedFlowToRest(Iteration):
    """Steps of one width.

    Attributes:
        tableau: the method.
        h: the width.
    """

    tableau: Tableau
    h: float

    def step(self, problem: FixedPointProblem, state: Iterate) -> Iterate:
        """As many evaluations of f as the method has stages; its first slope is the residual of the step before."""
        slopes = _slopes(problem, self.tableau, state, self.h)
        return arrive(problem, state, along(state.memory.at, self.h, self.tableau.b, slopes))


class Pace(NamedTuple):
    """Of adaptive steps.

    Attributes:
        h: the next step's width, float64, shape (rows, 1).
        previous: the last accepted error, float64, shape (rows, 1).
        poor: rows whose last trial was not finite, shape (rows,).
    """

    h: Tensor
    previous: Tensor
    poor: Tensor


@dataclass(frozen=True, eq=False)
class AdaptiveFlowToRest(Iteration):
    """An embedded pair, a width a row.

    Attributes:
        tableau: the method, with an error estimate.
        controller: how widths follow from errors.
        accuracy: the error allowed, relative to the step.
        first_step: the first width.
    """

    tableau: Tableau
    controller: Controller
    accuracy: float
    first_step: float

    def begin(self, z: Tensor) -> Pace:
        """The first width."""
        ones = torch.ones((z.shape[0], 1), dtype=torch.float64, device=z.device)
        return Pace(ones * self.first_step, ones, torch.zeros(z.shape[0], dtype=torch.bool, device=z.device))

    def step(self, problem: FixedPointProblem, state: Iterate) -> Iterate:
        """Try a step; rows where the error is too large, or the trial not finite, stay where they are."""
        memory: Evaluated = state.memory
        pace: Pace = memory.own
        table = self.tableau
        assert table.error is not None
        assert table.error_order is not None
        wide = pace.h.to(real(memory.at.dtype))
        slopes = _slopes(problem, table, state, wide)
        trial = along(memory.at, wide, table.b, slopes)
        whole = finite_rows(trial)
        arrived = torch.where((state.running & whole)[:, None], trial, memory.at)
        # The last slope of an FSAL method is the residual at the trial.
        residual = slopes[-1] if table.fsal else problem.residual(arrived)
        whole = whole & finite_rows(residual)
        # Widths are held fixed by every gradient.
        with torch.no_grad():
            estimate = combine(table.error, slopes)
            assert estimate is not None
            error = (norms(estimate) / (self.accuracy * norms(memory.residual))).to(torch.float64)
            # A trial that is not finite is refused even where the estimate happens to be.
            error = torch.where(whole, error, torch.nan)[:, None]
            # Divided by h, the error is of one order less.
            order = min(table.error_order, table.order)
            factor = self.controller.factor(error, pace.previous, order)
        good = state.running & (error[:, 0] <= 1)
        pace = Pace(
            torch.where(state.running[:, None], pace.h * factor, pace.h),
            torch.where(good[:, None], error, pace.previous),
            ~whole,
        )
        return attempt(problem, state, trial, good, residual, pace)

    def terminate(self, problem: FixedPointProblem, state: Iterate) -> Tensor:
        """By the undamped residual; failed where the width has become too small."""
        pace: Pace = state.memory.own
        why = torch.where(pace.poor, int(Status.DIVERGED), int(Status.STEP_TOO_SMALL))
        return fail(super().terminate(problem, state), pace.h[:, 0] < LEAST_WIDTH, why)


def _slopes(problem: FixedPointProblem, table: Tableau, state: Iterate, h: Any) -> list[Tensor]:
    memory: Evaluated = state.memory
    slopes = [memory.residual]
    for row in table.a[1:]:
        at = along(memory.at, h, row, slopes)
        # As in `arrive`, no function is asked about states that are not finite; NaN says that there is no such slope.
        whole = finite_rows(at)[:, None]
        slope = problem.residual(torch.where(whole & state.running[:, None], at, memory.at))
        slopes.append(torch.where(whole, slope, torch.nan))
    return slopes
