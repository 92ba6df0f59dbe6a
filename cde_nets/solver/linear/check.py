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

from cde_nets.solver.convergence import enough, lost, norms
from cde_nets.solver.linear_problem import LinearProblem
from cde_nets.solver.states import finite_rows
from cde_nets.solver.status import Status
from cde_nets.solver.tolerance import Tolerance


class Check(NamedTuple):
    """Which rows check, and what they found; a number for each row.

    Attributes:
        g: the right-hand side, shape (rows, numbers); zeros in the rows where it is not finite.
        size: |g|, NaN or infinite in those rows, which diverge by that.
        enough: the largest residual that meets the tolerance.
        near: the largest at which a row is to be checked: that, or where rounding is all that a recurrence says.
        due: the rows whose next product is with w.
        true: the rows whose residual is the true one.
        last: the true residual when it was last known.
        stuck: the rows that a check has found no nearer than the one before.
        calm: whether it is known that no row was checked.
    """

    g: Tensor
    size: Tensor
    enough: Tensor
    near: Tensor
    due: Tensor
    true: Tensor
    last: Tensor
    stuck: Tensor
    calm: bool = False

    @classmethod
    def at_zero(cls, problem: LinearProblem, tolerance: Tolerance) -> Check:
        """At w = 0, whose residual is g."""
        g = problem.packed()
        size = norms(g)
        nowhere = torch.zeros(g.shape[0], dtype=torch.bool, device=g.device)
        g = torch.where(finite_rows(g)[:, None], g, 0.0)
        met = enough(size, tolerance)
        near = torch.maximum(met, torch.finfo(size.dtype).eps * size)
        return cls(g, size, met, near, nowhere, ~nowhere, size, nowhere)

    def after(self, checked: Tensor, residual: Tensor, *, done: Tensor | None = None, calm: bool = False) -> Check:
        """After a step.

        Args:
            checked: the rows whose residual was checked in it.
            residual: of all rows.
            done: the rows that are to be checked next, besides those whose residual says so.
            calm: no row was checked in it.
        """
        due = residual <= self.near
        if done is not None:
            due = due | done
        if calm:
            return self._replace(due=due, true=checked, stuck=checked, calm=True)
        nearest = (1 - torch.finfo(residual.dtype).eps ** 0.5) * self.last
        return self._replace(
            due=~checked & due,
            true=checked,
            last=torch.where(checked, residual, self.last),
            stuck=checked & (residual > nearest),
            calm=False,
        )

    def verdict(self, residual: Tensor) -> Tensor:
        """A code of `Status` for every row."""
        # RUNNING is 0.
        if self.calm:
            return lost(residual, self.size) * int(Status.DIVERGED)
        met = (residual <= self.enough) & self.true
        found = (self.stuck * int(Status.BREAKDOWN)).masked_fill(met, int(Status.CONVERGED))
        return found.masked_fill(lost(residual, self.size), int(Status.DIVERGED))


def over(a: Tensor, b: Tensor, defined: Tensor) -> Tensor:
    """The ratio a / b where it is defined, else 0, without a NaN on the way: also its gradient is finite."""
    return ratio(a, b, ~defined)


def ratio(a: Tensor, b: Tensor, undefined: Tensor) -> Tensor:
    """As `over`, told where it is not defined."""
    return a.masked_fill(undefined, 0.0) / b.masked_fill(undefined, 1.0)


def direction(x: Tensor, length: Tensor) -> Tensor:
    """X / |x| of every row, given |x|; 0 where x is."""
    return x / length.masked_fill(length == 0, 1.0)[:, None]


def dot(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> of every row, conjugate in a."""
    product: Tensor = torch.linalg.vecdot(a, b)
    return product
