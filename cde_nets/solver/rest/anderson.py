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
        value: z_{k-1} as real numbers; None before the first step.
        residual: r_{k-1}.
        steps: z_k - z_{k-1}, z_{k-1} - z_{k-2}, .., at most `history` of them.
        changes: those of the residual.
    """

    value: Tensor | None = None
    residual: Tensor | None = None
    steps: tuple[Tensor, ...] = ()
    changes: tuple[Tensor, ...] = ()


@options
class Anderson(Method, Iteration):
    r"""The combination of the last iterates whose residual would be smallest if f were affine.

    Type II, in differences (Walker and Ni, Anderson acceleration for fixed-point iterations, SIAM J. Numer. Anal. 49,
    2011, eq. 2.4): with r = f(z) - z, and S and Y the last differences of z and of r as columns,

        gamma = argmin |r - Y gamma|,   z <- z + damping r - (S + damping Y) gamma.

    In one dimension it is the secant method, and on an affine map, with enough history, as good as GMRES. The first
    step is Picard's. Least squares by QR, row by row, the newest differences first; each column is scaled to norm 1 and
    the ridge is relative to that, so that neither the problem's units nor the residual's decay change what it does.
    From the first difference on that repeats the newer ones to within 2 sqrt(ridge), the older ones are dropped (their
    section 4).

    A row whose mixture is not finite takes the damped Picard step instead, for that step. Every step is one evaluation
    of f. Unrolled, the weights gamma are differentiated as all the rest.

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
        z, r = as_real(memory.at), as_real(memory.residual)
        if past.value is not None and past.residual is not None:
            past = past._replace(
                steps=(z - past.value, *past.steps)[: self.history],
                changes=(r - past.residual, *past.changes)[: self.history],
            )
        plain = z.add(r, alpha=self.damping)
        value = plain
        if past.steps:
            changes = torch.stack(past.changes, 1)
            gamma = self._weights(changes, r)
            mixed = plain - (gamma @ torch.stack(past.steps, 1) + self.damping * (gamma @ changes))[:, 0]
            value = torch.where(finite_rows(mixed)[:, None], mixed, plain)
        return arrive(problem, state, as_state(value, memory.at), past._replace(value=z, residual=r))

    def _weights(self, changes: Tensor, residual: Tensor) -> Tensor:
        """Gamma, shape (rows, 1, differences), of changes with shape (rows, differences, numbers)."""
        rows, count, numbers = changes.shape
        lengths = torch.linalg.vector_norm(changes, dim=2)
        # Rows that stand still have differences of 0: they stay so, and get no weight.
        lengths = torch.where(lengths > 0, lengths, 1.0)
        unit = torch.eye(count, dtype=changes.dtype, device=changes.device)
        ridge = (unit * self.ridge**0.5).expand(rows, -1, -1)
        q, r = torch.linalg.qr(torch.cat([changes / lengths[:, :, None], ridge], 2).mT)
        # Older differences that add nothing to the newer ones but the ridge are dropped, and all before them.
        added = r.diagonal(dim1=1, dim2=2).abs() > DROP * self.ridge**0.5
        used = added.to(torch.int64).cumprod(1).bool()
        r = torch.where(used[:, :, None] & used[:, None], r, unit)
        target = torch.where(used[:, None], residual[:, None] @ q[:, :numbers], 0.0)
        gamma: Tensor = torch.linalg.solve_triangular(r, target.mT, upper=True).mT / lengths[:, None]
        return gamma
