"""The Neumann series, and recurrent back-propagation with the same products."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, NamedTuple

from torch import Tensor

from cde_nets.options import options, positive
from cde_nets.solve.convergence import code, norms
from cde_nets.solve.linear_problem import LinearProblem
from cde_nets.solve.method import Iterate, Method, Scheme, start
from cde_nets.solve.tolerance import Tolerance


class Series(NamedTuple):
    """The right-hand side, and the series' next term (J^T)^k g, which is also the residual of the sum so far."""

    g: Tensor
    term: Tensor
    tolerance: Tolerance


@options
class Neumann(Method, Scheme):
    """w = sum_{k=0..K} (J^T)^k g: K products, K + 1 terms, equal to RBP from zero with K + 1 updates.

    Args:
        terms: K, the number of products; None adds terms until the residual, which is the next term, meets the
            tolerance. With a number the answer is a truncation by design, and its status DONE.

    Raises:
        ValueError: terms below 1.
    """

    solves: ClassVar[str] = "linear"

    terms: int | None = None

    def __post_init__(self) -> None:
        """Check the number of terms."""
        if self.terms is not None:
            positive("terms", self.terms)

    def planned(self, problem: LinearProblem) -> int | None:
        """K, where it is given."""
        return self.terms

    def init(self, problem: LinearProblem, tolerance: Tolerance) -> Iterate:
        """The series' first term, g."""
        g = problem.packed()
        term = problem.product(g)
        return start(g, residual=norms(term), memory=Series(g, term, tolerance))

    def step(self, problem: LinearProblem, state: Iterate) -> Iterate:
        """Add a term. The last of a given number is not multiplied once more: its residual is that of the sum before."""
        memory: Series = state.memory
        value = state.value + memory.term
        term = problem.product(memory.term)
        return replace(state, value=value, residual=norms(term), moved=None, memory=memory._replace(term=term))

    def terminate(self, problem: LinearProblem, state: Iterate) -> Tensor:
        """By the residual g - (w - J^T w)."""
        assert state.residual is not None
        return code(state.residual, norms(state.memory.g), state.memory.tolerance)
