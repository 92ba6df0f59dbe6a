"""Running an iteration for rest or a linear problem: what all their gradients share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cde_nets.gradient.base import Settings
from cde_nets.gradient.declared import examine
from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.linear_problem import LinearProblem
from cde_nets.solver.loop import run
from cde_nets.solver.method import Iterate, Method
from cde_nets.solver.solution import Solution, Statistics, Trace


class Residuals:
    """Writes down every residual, and every state where asked; an observer of the loop."""

    def __init__(self, *, values: bool) -> None:
        self._values: list[Tensor] | None = [] if values else None
        self._residuals: list[Tensor] = []

    def observe(self, before: Iterate, after: Iterate, signals: Sequence[int]) -> None:
        """One step."""
        for state in (before, after) if not self._residuals else (after,):
            if state.residual is not None:
                self._residuals.append(state.residual.detach())
            if self._values is not None:
                self._values.append(state.value.detach())

    def trace(self, problem: FixedPointProblem | LinearProblem) -> Trace:
        """What was written down."""
        values = None
        if self._values:
            values = problem.packing.unpack(torch.stack(self._values))
        return Trace(values, None, torch.stack(self._residuals) if self._residuals else None)


def run_rest(
    problem: FixedPointProblem | LinearProblem, method: Method, settings: Settings
) -> tuple[Iterate, Solution]:
    """Run the loop; the solution has no graph unless one is recorded around it.

    Raises:
        ValueError: save times or dense output, which only a flow has.
    """
    if settings.save_at.times is not None or settings.save_at.dense:
        raise ValueError("Only a flow has times: an iteration keeps its trace with SaveAt(steps=True).")
    recorder = Residuals(values=True) if settings.save_at.steps else None
    iterate = run(problem, method.resolve(problem), settings.limits, [] if recorder is None else [recorder])
    evaluations = problem.evaluations if isinstance(problem, FixedPointProblem) else 0
    residual = None if iterate.residual is None else iterate.residual.detach()
    statistics = Statistics(iterate.accepted, iterate.rejected, evaluations, problem.products, residual)
    size: Tensor = torch.linalg.vector_norm(iterate.value.detach(), dim=1)
    trace = None if recorder is None else recorder.trace(problem)
    return iterate, Solution(problem.packing.unpack(iterate.value), iterate.status, statistics, size=size, trace=trace)


def check_map_declared(problem: FixedPointProblem, z: Tensor, *, repeated: bool = True) -> Tensor:
    """Refuse a map that the gradient would not be right for, by one evaluation at packed states z.

    Returns:
        The packed value there, which has no graph.

    Raises:
        ValueError: as `cde_nets.gradient.declared.examine`.
    """
    return examine(problem.function, z, call="f(z, *args)", instead="Unrolled()", repeated=repeated)
