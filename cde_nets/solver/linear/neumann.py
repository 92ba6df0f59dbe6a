"""The Neumann series."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from cde_nets.options import options, positive
from cde_nets.solver.convergence import norms
from cde_nets.solver.linear.check import Check
from cde_nets.solver.linear.truncation import start_from, truncated
from cde_nets.solver.linear_problem import LinearProblem
from cde_nets.solver.method import Iterate, Method, Scheme
from cde_nets.solver.tolerance import Tolerance


class Series(NamedTuple):
    """The next term of the series, which is also the residual of the sum so far, and who is to be checked."""

    check: Check
    term: Tensor


@options
class Neumann(Method, Scheme):
    """w = sum_{k=0..K} (J^T)^k g. It converges for every g where the spectral radius of J is below 1.

    K products make K + 1 terms: what RBP from zero reaches with K + 1 updates (Liao et al., "Reviving and improving
    recurrent back-propagation", ICML 2018, Proposition 3), and what truncated backpropagation through K + 1 steps at
    an equilibrium gives.

    Args:
        terms: K, the number of products. The answer is a truncation by design, its status DONE. The residual reported
            is |(J^T)^K g|, that of the sum without its last term: that of the whole sum would take one more product.
            None adds terms until the residual, which is the next term, meets the tolerance; one more step finds the
            true residual, since rounding may hide that terms which grew first have left more than they show. One
            product a step, and one before the first.

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
        state = start_from(g, residual=norms(g))
        if self.terms is not None:
            return replace(state, memory=state.value)
        term = problem.product(state.value)
        residual = norms(term)
        check = Check.at_zero(problem, tolerance)
        return replace(state, residual=residual, memory=Series(check._replace(last=residual), term))

    def step(self, problem: LinearProblem, state: Iterate) -> Iterate:
        """Add a term."""
        if self.terms is not None:
            # Rows that ended multiply zeros: what they would run up to is in nobody's way, in no gradient either.
            term = problem.product(torch.where(state.running[:, None], state.memory, 0.0))
            return replace(state, value=state.value + term, residual=norms(term), moved=None, memory=term)
        check, term = state.memory
        checked = (check.due | ~state.running)[:, None]
        value = torch.where(checked, state.value, state.value + term)
        product = problem.product(torch.where(checked, value, term))
        term = torch.where(checked, check.g - value + product, product)
        residual = norms(term)
        check = check.after(checked[:, 0], residual)
        return replace(state, value=value, residual=residual, moved=None, memory=Series(check, term))

    def terminate(self, problem: LinearProblem, state: Iterate) -> Tensor:
        """By the residual g - (w - J^T w), unless the number of terms is given."""
        if self.terms is not None:
            return truncated(state)
        assert state.residual is not None
        return state.memory.check.verdict(state.residual)  # type: ignore[no-any-return]
