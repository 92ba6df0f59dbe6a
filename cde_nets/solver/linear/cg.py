"""Conjugate gradients on the normal equations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from cde_nets.options import options
from cde_nets.solver.convergence import norms
from cde_nets.solver.linear.check import Check, ratio
from cde_nets.solver.linear_problem import LinearProblem
from cde_nets.solver.method import Iterate, Method, Scheme, start
from cde_nets.solver.tolerance import Tolerance


class Descent(NamedTuple):
    """What conjugate gradients keep between steps.

    Attributes:
        r: the residual g - A w by its recurrence, shape (rows, numbers).
        p: the last direction.
        slope: |A^H r| before the last step; 0 where the next direction is the first.
        norm: the largest |A p| / |p| so far, a bound of |A| from below.
    """

    check: Check
    r: Tensor
    p: Tensor
    slope: Tensor
    norm: Tensor


@options
class CG(Method, Scheme):
    """Conjugate gradients for A^H A w = A^H g with A = I - J^T (CGNR, written as CGLS).

    s = A^H r, p <- s + (|s| / |s_before|)^2 p, a = (|s| / |A p|)^2, w <- w + a p, r <- r - a A p: Hestenes and Stiefel,
    "Methods of conjugate gradients for solving linear systems", 1952, section 10; Saad, "Iterative methods for sparse
    linear systems", 2003, section 8.3. After k steps w has the least |g - A w| of the k-th Krylov space of A^H A and
    A^H g. It converges for every regular A, as fast as the square of A's condition allows.

    Two products a step, one with J^T and one with J: the problem needs `transpose`. Before a row counts as converged,
    one more step finds its true residual. A row whose A^H r vanishes while r does not (a singular system) is BREAKDOWN.
    """

    solves: ClassVar[str] = "linear"

    def resolve(self, problem: LinearProblem, save_at: Sequence[float] = ()) -> Scheme:
        """Itself, once the problem is seen to offer J v."""
        problem.require_transpose()
        return self

    def init(self, problem: LinearProblem, tolerance: Tolerance) -> Iterate:
        """At zero, without a product."""
        check = Check.at_zero(problem, tolerance)
        zero = torch.zeros_like(check.g)
        none = torch.zeros_like(check.size)
        return start(zero, residual=check.size, memory=Descent(check, check.g, zero, none, none))

    def step(self, problem: LinearProblem, state: Iterate) -> Iterate:
        """One step, of the rows that are due their true residual."""
        memory: Descent = state.memory
        check = memory.check
        checked = check.due | ~state.running
        s = problem.apply_transposed(torch.where(checked[:, None], 0.0, memory.r))
        slope = norms(s)
        eps = torch.finfo(slope.dtype).eps
        flat = slope <= 4 * eps * memory.norm * norms(memory.r)
        again = ratio(slope, memory.slope, memory.slope == 0) ** 2
        p = s + again[:, None] * memory.p
        image = problem.apply(torch.where(checked[:, None], state.value, p))
        along = norms(image)
        length = ratio(slope, along, checked | (along == 0)) ** 2
        value = state.value + length[:, None] * p
        r = torch.where(checked[:, None], check.g - image, memory.r - length[:, None] * image)
        residual = norms(r)
        size = norms(p)
        norm = torch.maximum(memory.norm, ratio(along, size, checked | (size == 0)))
        return replace(
            state,
            value=value,
            residual=residual,
            moved=None,
            memory=Descent(
                check.after(checked, residual, done=flat),
                r,
                torch.where(checked[:, None], 0.0, p),
                torch.where(checked, 0.0, slope),
                norm,
            ),
        )

    def terminate(self, problem: LinearProblem, state: Iterate) -> Tensor:
        """By the true residual."""
        assert state.residual is not None
        return state.memory.check.verdict(state.residual)  # type: ignore[no-any-return]
