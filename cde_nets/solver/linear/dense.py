"""The matrix itself, and its LU factors."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from cde_nets.options import options
from cde_nets.solver.convergence import code, norms
from cde_nets.solver.linear_problem import LinearProblem
from cde_nets.solver.method import Iterate, Method, Scheme, start
from cde_nets.solver.states import as_real, as_state, finite_rows
from cde_nets.solver.status import Status
from cde_nets.solver.tolerance import Tolerance


class System(NamedTuple):
    """The right-hand side, its norm a row, and the rows whose matrix has no LU factors."""

    g: Tensor
    size: Tensor
    tolerance: Tolerance
    singular: Tensor


@options
class Dense(Method, Scheme):
    """LU factors of I - J^T for every row, from `dim` products with unit vectors; one step.

    For small states: memory rows * dim^2, work rows * dim^3, and one more product for the true residual. A complex
    number is two real ones here, as J^T of a map that is not holomorphic is linear over the real numbers only.

    A row whose matrix is singular is BREAKDOWN, with w = 0, and so is one that is so near to it that less than half of
    the dtype's digits are left: a residual above sqrt(eps) |g| that does not meet the tolerance. A row that misses the
    tolerance by less is DONE: as exact as LU factors in this dtype make it.
    """

    solves: ClassVar[str] = "linear"

    def planned(self, problem: LinearProblem) -> int:
        """One step."""
        return 1

    def init(self, problem: LinearProblem, tolerance: Tolerance) -> Iterate:
        """At zero."""
        g = problem.packed()
        size = norms(g)
        nowhere = torch.zeros(g.shape[0], dtype=torch.bool, device=g.device)
        # A zero for what is not finite: such a row has diverged by the norm of its g.
        system = System(torch.where(finite_rows(g)[:, None], g, 0.0), size, tolerance, nowhere)
        return start(torch.zeros_like(g), residual=size, memory=system)

    def step(self, problem: LinearProblem, state: Iterate) -> Iterate:
        """All of it."""
        system: System = state.memory
        g = system.g
        right = as_real(g)
        eye = torch.eye(right.shape[1], dtype=right.dtype, device=g.device)
        matrix = torch.stack([as_real(problem.apply(as_state(e, g).expand_as(g))) for e in eye], dim=2)
        finite = finite_rows(matrix.flatten(1))
        matrix = torch.where(finite[:, None, None], matrix, eye)
        factors, pivots, info = torch.linalg.lu_factor_ex(matrix)
        singular = info > 0
        if matrix.requires_grad:
            # What is differentiated must be regular in every row.
            factors, pivots, _ = torch.linalg.lu_factor_ex(torch.where(singular[:, None, None], eye, matrix))
        factors = torch.where(singular[:, None, None], eye, factors)
        w = torch.linalg.lu_solve(factors, pivots, right[:, :, None])[:, :, 0]
        solved = finite & ~singular & finite_rows(w)
        w = as_state(torch.where(solved[:, None], w, 0.0), g)
        residual = norms(g - problem.apply(w))
        residual = torch.where(finite & system.size.isfinite(), residual, math.nan)
        return replace(state, value=w, residual=residual, moved=None, memory=system._replace(singular=~solved))

    def terminate(self, problem: LinearProblem, state: Iterate) -> Tensor:
        """By the true residual."""
        system: System = state.memory
        assert state.residual is not None
        found = code(state.residual, system.size, system.tolerance)
        half = math.sqrt(torch.finfo(system.g.dtype).eps)
        broken = (found == Status.RUNNING) & (system.singular | (state.residual > half * system.size))
        return torch.where(broken, int(Status.BREAKDOWN), found)
