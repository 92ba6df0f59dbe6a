"""Krylov methods believe no recurrence: a row has converged when a product has said so.

A row whose recurrence meets the tolerance, ends a cycle or cannot go on spends its next product on its true residual
g - (w - J^T w), while the other rows go on with their own. If that meets the tolerance the row has converged. If not it
starts again from there, unless that is no nearer than the last true residual was: then it never will, and has broken
down (a singular system, or a tolerance below what the dtype resolves). A row that runs out of steps before its check
reports the residual of its recurrence, the true one up to rounding.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cde_nets.solver.convergence import code, norms
from cde_nets.solver.linear_problem import LinearProblem
from cde_nets.solver.states import finite_rows
from cde_nets.solver.status import Status
from cde_nets.solver.tolerance import Tolerance


class Check(NamedTuple):
    """Which rows check, and what they found; a number for each row.

    Attributes:
        g: the right-hand side, shape (rows, numbers); zeros in the rows where it is not finite.
        size: |g|, NaN or infinite in those rows, which diverge by that.
        due: the rows whose next product is with w.
        true: the rows whose residual is the true one.
        last: the true residual when it was last known.
        stuck: the rows that a check has found no nearer than the one before.
    """

    g: Tensor
    size: Tensor
    tolerance: Tolerance
    due: Tensor
    true: Tensor
    last: Tensor
    stuck: Tensor

    @classmethod
    def at_zero(cls, problem: LinearProblem, tolerance: Tolerance) -> Check:
        """At w = 0, whose residual is g."""
        g = problem.packed()
        size = norms(g)
        nowhere = torch.zeros(g.shape[0], dtype=torch.bool, device=g.device)
        return cls(torch.where(finite_rows(g)[:, None], g, 0.0), size, tolerance, nowhere, ~nowhere, size, nowhere)

    def met(self, residual: Tensor) -> Tensor:
        """Whether the tolerance is met by such residuals."""
        return code(residual, self.size, self.tolerance) == Status.CONVERGED

    def after(self, checked: Tensor, residual: Tensor, *, done: Tensor | None = None) -> Check:
        """After a step.

        Args:
            checked: the rows whose residual was checked in it.
            residual: of all rows.
            done: the rows that are to be checked next, besides those whose residual meets the tolerance.
        """
        met = self.met(residual)
        nearer = residual <= (1 - torch.finfo(residual.dtype).eps ** 0.5) * self.last
        return self._replace(
            due=~checked & (met if done is None else met | done),
            true=checked,
            last=torch.where(checked, residual, self.last),
            stuck=checked & ~nearer,
        )

    def verdict(self, residual: Tensor) -> Tensor:
        """A code of `Status` for every row."""
        found = code(residual, self.size, self.tolerance)
        unmet = torch.where(self.stuck, int(Status.BREAKDOWN), int(Status.RUNNING))
        believed = (found == Status.DIVERGED) | ((found == Status.CONVERGED) & self.true)
        return torch.where(believed, found, unmet)


def over(a: Tensor, b: Tensor, defined: Tensor) -> Tensor:
    """The ratio a / b where it is defined, else 0, without a NaN on the way: also its gradient is finite."""
    return torch.where(defined, a / torch.where(defined, b, 1.0), 0.0)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> of every row, conjugate in a."""
    product: Tensor = torch.linalg.vecdot(a, b)
    return product
