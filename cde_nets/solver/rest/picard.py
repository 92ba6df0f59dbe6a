"""Picard's iteration, damped where asked."""

from __future__ import annotations

from typing import ClassVar

from cde_nets.options import options, positive
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
            then is DONE, not MAX_STEPS, and gives its gradient where it stands. Nothing is read from the device. None
            stops by the tolerance.

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

    def step(self, problem: FixedPointProblem, state: Iterate) -> Iterate:
        """One more evaluation of f."""
        memory: Evaluated = state.memory
        return arrive(problem, state, memory.at.add(memory.residual, alpha=self.damping))
