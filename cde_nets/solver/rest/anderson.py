"""Anderson's acceleration of Picard's iteration."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from cde_nets.options import options, positive, within
from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.method import Iterate, Method
from cde_nets.solver.rest.iteration import Evaluated, Iteration, arrive, as_real, as_state, check_damping
from cde_nets.solver.states import finite_rows

# A difference is dropped where the ridge is more than a quarter of what it adds, squared.
DROP = 2.0


class Past(NamedTuple):
    """Where the last step began, and the differences that the steps made, the newest first.

    Attributes:
        plain: z_{k-1} + damping r_{k-1} as real numbers; None before the first step.
        residual: r_{k-1}.
        steps: differences of plain, at most `history` of them.
        changes: those of the residual.
    """

    plain: Tensor | None = None
    residual: Tensor | None = None
    steps: tuple[Tensor, ...] = ()
    changes: tuple[Tensor, ...] = ()


@options
class Anderson(Method, Iteration):
    r"""The combination of the last iterates whose residual would be smallest if f were affine.

    Type II, in differences (Walker and Ni, Anderson acceleration for fixed-point iterations, SIAM J. Numer. Anal. 49,
    2011, eq. 2.4): with r = f(z) - z, and S and Y the last differences of z and of r as columns,

        gamma = argmin |r - Y gamma|,   z <- z + damping r - (S + damping Y) gamma;

    S + damping Y are the differences of z + damping r. In one dimension it is the secant method, and on an affine map,
    with enough history, as good as GMRES. The first step is Picard's. Least squares by QR, row by row, the newest
    differences first; each column is scaled to norm 1 and the ridge is relative to that, so that neither the problem's
    units nor the residual's decay change what it does. From the first difference on that repeats the newer ones to
    within 2 sqrt(ridge), the older ones are dropped (their section 4).

    A row whose mixture is not finite takes the damped Picard step instead, for that step; there is no other safeguard.
    Where a map flattens out far away, as gradient descent on few logistic samples does, the mixtures can run away, and
    far enough out any residual meets rtol |f(z)|: look at the size, or take `Broyden`, which moves only where the
    residual has not grown much. Every step is one evaluation of f. Unrolled, the weights gamma are differentiated as
    all the rest.

    Args:
        history: how many differences are mixed, at least 1; rows that have made fewer steps mix those.
        damping: in (0, 1], of the mixed residual.
        ridge: above 0: |r - Y gamma|^2 + ridge |gamma|^2 is minimised, the columns of Y scaled to norm 1.

    Raises:
        ValueError: an option outside these bounds.
    """

    solves: ClassVar[str] = "rest"

    history: int = 5
    damping: float = 1.0
    ridge: float = 1e-10

    def __post_init__(self) -> None:
        """Check all."""
        positive("history", self.history)
        check_damping(self.damping)
        within("ridge", self.ridge, 0)

    def begin(self, z: Tensor) -> Past:
        """Nothing has been seen."""
        return Past()

    def step(self, problem: FixedPointProblem, state: Iterate) -> Iterate:
        """Mix, and evaluate f."""
        memory: Evaluated = state.memory
        past: Past = memory.own
        r = as_real(memory.residual)
        plain = as_real(memory.at).add(r, alpha=self.damping)
        value, steps, changes = plain, past.steps, past.changes
        if past.plain is not None and past.residual is not None:
            steps = (plain - past.plain, *steps[: self.history - 1])
            changes = (r - past.residual, *changes[: self.history - 1])
            gamma = self._weights(changes, r)
            mixed = torch.baddbmm(plain[:, None], gamma, torch.stack(steps, 1), alpha=-1)[:, 0]
            value = torch.where(finite_rows(mixed)[:, None], mixed, plain)
        return arrive(problem, state, as_state(value, memory.at), Past(plain, r, steps, changes))

    def _weights(self, changes: tuple[Tensor, ...], residual: Tensor) -> Tensor:
        """Gamma, shape (rows, 1, differences)."""
        least = self.ridge**0.5
        columns = torch.stack([*changes, residual], 1)
        unit = torch.eye(columns.shape[1], dtype=columns.dtype, device=columns.device)
        lengths = torch.linalg.vector_norm(columns, dim=2)
        # Rows that stand still have differences of 0: they get the ridge alone, and no weight.
        lengths = lengths.masked_fill(lengths == 0, 1.0)
        # Not a column's norm is made 1, but its ridge is made as long; that of r is in nobody's way.
        triangle, target = _triangle(torch.cat([columns, unit * (least * lengths)[:, None]], 2).mT)
        # Older differences that add nothing to the newer ones but the ridge are dropped, and all before them.
        added = triangle.diagonal(dim1=1, dim2=2).abs() > DROP * least * lengths[:, :-1]
        used = added.cumprod(1).bool()[:, None]
        triangle = torch.where(used, triangle, unit[1:, 1:])
        target = target.masked_fill(~used.mT, 0.0)
        gamma: Tensor = torch.linalg.solve_triangular(triangle, target, upper=True).mT
        return gamma


def _triangle(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """R and Q^T b of the columns before the last one, b, whose last number is its own.

    Q takes as long again as R, and is made only where autograd asks for it: else b is one more column of Q R.
    """
    if torch.is_grad_enabled():
        q, r = torch.linalg.qr(matrix[:, :-1, :-1])
        return r, q.mT @ matrix[:, :-1, -1:]
    r = torch.linalg.qr(matrix, mode="r").R
    return r[:, :-1, :-1], r[:, :-1, -1:]
