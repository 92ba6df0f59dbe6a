"""What steering found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from jaxtyping import Float
from torch import Tensor

from cde_nets.controls import PiecewiseConstantControl
from cde_nets.solver import RungeKutta


class SteerStatus(Enum):
    """How steering ended; each prints as words."""

    SOLVED = "solved"
    COARSE = "solved for the steps taken, not for the ODE: allow more substeps"
    NOT_SOLVED = "not solved"
    NO_START = "every loop blew up: scale points and fields down"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Interpolation:
    """Controls that carry points to targets, or what came nearest.

    True as a condition where the status is SOLVED: for the ODE too, where that was asked for by `refine_to`.

    Attributes:
        control: piecewise constant, float64.
        method: the steps taken: `cn.ControlledODE(fields.double(), control, method)` is the flow.
        readout: "difference" or "identity", as it was asked for.
        lam: lambda of the readout y = lambda (X_1 - x); 1 with the identity readout, where y = X_1.
        residual: the largest entry of |readout - y|, with the steps taken.
        substeps: steps of the method on each of the control's intervals.
        refined_residual: the same with twice as many steps: what is left for the ODE itself.
        energy: int |u|^2 dt.
        smallest_singular_value: of the Jacobian of the ends X_1 in the control's numbers; NaN where it is not finite.
        condition: largest over smallest singular value; infinite where the Jacobian is not finite.
        status: how it ended.
        reason: in words, with figures: how near, what there was no time for, and what to try.
        attempts: starts from which a solution was tried.
        evaluations: accepted and rejected steps of the damped least squares, all attempts together.
        blown_up: starts and steps that were rejected as they left every bounded set.
        rank: what `theory.check_points` found, of full_rank: a warning is given where it is not full; None where the
            fields are no polynomials, or no certificate was asked for.
        full_rank: m N; (m - 1) N on spheres.
        ends: X_1, shape (points, dim).
    """

    control: PiecewiseConstantControl
    method: RungeKutta
    readout: str
    lam: float
    residual: float
    substeps: int
    refined_residual: float
    energy: float
    smallest_singular_value: float
    condition: float
    status: SteerStatus
    reason: str
    attempts: int
    evaluations: int
    blown_up: int
    rank: int | None
    full_rank: int | None
    ends: Float[Tensor, "points dim"]

    def __bool__(self) -> bool:
        return self.status is SteerStatus.SOLVED

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}"
