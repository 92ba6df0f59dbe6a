"""How a row's solve ended."""

from __future__ import annotations

from enum import IntEnum

from torch import Tensor


class Status(IntEnum):
    """What became of a row; a solution holds one code a row."""

    RUNNING = 0
    DONE = 1
    CONVERGED = 2
    EVENT = 3
    MAX_STEPS = 4
    DIVERGED = 5
    STEP_TOO_SMALL = 6
    BREAKDOWN = 7

    @property
    def message(self) -> str:
        """What it means and, where it is a failure, what to change."""
        return _MESSAGES[self]

    @property
    def succeeded(self) -> bool:
        """Whether the row holds what was asked for."""
        return self in (Status.DONE, Status.CONVERGED, Status.EVENT)


_MESSAGES = {
    Status.RUNNING: "Still running.",
    Status.DONE: "Took all the steps it was to take.",
    Status.CONVERGED: "Met its tolerance.",
    Status.EVENT: "Stopped at its event.",
    Status.MAX_STEPS: (
        "The end was not reached: raise max_steps, loosen the tolerance, or take another method (a stiff flow wants "
        "one of SciPy's, TorchDiffEq('scipy_solver'), which has no gradient; where one iteration for rest wanders "
        "another may settle, FlowToRest() most patiently, and squared_frobenius in the loss keeps a trained map tame)."
    ),
    Status.DIVERGED: (
        "The state left the finite numbers. Polynomial fields of degree >= 2 blow up in finite time: take "
        "manifold='sphere' or SphericalFields, Cutoff, or smaller controls; an iteration for rest wants damping or "
        "Newton, a series for a linear problem GMRES."
    ),
    Status.STEP_TOO_SMALL: (
        "The step fell under what the times resolve: the flow is about to blow up (SphericalFields, Cutoff and smaller "
        "controls tame it), is discontinuous at a time that is no breakpoint (pass breakpoints=), or the tolerance is "
        "below the dtype's precision (loosen it, or compute in float64)."
    ),
    Status.BREAKDOWN: (
        "The system is singular or nearly so, a direction vanished, or the tolerance is below what the dtype resolves: "
        "loosen it or compute in float64, take GMRES (with a larger restart) or Dense, or more damping."
    ),
}


def succeeded(status: Tensor) -> Tensor:
    """A boolean for every row's code."""
    return (status == int(Status.DONE)) | (status == int(Status.CONVERGED)) | (status == int(Status.EVENT))
