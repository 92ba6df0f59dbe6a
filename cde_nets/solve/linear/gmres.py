"""Generalised minimal residuals, restarted."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from cde_nets.options import options, positive
from cde_nets.solve.convergence import norms
from cde_nets.solve.linear.check import Check, over
from cde_nets.solve.linear_problem import LinearProblem
from cde_nets.solve.method import Iterate, Method, Scheme, start
from cde_nets.solve.tolerance import Tolerance


class Cycle(NamedTuple):
    """Arnoldi's relation A V_k = V_{k+1} H_k of the cycle a row is in, and the QR factors of H.

    The tensors have as many slots as any row can have filled by now, at most restart + 1.

    Attributes:
        base: w where the cycle began, shape (rows, numbers).
        size: the residual's norm there, shape (rows,).
        filled: k, shape (rows,).
        basis: V, orthonormal, zeros where not filled, shape (rows, slots, numbers).
        hessenberg: H, shape (rows, slots, slots - 1).
        rotation: Q^H, unitary, shape (rows, slots, slots).
        triangle: R, the identity where not filled, shape (rows, slots - 1, slots - 1).
    """

    base: Tensor
    size: Tensor
    filled: Tensor
    basis: Tensor
    hessenberg: Tensor
    rotation: Tensor
    triangle: Tensor


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
        return start(zero, residual=check.size, memory=Memory(check, _begin(zero, check.g, slots=1)))

    def step(self, problem: LinearProblem, state: Iterate) -> Iterate:
        """One product: of the next basis vector, or of w in the rows that are due their true residual."""
        check, cycle = state.memory
        checked = check.due | ~state.running
        longest = min(self.restart, check.g.shape[1])
        if cycle.basis.shape[1] <= longest:
            cycle = _grow(cycle)
        newest = (_place(cycle.filled, cycle.basis.shape[1])[:, :, None] * cycle.basis).sum(1)
        image = problem.apply(torch.where(checked[:, None], state.value, newest))

        begun = _begin(state.value, check.g - image, slots=cycle.basis.shape[1])
        cycle, value, estimate, exhausted = _extend(cycle, image)
        value = torch.where(checked[:, None], state.value, value)
        residual = torch.where(checked, begun.size, estimate)
        cycle = Cycle(*(torch.where(_like(checked, new), new, old) for new, old in zip(begun, cycle, strict=True)))
        check = check.after(checked, residual, done=exhausted | (cycle.filled == longest))
        return replace(state, value=value, residual=residual, moved=None, memory=Memory(check, cycle))

    def terminate(self, problem: LinearProblem, state: Iterate) -> Tensor:
        """By the true residual."""
        assert state.residual is not None
        return state.memory.check.verdict(state.residual)  # type: ignore[no-any-return]


def _begin(base: Tensor, r: Tensor, slots: int) -> Cycle:
    """A cycle from w = base with the residual r."""
    rows = r.shape[0]
    size = norms(r)
    first = over(r, size[:, None], (size > 0)[:, None])
    eye = torch.eye(slots, dtype=r.dtype, device=r.device).expand(rows, slots, slots)
    return Cycle(
        base,
        size,
        torch.zeros(rows, dtype=torch.int64, device=r.device),
        pad(first[:, None], (0, 0, 0, slots - 1)),
        torch.zeros(rows, slots, slots - 1, dtype=r.dtype, device=r.device),
        eye,
        eye[:, 1:, 1:],
    )


def _grow(cycle: Cycle) -> Cycle:
    """With room for one more vector."""
    slots = cycle.basis.shape[1]
    corner = _place(torch.full_like(cycle.filled[:1], slots), slots + 1).to(cycle.basis.dtype)
    one = corner[:, :, None] * corner[:, None, :]
    return cycle._replace(
        basis=pad(cycle.basis, (0, 0, 0, 1)),
        hessenberg=pad(cycle.hessenberg, (0, 1, 0, 1)),
        rotation=pad(cycle.rotation, (0, 1, 0, 1)) + one,
        triangle=pad(cycle.triangle, (0, 1, 0, 1)) + one[:, 1:, 1:],
    )


def _extend(cycle: Cycle, image: Tensor) -> tuple[Cycle, Tensor, Tensor, Tensor]:
    """A cycle with A v_k taken in.

    Returns:
        The cycle, w, its residual |beta e_1 - H y|, and whether the Krylov space is exhausted: A maps it to itself.
    """
    slots = cycle.basis.shape[1]
    eps = torch.finfo(cycle.size.dtype).eps
    here, below = _place(cycle.filled, slots), _place(cycle.filled + 1, slots)

    column, rest = _project(cycle.basis, image)
    more, rest = _project(cycle.basis, rest)
    over_the_space, scale = norms(rest), norms(image)
    exhausted = over_the_space <= 10 * eps * scale
    over_the_space = torch.where(exhausted, 0.0, over_the_space)
    basis = torch.where(
        below[:, :, None], over(rest, over_the_space[:, None], ~exhausted[:, None])[:, None], cycle.basis
    )
    column = torch.where(below, over_the_space[:, None].to(image.dtype), column + more)

    # H's new column under the rotations so far, and one more that makes its last entry 0: (a, b) to (c, 0), c > 0.
    turned = _times(cycle.rotation, column)
    a, b = (here * turned).sum(1), (below * turned).sum(1)
    c = norms(torch.stack([a, b], 1))
    regular = c > 10 * eps * scale
    a = torch.where(regular, over(a, c, regular), 1.0)
    b = over(b, c, regular)
    upper, lower = (here[:, :, None] * cycle.rotation).sum(1), (below[:, :, None] * cycle.rotation).sum(1)
    turned_upper = a.conj()[:, None] * upper + b.conj()[:, None] * lower
    turned_lower = a[:, None] * lower - b[:, None] * upper
    rotation = torch.where(here[:, :, None], turned_upper[:, None], cycle.rotation)
    rotation = torch.where(below[:, :, None], turned_lower[:, None], rotation)

    # A pivot of 0, of a singular H, is left out of the solution: its y is 0.
    known = torch.arange(slots, device=image.device) < cycle.filled[:, None]
    pivot = torch.where(regular, c, 1.0)[:, None].to(image.dtype)
    reduced = torch.where(here, pivot, torch.where(known & regular[:, None], turned, 0.0))
    columns = here[:, None, : slots - 1]
    hessenberg = torch.where(columns, column[:, :, None], cycle.hessenberg)
    triangle = torch.where(columns, reduced[:, : slots - 1, None], cycle.triangle)
    right = cycle.size[:, None] * rotation[:, :, 0]
    right = torch.where(known | (here & regular[:, None]), right, 0.0)[:, : slots - 1]
    y = torch.linalg.solve_triangular(triangle, right[:, :, None], upper=True)[:, :, 0]

    value = cycle.base + (y[:, None, :] @ basis[:, : slots - 1])[:, 0]
    start_of = pad(cycle.size[:, None], (0, slots - 1)).to(image.dtype)
    residual = norms(start_of - _times(hessenberg, y))
    return (
        Cycle(cycle.base, cycle.size, cycle.filled + 1, basis, hessenberg, rotation, triangle),
        value,
        residual,
        exhausted,
    )


def _project(basis: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The components of x along the basis, and what is left of it."""
    along = _times(basis.conj(), x)
    return along, x - (along[:, None, :] @ basis)[:, 0]


def _times(matrix: Tensor, x: Tensor) -> Tensor:
    return (matrix @ x[:, :, None])[:, :, 0]


def _place(index: Tensor, slots: int) -> Tensor:
    """Whether a slot is the index-th of its row, shape (rows, slots)."""
    return torch.arange(slots, device=index.device) == index[:, None]


def _like(rows: Tensor, x: Tensor) -> Tensor:
    """A flag a row, shaped to broadcast against x."""
    return rows.reshape(-1, *[1] * (x.ndim - 1))
