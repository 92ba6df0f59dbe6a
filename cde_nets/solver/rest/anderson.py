"""Anderson's acceleration of Picard's iteration."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from cde_nets.options import options, positive, within
from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.method import Iterate, Method
from cde_nets.solver.rest.iteration import Evaluated, Iteration, as_real, as_state, check_damping, taken, tried
from cde_nets.solver.rest.patience import GROWTH, Patience
from cde_nets.solver.states import finite_rows

# A difference is dropped where the ridge is more than a quarter of what it adds, squared.
DROP = 2.0
# Far above the rounding of inner products in float64.
LEAST_RIDGE = 1e-13


class Past(NamedTuple):
    """The differences that the last trials made, the newest first, at most `history` of them.

    Attributes:
        steps: of z + damping r, as real numbers, shape (rows, differences, numbers).
        changes: of the residual r, in float64, likewise.
        products: their inner products but those of the newest, shape (rows, differences - 1, differences - 1).
        patience: what has been reached, and which rows take plain steps.
    """

    steps: Tensor
    changes: Tensor
    products: Tensor
    patience: Patience


@options
class Anderson(Method, Iteration):
    r"""The combination of the last iterates whose residual would be smallest if f were affine.

    Type II, in differences (Walker and Ni, Anderson acceleration for fixed-point iterations, SIAM J. Numer. Anal. 49,
    2011, eq. 2.4): with r = f(z) - z, and S and Y the last differences of z and of r as columns,

        gamma = argmin |r - Y gamma|,   z <- z + damping r - (S + damping Y) gamma;

    S + damping Y are the differences of z + damping r. In one dimension it is the secant method, and on an affine map,
    with enough history, as good as GMRES. The first step is Picard's. Least squares, row by row, by Cholesky's
    factorisation of Y^T Y, which is made in float64: there the ridge stands far above rounding. It is relative to the
    columns' norms, so that neither the problem's units nor the residual's decay change what it does. The newest
    differences come first; from the first one on that repeats those before it to within 2 sqrt(ridge), the older ones
    are dropped (their section 4).

    Safeguards, each row's own and without further evaluations: every trial adds its differences, but the row moves only
    where the residual is at most twice the best one it had, else it stays, the try counts as rejected, and the next
    mixture knows better; a row whose best residual has not halved in ten steps takes Picard's step for ten, then
    for twenty the next time, and so on, so that what Picard's iteration would bring to rest does come to rest; and a
    mixture that is not finite is replaced by Picard's step.

    Every step is one evaluation of f. Unrolled, the weights gamma are differentiated as all the rest.

    Args:
        history: how many differences are mixed, at least 1; rows that have made fewer steps mix those.
        damping: in (0, 1], of the mixed residual.
        ridge: from 1e-13 to 1: |r - Y gamma|^2 + ridge |gamma|^2 is minimised, the columns of Y scaled to norm 1.

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
        within("ridge", self.ridge, LEAST_RIDGE, 1, closed=True)

    def begin(self, z: Tensor) -> Past | None:
        """Nothing has been seen."""
        return None

    def step(self, problem: FixedPointProblem, state: Iterate) -> Iterate:
        """Mix, and evaluate f."""
        memory: Evaluated = state.memory
        assert state.residual is not None
        r = as_real(memory.residual)
        past: Past = memory.own or _nothing(r, state.residual)
        known = past.steps[:, : self.history - 1], past.changes[:, : self.history - 1]
        products = past.products
        plain = past.patience.plain()
        value = as_real(memory.at).add(r, alpha=self.damping)
        if past.steps.shape[1]:
            gamma, products = self._weights(past, r)
            mixed = torch.baddbmm(value[:, None], gamma, past.steps, alpha=-1)[:, 0]
            whole = finite_rows(mixed)
            plain = ~whole if plain is None else plain | ~whole
            value = torch.where(plain[:, None], value, mixed)
        else:
            plain = torch.ones_like(state.running)
        # A plain step is finite: the norm of f(z) is, in rows that run.
        trial = tried(problem, state, as_state(value, memory.at), finite=True)
        good = plain | (trial.norm <= GROWTH * past.patience.best)
        # A row that ended gets differences of 0.
        change = as_real(trial.residual) - r
        step = (as_real(trial.at) - as_real(memory.at)).add(change, alpha=self.damping)
        steps, changes = (
            torch.cat([new[:, None].to(old.dtype), old], 1) for new, old in zip((step, change), known, strict=True)
        )
        return taken(state, trial, Past(steps, changes, products, past.patience.after(trial.norm, plain)), good)

    def _weights(self, past: Past, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Gamma, shape (rows, 1, differences), and the products that the next step has use for."""
        changes, older = past.changes, past.products
        newest = torch.bmm(torch.stack([changes[:, 0], residual.to(changes.dtype)], 1), changes.mT)
        first, target = newest[:, :1], newest[:, 1:].mT
        products = torch.cat([first, torch.cat([first[:, :, 1:].mT, older], 2)], 1)
        # Differences of 0, of rows that stand still, get the least ridge alone, and no weight.
        ridge = self.ridge * products.diagonal(dim1=1, dim2=2) + torch.finfo(products.dtype).tiny
        factor = torch.linalg.cholesky_ex(products + torch.diag_embed(ridge)).L
        # Older differences that add nothing to the newer ones but the ridge are dropped, and all before them; so are
        # those at which the factorisation ended.
        used = (factor.diagonal(dim1=1, dim2=2) > DROP * ridge.sqrt()).cumprod(1).bool()[:, None]
        factor = torch.where(used.mT, factor, torch.eye(factor.shape[1], dtype=factor.dtype, device=factor.device))
        gamma = torch.cholesky_solve(target.masked_fill(~used.mT, 0.0), factor).mT
        kept = products if products.shape[1] < self.history else products[:, :-1, :-1]
        return gamma.to(residual.dtype), kept


def _nothing(r: Tensor, residual: Tensor) -> Past:
    """Before the first step."""
    none = r.new_zeros(r.shape[0], 0, r.shape[1])
    empty = torch.zeros(r.shape[0], 0, 0, dtype=torch.float64, device=r.device)
    return Past(none, none.to(torch.float64), empty, Patience.fresh(residual))
