"""Picard's iteration, damped where asked."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

from cde_nets.options import options, positive
from cde_nets.solver import opaque
from cde_nets.solver.convergence import norms
from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.method import Iterate, Method
from cde_nets.solver.rest.iteration import Evaluated, Iteration, arrive, check_damping


@options
class Picard(Method, Iteration):
    """z <- z + damping (f(z) - z). It converges where f is a contraction (Banach), or where damping makes it one.

    The stop test looks at the undamped residual |f(z) - z|: damping cannot make an iteration stop early. Every step is
    one evaluation of f.

    Args:
        damping: in (0, 1]; 1 is z <- f(z).
        steps: take so many and no others, as recurrent networks are trained: a row that has not met the tolerance by
            then is DONE, not MAX_STEPS, and gives its gradient where it stands. Nothing is read from a device, other
            than the CPU. None stops by the tolerance.

    Raises:
        ValueError: damping outside (0, 1], steps below 1.
    """

    solves: ClassVar[str] = "rest"

    damping: float = 1.0
    steps: int | None = None

    def __post_init__(self) -> None:
        """Check both."""
        check_damping(self.damping)
        if self.steps is not None:
            positive("steps", self.steps)

    def planned(self, problem: FixedPointProblem) -> int | None:
        """The number of steps, where it is given."""
        return self.steps

    def ahead(self, problem: FixedPointProblem, state: Iterate, most: int) -> tuple[Iterate, int]:
        """Evaluations of f and nothing else, while all rows run and are finite: norms are wanted only at the end."""
        memory: Evaluated = state.memory
        at, residual, taken = memory.at, memory.residual, 0
        if not opaque.readable(at) or not bool(state.running.all()):
            return state, 0
        while taken < most:
            value = at.add(residual, alpha=self.damping)
            # One number that is not finite makes the sum so. A sum that overflows costs a step with care.
            if not math.isfinite(abs(value.detach().sum().item())):
                break
            at, residual, taken = value, problem.residual(value), taken + 1
        if not taken:
            return state, 0
        known = memory._replace(at=at, residual=residual, size=norms(at + residual))
        ended = replace(state, value=at, residual=norms(residual), accepted=state.accepted + taken, memory=known)
        return ended, taken

    def step(self, problem: FixedPointProblem, state: Iterate) -> Iterate:
        """One more evaluation of f."""
        memory: Evaluated = state.memory
        return arrive(problem, state, memory.at.add(memory.residual, alpha=self.damping))
