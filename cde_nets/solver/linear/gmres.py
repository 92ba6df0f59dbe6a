"""Generalised minimal residuals, restarted."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from cde_nets.options import options, positive
from cde_nets.solver.convergence import norms
from cde_nets.solver.linear.check import Check, direction
from cde_nets.solver.linear_problem import LinearProblem
from cde_nets.solver.method import Iterate, Method, Scheme, start
from cde_nets.solver.tolerance import Tolerance


class Cycle(NamedTuple):
    """Arnoldi's relation A V_k = V_{k+1} H_k of the cycle a row is in, and the QR factors of H.

    Every step fills one slot more, the same in all rows, and the oldest is dropped when there are as many as a cycle
    may need: a row that begins again does so in the newest slot, and what it has in those before is stale.

    Attributes:
        base: w where the cycle began, shape (rows, numbers).
        basis: V and v_{k+1}, orthonormal where not stale, shape (rows, slots, numbers).
        stale: the slots that are not of the row's cycle, shape (rows, 1, slots).
        rotation: Q^H transposed, unitary, shape (rows, slots, slots); the stale slots are a block of their own.
        triangle: R^T, lower triangular, shape (rows, slots - 1, slots - 1).
        right: Q^H r for R y = Q^H r, 0 where stale, and so is y; shape (rows, 1, slots - 1).
    """

    base: Tensor
    basis: Tensor
    stale: Tensor
    rotation: Tensor
    triangle: Tensor
    right: Tensor

    @classmethod
    def at(cls, base: Tensor, newest: Tensor) -> Cycle:
        """A cycle before its first product, with v_1."""
        rows = base.shape[0]
        slot = torch.zeros(rows, 1, 1, dtype=torch.bool, device=base.device)
        empty = base.new_zeros(rows, 1, 0)
        return cls(base, newest[:, None], slot, (~slot).to(base.dtype), empty[:, :0], empty)

    def without_oldest(self) -> Cycle:
        """One slot less."""
        basis, stale, right = self.basis[:, 1:], self.stale[:, :, 1:], self.right[:, :, 1:]
        return Cycle(self.base, basis, stale, self.rotation[:, 1:, 1:], self.triangle[:, 1:, 1:], right)


class Memory(NamedTuple):
    """The cycle, and who is to be checked."""

    check: Check
    cycle: Cycle


@options
class GMRES(Method, Scheme):
    """GMRES(restart) for A w = g with A = I - J^T, from w = 0.

    Saad and Schultz, "GMRES: a generalized minimal residual algorithm for solving nonsymmetric linear systems", 1986.
    After k products of a cycle w has the least |g - A w| of w_0 + span{r, A r, .., A^{k-1} r}. The basis is
    orthogonalised by two passes of Gram-Schmidt, which is enough (Giraud, Langou, Rozloznik, 2005).

    One product a step. At the end of a row's cycle, and before it counts as converged, one of them finds the true
    residual. A cycle that brings a row no nearer (a singular system, or a restart that is too short for it) ends it as
    BREAKDOWN.

    Args:
        restart: the most products of a cycle; memory rows * (restart + 1) * dim. A restart of dim is full GMRES.

    Raises:
        ValueError: restart below 1.
    """

    solves: ClassVar[str] = "linear"

    restart: int = 20

    def __post_init__(self) -> None:
        """Check the restart."""
        positive("restart", self.restart)

    def init(self, problem: LinearProblem, tolerance: Tolerance) -> Iterate:
        """At zero, without a product."""
        check = Check.at_zero(problem, tolerance)
        zero = torch.zeros_like(check.g)
        cycle = Cycle.at(zero, direction(check.g, norms(check.g)))
        return start(zero, residual=check.size, memory=Memory(check, cycle))

    def step(self, problem: LinearProblem, state: Iterate) -> Iterate:
        """One product: of the next basis vector, or of w in the rows that are due their true residual."""
        check, cycle = state.memory
        assert state.residual is not None
        longest = min(self.restart, check.g.shape[1])
        if cycle.basis.shape[1] > longest:
            # Whoever has filled the oldest slot is due the check that begins another cycle.
            cycle = cycle.without_oldest()
        checked = check.due | ~state.running
        flag = checked[:, None]
        image = problem.apply(torch.where(flag, state.value, cycle.basis[:, -1]))

        along, rest = _project(cycle, image)
        rest = torch.where(flag, check.g - image, rest)
        length, least = norms(rest), 10 * torch.finfo(check.size.dtype).eps * norms(image)
        # A maps the Krylov space to itself, but for rounding; or a true residual is 0.
        exhausted = length <= least.masked_fill(checked, 0.0)
        height = length.masked_fill(exhausted, 0.0)
        newest = rest / length.masked_fill(exhausted, 1.0)[:, None]

        cycle, left = _extend(cycle, along, height, least, state.residual, checked)
        # Rows that begin again have weights of 0 and stay.
        base = torch.where(flag, state.value, cycle.base)
        weights = torch.linalg.solve_triangular(cycle.triangle, cycle.right, upper=False, left=False)
        value = torch.baddbmm(base[:, None], weights, cycle.basis)[:, 0]
        residual = torch.where(checked, length, left)
        cycle = cycle._replace(
            base=base,
            basis=torch.cat([cycle.basis, newest[:, None]], 1),
            stale=pad(cycle.stale | flag[:, None], (0, 1)),
        )
        done = exhausted if cycle.basis.shape[1] <= longest else exhausted | ~cycle.stale[:, 0, 0]
        check = check.after(checked, residual, done=done)
        return replace(state, value=value, residual=residual, moved=None, memory=Memory(check, cycle))

    def terminate(self, problem: LinearProblem, state: Iterate) -> Tensor:
        """By the true residual."""
        assert state.residual is not None
        return state.memory.check.verdict(state.residual)  # type: ignore[no-any-return]


def _project(cycle: Cycle, image: Tensor) -> tuple[Tensor, Tensor]:
    """The components of A v along the basis, shape (rows, 1, slots), and what is left of it, shape (rows, numbers)."""
    adjoint, whole = cycle.basis.mH, image[:, None]
    first = torch.bmm(whole, adjoint).masked_fill(cycle.stale, 0.0)
    rest = torch.baddbmm(whole, first, cycle.basis, alpha=-1)
    second = torch.bmm(rest, adjoint).masked_fill(cycle.stale, 0.0)
    return first + second, torch.baddbmm(rest, second, cycle.basis, alpha=-1)[:, 0]


def _extend(
    cycle: Cycle, along: Tensor, height: Tensor, least: Tensor, left: Tensor, checked: Tensor
) -> tuple[Cycle, Tensor]:
    """The factors with one column of H more; the basis is still that before it.

    Args:
        cycle: before the step.
        along: the column without its last number, shape (rows, 1, slots).
        height: its last number, shape (rows,).
        least: a pivot that is no larger is 0 but for rounding, shape (rows,).
        left: |beta e_1 - H y| before, shape (rows,).
        checked: the rows that have no new column, and begin again.

    Returns:
        The cycle, and |beta e_1 - H y| after.
    """
    # The column under the rotations so far, and one more that makes its last entry 0: (a, b) to (pivot, 0), pivot > 0.
    turned = torch.bmm(along, cycle.rotation)
    a = turned[:, 0, -1]
    pivot = norms(torch.stack([a, height.to(a.dtype)], 1))
    # A pivot of 0, of a singular H, is left out of the solution: its y is 0. It is the last of its cycle.
    singular = pivot <= least
    pivot = pivot.masked_fill(singular, 1.0)
    cosine = (a / pivot).masked_fill(singular, 0.0)
    sine = (height / pivot).masked_fill(singular, 1.0)
    next_left = left * sine
    right = torch.cat([cycle.right, (cosine.conj() * left)[:, None, None]], 2)
    right = right.masked_fill(checked[:, None, None], 0.0)
    column = torch.cat([turned[:, :, :-1], pivot[:, None, None].to(a.dtype)], 2)
    triangle = torch.cat([pad(cycle.triangle, (0, 1)), column], 1)
    # Rows that begin again turn nothing into the new slot.
    cosine, sine = cosine.masked_fill(checked, -1.0), sine.masked_fill(checked, 0.0).to(a.dtype)
    last = cycle.rotation[:, :, -1:] * torch.stack([cosine.conj(), sine], 1)[:, None]
    corner = pad(torch.stack([sine, -cosine], 1)[:, None], (cycle.rotation.shape[1] - 1, 0))
    rotation = torch.cat([torch.cat([cycle.rotation[:, :, :-1], last], 2), corner], 1)
    return cycle._replace(rotation=rotation, triangle=triangle, right=right), next_left
