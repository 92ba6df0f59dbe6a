"""Recurrent back-propagation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from cde_nets.options import finite, options, positive
from cde_nets.solver.convergence import code, norms
from cde_nets.solver.linear.truncation import start_from, truncated
from cde_nets.solver.linear_problem import LinearProblem
from cde_nets.solver.method import Iterate, Method, Scheme
from cde_nets.solver.tolerance import Tolerance


class Update(NamedTuple):
    """The right-hand side, its norm a row, and J^T w + g at the value where the next update was computed already."""

    g: Tensor
    size: Tensor
    tolerance: Tolerance
    ahead: Tensor | None


@options
class RBP(Method, Scheme):
    """w <- J^T w + g, from z0: recurrent back-propagation.

    Almeida, "A learning rule for asynchronous perceptrons with feedback", 1987; Pineda, "Generalization of
    back-propagation to recurrent neural networks", 1987. It converges from everywhere where the spectral radius of J is
    below 1, and what z0 was off by is gone only as (J^T)^k is: a random z0 of large norm spoils few updates. From zero
    K + 1 updates are Neumann(K).

    Args:
        z0: where to start: built as g is (in a backward pass as the state), or a number for all its elements; zero
            where None.
        terms: K, the number of updates, each of them a product. The answer is a truncation by design, its status DONE.
            The residual reported is |w_K - w_{K-1}|, that of the iterate before the last: that of the last would take
            one more product. None updates until the residual meets the tolerance.

    Raises:
        ValueError: terms below 1, or a z0 that is no finite number; one built otherwise than g, before the first
            product.
    """

    solves: ClassVar[str] = "linear"

    z0: Any = None
    terms: int | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without a problem."""
        if self.terms is not None:
            positive("terms", self.terms)
        if isinstance(self.z0, bool | int | float) and not finite(self.z0):
            raise ValueError(f"z0 must be a finite number, or tensors built as g is; got {self.z0!r}.")

    def resolve(self, problem: LinearProblem, save_at: Sequence[float] = ()) -> Scheme:
        """Itself, once z0 is seen to fit g."""
        self._first(problem, problem.packed())
        return self

    def planned(self, problem: LinearProblem) -> int | None:
        """The number of updates, where it is given."""
        return self.terms

    def init(self, problem: LinearProblem, tolerance: Tolerance) -> Iterate:
        """At z0; its residual takes a product, unless z0 is zero."""
        g = problem.packed()
        z0 = self._first(problem, g)
        size = norms(g)
        if self.terms is not None:
            return start_from(z0, residual=size, memory=Update(g, size, tolerance, None))
        state = start_from(z0)
        ahead = g if self.z0 is None else problem.product(state.value) + g
        return replace(state, residual=norms(ahead - state.value), memory=Update(g, size, tolerance, ahead))

    def step(self, problem: LinearProblem, state: Iterate) -> Iterate:
        """One update."""
        memory: Update = state.memory
        if memory.ahead is None:
            value = problem.product(state.value) + memory.g
            return replace(state, value=value, residual=norms(value - state.value), moved=None)
        # Rows that ended stay where they are: what they would run up to is in no gradient.
        value = torch.where(state.running[:, None], memory.ahead, state.value)
        ahead = problem.product(value) + memory.g
        return replace(
            state, value=value, residual=norms(ahead - value), moved=None, memory=memory._replace(ahead=ahead)
        )

    def terminate(self, problem: LinearProblem, state: Iterate) -> Tensor:
        """By the residual g - (w - J^T w), unless the number of updates is given."""
        if self.terms is not None:
            return truncated(state)
        assert state.residual is not None
        return code(state.residual, state.memory.size, state.memory.tolerance)

    def _first(self, problem: LinearProblem, g: Tensor) -> Tensor:
        if self.z0 is None:
            return torch.zeros_like(g)
        if isinstance(self.z0, int | float):
            return torch.full_like(g, self.z0)
        return problem.states.pack(self.z0, "z0")
