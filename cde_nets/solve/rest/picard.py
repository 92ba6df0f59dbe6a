"""Picard's iteration, damped where asked."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, NamedTuple

from torch import Tensor

from cde_nets.options import options, within
from cde_nets.solve.convergence import code, norms
from cde_nets.solve.fixed_point import FixedPointProblem
from cde_nets.solve.method import Iterate, Method, Scheme, start
from cde_nets.solve.tolerance import Tolerance


class Pending(NamedTuple):
    """The residual vector at the value, so that f is evaluated once a step."""

    residual: Tensor
    size: Tensor
    tolerance: Tolerance


@options
class Picard(Method, Scheme):
    """z <- z + damping (f(z) - z). It converges where f is a contraction (Banach), or where damping makes it one.

    The stop test looks at the undamped residual |f(z) - z|: damping cannot make an iteration stop early.

    Args:
        damping: in (0, 1]; 1 is z <- f(z).

    Raises:
        ValueError: damping outside (0, 1].
    """

    solves: ClassVar[str] = "rest"

    damping: float = 1.0

    def __post_init__(self) -> None:
        """Check the damping."""
        if self.damping != 1:
            within("damping", self.damping, 0, 1)

    def init(self, problem: FixedPointProblem, tolerance: Tolerance) -> Iterate:
        """At z0, with its residual."""
        z = problem.packed()
        memory = self._evaluated(problem, z, tolerance)
        return start(z, residual=norms(memory.residual), memory=memory)

    def step(self, problem: FixedPointProblem, state: Iterate) -> Iterate:
        """One more evaluation of f."""
        value = state.value.add(state.memory.residual, alpha=self.damping)
        memory = self._evaluated(problem, value, state.memory.tolerance)
        return replace(state, value=value, residual=norms(memory.residual), moved=None, memory=memory)

    def terminate(self, problem: FixedPointProblem, state: Iterate) -> Tensor:
        """By the undamped residual."""
        assert state.residual is not None
        return code(state.residual, state.memory.size, state.memory.tolerance)

    @staticmethod
    def _evaluated(problem: FixedPointProblem, z: Tensor, tolerance: Tolerance) -> Pending:
        residual = problem.residual(z)
        return Pending(residual, norms(z + residual), tolerance)
