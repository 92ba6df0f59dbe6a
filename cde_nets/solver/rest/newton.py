"""Newton's method with the whole Jacobian."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from cde_nets.options import options
from cde_nets.solver.convergence import norms
from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.method import Iterate, Method
from cde_nets.solver.rest.descent import Descent, Direction
from cde_nets.solver.rest.iteration import check_damping, check_flag
from cde_nets.solver.states import as_real, as_state, finite_rows, real


@options
class Newton(Method, Descent):
    """z <- z + part s with (J - I) s = -(f(z) - z), J the Jacobian of f at z: for rows of up to a few hundred numbers.

    Converges quadratically near a rest point where J - I is regular, also where Picard does not. J is made by
    torch.func: as many products as a row has numbers, all of them at once through vmap; then an LU decomposition a row.
    A row where J - I is singular, to rounding, ends with BREAKDOWN.

    Steps that do not lower the residual are shortened, a row each; every try is a step of the loop, one evaluation of f
    and one J. Where |f(z) - z| has local minima that are no rest points the search can end in one (BREAKDOWN): other
    starts, Broyden or FlowToRest get on.

    Args:
        damping: in (0, 1], the part of a step that is tried first; below 1 convergence is linear.
        line_search: shorten steps that do not lower the residual. False takes every step whole.

    Raises:
        ValueError: damping outside (0, 1], or line_search neither True nor False.
    """

    solves: ClassVar[str] = "rest"

    damping: float = 1.0
    line_search: bool = True

    def __post_init__(self) -> None:
        """Check all."""
        check_damping(self.damping)
        check_flag("line_search", self.line_search)

    def direction(self, problem: FixedPointProblem, state: Iterate) -> Direction:
        """LU, row by row."""
        r = as_real(state.memory.residual)
        matrix = _jacobian(problem, state.memory.at)
        matrix = matrix - torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
        step, info = torch.linalg.solve_ex(matrix, -r[:, :, None])
        # What is singular to rounding need not have a pivot of 0: look at what the solution leaves.
        left = norms((matrix @ step)[:, :, 0] + r) <= 0.1 * norms(r)
        found = (info == 0) & left & finite_rows(step[:, :, 0])
        step = as_state(step[:, :, 0], state.memory.at)
        return Direction(step, torch.zeros_like(state.memory.own.part), found)


def _jacobian(problem: FixedPointProblem, z: Tensor) -> Tensor:
    """J of every row, shape (rows, n, n), in real numbers."""
    n = as_real(z).shape[1]
    units = torch.eye(n, dtype=real(z.dtype), device=z.device)[:, None].expand(-1, z.shape[0], -1)
    columns = problem.pushforwards(z, as_state(units, z))
    return torch.view_as_real(columns).flatten(2).permute(1, 2, 0) if z.is_complex() else columns.permute(1, 2, 0)
