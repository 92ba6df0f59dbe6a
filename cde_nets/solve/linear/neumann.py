"""The Neumann series."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from cde_nets.options import options, positive
from cde_nets.solve.convergence import code, norms
from cde_nets.solve.linear.truncation import start_from, truncated
from cde_nets.solve.linear_problem import LinearProblem
from cde_nets.solve.method import Iterate, Method, Scheme
from cde_nets.solve.tolerance import Tolerance


class Series(NamedTuple):
    """What is kept of the series between steps.

    Attributes:
        term: (J^T)^k g: the last term that was added, or the next one, which is the residual, where none is planned.
        size: |g| of every row.
    """

    term: Tensor
    size: Tensor
    tolerance: Tolerance


@options
class Neumann(Method, Scheme):
    """w = sum_{k=0..K} (J^T)^k g. It converges for every g where the spectral radius of J is below 1.

    K products make K + 1 terms: what RBP from zero reaches with K + 1 updates (Liao et al., "Reviving and improving
    recurrent back-propagation", ICML 2018, Proposition 3), and what truncated backpropagation through K + 1 steps at
    an equilibrium gives.

    Args:
        terms: K, the number of products. The answer is a truncation by design, its status DONE. The residual reported
            is |(J^T)^K g|, that of the sum without its last term: that of the whole sum would take one more product.
            None adds terms until the residual (the next term) meets the tolerance, with one product more than steps.

    Raises:
        ValueError: terms below 0.
    """

    solves: ClassVar[str] = "linear"

    terms: int | None = None

    def __post_init__(self) -> None:
        """Check the number of terms."""
        if self.terms is not None:
            positive("terms", self.terms, least=0)

    def planned(self, problem: LinearProblem) -> int | None:
        """K, where it is given."""
        return self.terms

    def init(self, problem: LinearProblem, tolerance: Tolerance) -> Iterate:
        """The series' first term, g."""
        g = problem.packed()
        size = norms(g)
        state = start_from(g, residual=size)
        if self.terms is not None:
            return replace(state, memory=Series(state.value, size, tolerance))
        term = problem.product(state.value)
        return replace(state, residual=norms(term), memory=Series(term, size, tolerance))

    def step(self, problem: LinearProblem, state: Iterate) -> Iterate:
        """Add a term."""
        series: Series = state.memory
        # Rows that ended multiply zeros: what they would run up to is in nobody's way, in no gradient either.
        term = torch.where(state.running[:, None], series.term, 0.0)
        if self.terms is not None:
            term = problem.product(term)
            value = state.value + term
        else:
            value = state.value + term
            term = problem.product(term)
        return replace(state, value=value, residual=norms(term), moved=None, memory=series._replace(term=term))

    def terminate(self, problem: LinearProblem, state: Iterate) -> Tensor:
        """By the residual g - (w - J^T w), unless the number of terms is given."""
        if self.terms is not None:
            return truncated(state)
        assert state.residual is not None
        return code(state.residual, state.memory.size, state.memory.tolerance)
