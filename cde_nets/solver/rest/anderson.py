"""Anderson's acceleration of Picard's iteration."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from cde_nets.options import options, positive, within
from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.krylov import Gram, Window
from cde_nets.solver.method import Iterate, Method
from cde_nets.solver.opaque import surely_all, surely_finite
from cde_nets.solver.rest.iteration import Evaluated, Iteration, check_damping, taken, tried
from cde_nets.solver.rest.patience import GROWTH, Patience
from cde_nets.solver.states import as_real, as_state, chosen, finite_rows

# Far above the rounding of inner products in float64.
LEAST_RIDGE = 1e-13


class Past(NamedTuple):
    """What the last trials said, at most `history` of them.

    Attributes:
        ahead: z + damping r where the row stands, as real numbers, shape (rows, numbers).
        steps: the differences that the trials made in it.
        changes: those in the residual r.
        patience: what has been reached, and which rows take plain steps.
    """

    ahead: Tensor
    steps: Window
    changes: Gram
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
        past: Past = memory.own or self._nothing(as_real(memory.at), r, state.residual)
        value, changes, plain = past.ahead, past.changes, past.patience.plain()
        if past.steps.number:
            gamma, changes = changes.weights(r, self.ridge)
            mixed = torch.baddbmm(value[:, None], gamma.to(r.dtype), past.steps.kept, alpha=-1)[:, 0]
            if not surely_finite(mixed):
                strange = ~finite_rows(mixed)
                plain = strange if plain is None else plain | strange
            value = mixed if plain is None else chosen(~plain, mixed, value)
        else:
            plain = torch.ones_like(state.running)
        # A plain step is finite: the norm of f(z) is, in rows that run.
        trial = tried(problem, state, as_state(value, memory.at), finite=True)
        low = trial.norm <= GROWTH * past.patience.best
        low = low if plain is None else low | plain
        good = None if surely_all(low) else low
        # A row that ended gets differences of 0.
        residual = as_real(trial.residual)
        ahead = as_real(trial.at).add(residual, alpha=self.damping)
        own = Past(
            ahead if good is None else chosen(good, ahead, past.ahead),
            past.steps.add(ahead - past.ahead),
            changes.add(residual - r),
            past.patience.after(trial.norm, plain),
        )
        return taken(state, trial, own, good)

    def _nothing(self, z: Tensor, r: Tensor, residual: Tensor) -> Past:
        """Before the first step."""
        ahead = z.add(r, alpha=self.damping)
        return Past(ahead, Window.empty(z, self.history), Gram.empty(z, self.history), Patience.fresh(residual))
