"""Generalised minimal residuals, restarted."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from cde_nets.options import options, positive
from cde_nets.solver.convergence import norms
from cde_nets.solver.linear.check import Check, over
from cde_nets.solver.linear_problem import LinearProblem
from cde_nets.solver.method import Iterate, Method, Scheme, start
from cde_nets.solver.tolerance import Tolerance


class Cycle(NamedTuple):
    """Arnoldi's relation A V_k = V_{k+1} H_k of the cycle a row is in, and the QR factors of H.

    The tensors have as many slots as any row can have filled by now, at most restart + 1.

    Attributes:
        base: w where the cycle began, shape (rows, numbers).
        size: the residual's norm there, shape (rows,).
        filled: k, shape (rows,).
        newest: v_{k+1}, shape (rows, numbers).
        basis: V, orthonormal, what earlier cycles left where not filled, shape (rows, slots, numbers).
        hessenberg: H, zero where not filled, shape (rows, slots, slots - 1).
        rotation: Q^H, unitary, shape (rows, slots, slots).
        triangle: R, the identity where not filled, shape (rows, slots - 1, slots - 1).
    """

    base: Tensor
    size: Tensor
    filled: Tensor
    newest: Tensor
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
        cycle = _begin(zero, check.g, zero[:, None])
        return start(zero, residual=check.size, memory=Memory(check, _store(cycle)))

    def step(self, problem: LinearProblem, state: Iterate) -> Iterate:
        """One product: of the next basis vector, or of w in the rows that are due their true residual."""
        check, cycle = state.memory
        checked = check.due | ~state.running
        image = problem.apply(torch.where(checked[:, None], state.value, cycle.newest))

        longest = min(self.restart, check.g.shape[1])
        if cycle.basis.shape[1] <= longest:
            cycle = _grow(cycle)
        begun = _begin(state.value, check.g - image, cycle.basis)
        cycle, value, estimate, exhausted = _extend(cycle, image)
        value = torch.where(checked[:, None], state.value, value)
        residual = torch.where(checked, begun.size, estimate)
        cycle = Cycle(
            *(
                new if new is old else torch.where(_like(checked, new), new, old)
                for new, old in zip(begun, cycle, strict=True)
            )
        )
        check = check.after(checked, residual, done=exhausted | (cycle.filled == longest))
        return replace(state, value=value, residual=residual, moved=None, memory=Memory(check, _store(cycle)))

    def terminate(self, problem: LinearProblem, state: Iterate) -> Tensor:
        """By the true residual."""
        assert state.residual is not None
        return state.memory.check.verdict(state.residual)  # type: ignore[no-any-return]


def _begin(base: Tensor, r: Tensor, basis: Tensor) -> Cycle:
    """A cycle from w = base with the residual r, in the place of another's basis."""
    rows, slots = basis.shape[:2]
    size = norms(r)
    eye = torch.eye(slots, dtype=r.dtype, device=r.device).expand(rows, slots, slots)
    return Cycle(
        base,
        size,
        torch.zeros(rows, dtype=torch.int64, device=r.device),
        over(r, size[:, None], (size > 0)[:, None]),
        basis,
        torch.zeros(rows, slots, slots - 1, dtype=r.dtype, device=r.device),
        eye,
        eye[:, 1:, 1:],
    )


def _store(cycle: Cycle) -> Cycle:
    """With the newest vector in its slot."""
    newest = cycle.newest[:, None]
    return cycle._replace(basis=cycle.basis.scatter(1, cycle.filled[:, None, None].expand_as(newest), newest))


def _grow(cycle: Cycle) -> Cycle:
    """With room for one more vector."""
    slots = cycle.basis.shape[1]
    corner = pad(torch.ones_like(cycle.rotation[:1, :1, :1]), (slots, 0, slots, 0))
    return cycle._replace(
        basis=pad(cycle.basis, (0, 0, 0, 1)),
        hessenberg=pad(cycle.hessenberg, (0, 1, 0, 1)),
        rotation=pad(cycle.rotation, (0, 1, 0, 1)) + corner,
        triangle=pad(cycle.triangle, (0, 1, 0, 1)) + corner[:, 1:, 1:],
    )


def _extend(cycle: Cycle, image: Tensor) -> tuple[Cycle, Tensor, Tensor, Tensor]:
    """A cycle with A v_k taken in.

    Returns:
        The cycle, w, its residual |beta e_1 - H y|, and whether the Krylov space is exhausted: A maps it to itself.
    """
    slots = cycle.basis.shape[1]
    eps = torch.finfo(cycle.size.dtype).eps
    here, below = _place(cycle.filled, slots), _place(cycle.filled + 1, slots)
    known = torch.arange(slots, device=image.device) < cycle.filled[:, None]

    column, rest = _project(cycle.basis, known | here, image)
    more, rest = _project(cycle.basis, known | here, rest)
    height, scale = norms(rest), norms(image)
    exhausted = height <= 10 * eps * scale
    newest = over(rest, height[:, None], ~exhausted[:, None])
    height = torch.where(exhausted, 0.0, height)
    column = torch.where(below, height[:, None].to(image.dtype), column + more)

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
    pivot = torch.where(regular, c, 1.0)[:, None].to(image.dtype)
    reduced = torch.where(here, pivot, torch.where(known & regular[:, None], turned, 0.0))
    columns = here[:, None, : slots - 1]
    hessenberg = torch.where(columns, column[:, :, None], cycle.hessenberg)
    triangle = torch.where(columns, reduced[:, : slots - 1, None], cycle.triangle)
    right = torch.where(known | (here & regular[:, None]), cycle.size[:, None] * rotation[:, :, 0], 0.0)
    y = torch.linalg.solve_triangular(triangle, right[:, : slots - 1, None], upper=True)[:, :, 0]

    value = cycle.base + (y[:, None, :] @ cycle.basis[:, : slots - 1])[:, 0]
    first = pad(cycle.size[:, None], (0, slots - 1)).to(image.dtype)
    residual = norms(first - _times(hessenberg, y))
    cycle = cycle._replace(
        filled=cycle.filled + 1, newest=newest, hessenberg=hessenberg, rotation=rotation, triangle=triangle
    )
    return cycle, value, residual, exhausted


def _project(basis: Tensor, filled: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The components of x along the basis, and what is left of it."""
    along = torch.where(filled, _times(basis.conj(), x), 0.0)
    return along, x - (along[:, None, :] @ basis)[:, 0]


def _times(matrix: Tensor, x: Tensor) -> Tensor:
    return (matrix @ x[:, :, None])[:, :, 0]


def _place(index: Tensor, slots: int) -> Tensor:
    """Whether a slot is the index-th of its row, shape (rows, slots)."""
    return torch.arange(slots, device=index.device) == index[:, None]


def _like(rows: Tensor, x: Tensor) -> Tensor:
    """A flag a row, shaped to broadcast against x."""
    return rows.reshape(-1, *[1] * (x.ndim - 1))
