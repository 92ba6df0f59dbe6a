"""The one-step, Jacobian-free gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from torch import Tensor

from cde_nets.options import options
from cde_nets.solver.linear.truncation import start_from, truncated
from cde_nets.solver.linear_problem import LinearProblem
from cde_nets.solver.method import Iterate, Method, Scheme
from cde_nets.solver.tolerance import Tolerance


@options
class OneStep(Method, Scheme):
    """w = g: the first term of the Neumann series, no product with J.

    As an equilibrium's backward pass this is the gradient of one more evaluation of f at the equilibrium: the
    Jacobian-free gradient (Fung et al., "JFB: Jacobian-free backpropagation for implicit networks", AAAI 2022), the
    one-step phantom gradient (Geng et al., "On training implicit models", NeurIPS 2021). Its relative error in w is at
    most |J| in any norm in which |J| < 1.

    Status DONE; the residual |J^T g| would take a product, so none is reported.
    """

    solves: ClassVar[str] = "linear"

    def planned(self, problem: LinearProblem) -> int:
        """No step."""
        return 0

    def init(self, problem: LinearProblem, tolerance: Tolerance) -> Iterate:
        """The answer."""
        return start_from(problem.packed())

    def step(self, problem: LinearProblem, state: Iterate) -> Iterate:
        """Nothing is left to do."""
        return replace(state)

    def terminate(self, problem: LinearProblem, state: Iterate) -> Tensor:
        """As every truncation."""
        return truncated(state)
