"""Newton's method with directions from GMRES: products with the Jacobian only."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from cde_nets.options import options, positive, within
from cde_nets.solver.convergence import norms
from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.krylov import apart
from cde_nets.solver.method import Iterate, Method
from cde_nets.solver.rest.descent import Descent, Direction, Search
from cde_nets.solver.rest.iteration import check_damping, check_flag
from cde_nets.solver.states import as_real, as_state, finite_rows

FIRST_FORCING, LARGEST_FORCING = 0.5, 0.9
STAGNANT = 1 - 1e-6


@options
class NewtonKrylov(Method, Descent):
    """z <- z + part s with (J - I) s = -(f(z) - z) solved by GMRES, J known by its products: for long rows.

    Every step makes min(krylov, numbers of a row) products for all rows at once; nothing is read from the device. A
    row uses the shortest Krylov space whose linear residual is at most forcing |r|, and what GMRES left otherwise:
    still a direction in which |r| falls, unless J - I is singular on the space (BREAKDOWN). The line search is
    `Descent`'s.

    A shorter space saves no products here, so that exact directions, a small forcing, need the fewest. With None the
    linear model is solved no better than it has proved to be: forcing <- 0.9 (|r_k| / |r_{k-1}|)^2 from 0.5 (Eisenstat
    and Walker, Choosing the forcing terms in an inexact Newton method, SIAM J. Sci. Comput. 17, 1996, choice 2 with
    its safeguards).

    Unrolled, everything is differentiated, products with J included: f must be twice differentiable.

    Args:
        krylov: dimension of the Krylov space, at least 1.
        forcing: a number in (0, 1), or None for Eisenstat and Walker's.
        damping: in (0, 1], the part of a step that is tried first.
        line_search: shorten steps that do not lower the residual. False takes every step whole.

    Raises:
        ValueError: an option outside these bounds.
    """

    solves: ClassVar[str] = "rest"

    krylov: int = 20
    forcing: float | None = 1e-6
    damping: float = 1.0
    line_search: bool = True

    def __post_init__(self) -> None:
        """Check all."""
        positive("krylov", self.krylov)
        if self.forcing is not None:
            within("forcing", self.forcing, 0, 1)
        check_damping(self.damping)
        check_flag("line_search", self.line_search)

    def first_forcing(self, like: Tensor) -> Tensor:
        """0.5, where none is given."""
        return torch.full_like(like, FIRST_FORCING if self.forcing is None else self.forcing)

    def next_forcing(self, state: Iterate, residual: Tensor, size: Tensor) -> Tensor:
        """Eisenstat and Walker's choice 2, not below half of what the tolerance wants."""
        search: Search = state.memory.own
        if self.forcing is not None:
            return search.forcing
        assert state.residual is not None
        tolerance = state.memory.tolerance
        wanted = 0.5 * (tolerance.atol + tolerance.rtol * size) / residual
        held = 0.9 * search.forcing.square()
        chosen = 0.9 * (residual / state.residual).square()
        chosen = torch.where(held > 0.1, torch.maximum(chosen, held), chosen)
        return torch.maximum(chosen, wanted).clamp(max=LARGEST_FORCING)

    def direction(self, problem: FixedPointProblem, state: Iterate) -> Direction:
        """GMRES from 0, row by row."""
        z = state.memory.at
        # Unrolled, products are differentiated too.
        push = partial(problem.pushforward, z) if torch.is_grad_enabled() else problem.pushing(z)

        def apply(v: Tensor) -> Tensor:
            return as_real(push(as_state(v, z))) - v

        r = as_real(state.memory.residual)
        step, left = gmres(apply, -r, min(self.krylov, r.shape[1]), state.memory.own.forcing)
        return Direction(as_state(step, z), left, finite_rows(step) & (left < STAGNANT))


def gmres(apply: Callable[[Tensor], Tensor], b: Tensor, count: int, enough: Tensor) -> tuple[Tensor, Tensor]:
    """Minimise |A x - b| over x in the Krylov space of A and b, for every row by itself: x, and |A x - b| / |b|.

    Saad and Schultz, GMRES, SIAM J. Sci. Stat. Comput. 7, 1986.

    Args:
        apply: v -> A v, shape (rows, numbers).
        b: the right-hand side, shape (rows, numbers), real.
        count: how many products are made.
        enough: a row takes the smallest space in which |A x - b| <= enough |b|, shape (rows,).
    """
    size = norms(b)
    basis, columns = [_over(b, size)], []
    for j in range(count):
        along, rest, length, closed = apart(torch.stack(basis, 1), apply(basis[j]))
        # What remains of a product that lies in the space is rounding.
        length = length if closed is None else length.masked_fill(closed, 0.0)
        basis.append(_over(rest, length))
        columns.append(torch.cat([along[:, 0], length[:, None], b.new_zeros(b.shape[0], count - 1 - j)], 1))
    matrix = torch.stack(columns, 2)
    used, left = _needed(matrix.detach(), enough)
    # A column that is not used becomes a unit column of its own, and so gets the weight 0.
    unused = torch.diag_embed((~used).to(b.dtype))
    q, r = torch.linalg.qr(torch.cat([torch.where(used[:, None], matrix, 0.0), unused], 1))
    weights = torch.linalg.solve_triangular(r, q[:, :1].mT * size[:, None, None], upper=True)
    return (weights.mT @ torch.stack(basis[:-1], 1))[:, 0], left


def _needed(matrix: Tensor, enough: Tensor) -> tuple[Tensor, Tensor]:
    """Which columns of a Hessenberg matrix to use, shape (rows, columns), and |H y - e_1| with the best y on them."""
    q, r = torch.linalg.qr(matrix, mode="complete")
    # In the basis q the first unit vector is q[0]; j columns reach its first j numbers, and leave the rest.
    tail = q[:, 0].square().flip(1).cumsum(1).flip(1).sqrt()
    size = torch.linalg.vector_norm(matrix, dim=1)
    # Only the column at which the space closed can be dependent (A is singular there), and nothing follows it.
    sound = r.diagonal(dim1=1, dim2=2).abs() > 10 * torch.finfo(matrix.dtype).eps * size
    used = ((tail[:, :-1] > enough[:, None]) & sound).to(torch.int64).cumprod(1)
    return used.bool(), tail.gather(1, used.sum(1, keepdim=True))[:, 0]


def _over(x: Tensor, size: Tensor) -> Tensor:
    return torch.where((size > 0)[:, None], x / torch.where(size > 0, size, 1.0)[:, None], 0.0)
