"""Broyden's good method, with limited memory."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from cde_nets.options import options, positive
from cde_nets.solver.convergence import norms
from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.method import Iterate, Method
from cde_nets.solver.rest.iteration import Evaluated, Iteration, attempt, check_damping, fail
from cde_nets.solver.rest.patience import GROWTH, Patience
from cde_nets.solver.states import as_real, as_state, finite_rows
from cde_nets.solver.status import Status

LEAST_PART = 1e-8


class Pairs(NamedTuple):
    """What has been learnt of the Jacobian, the oldest first, each pair divided by the length of its step.

    Attributes:
        steps: s, shape (rows, pairs, numbers), in real numbers.
        sums: s + y, where y is what s changed the residual by, likewise.
        inner: K_ij = s_i . y_j, and s_i . s_j more where i > j; shape (rows, pairs, pairs); 0 where one is unused.
        unused: which pairs a row has not learnt or has forgotten, shape (rows, 1, pairs).
        part: which part of the direction is tried next, shape (rows,).
        poor: rows whose last trial, or its residual, was not finite, shape (rows,).
        patience: what has been reached, and which rows take plain steps; None before the first step.
    """

    steps: Tensor
    sums: Tensor
    inner: Tensor
    unused: Tensor
    part: Tensor
    poor: Tensor
    patience: Patience | None = None


@options
class Broyden(Method, Iteration):
    r"""z <- z - damping B^-1 r with the least change of B that explains the last step, B = -I to begin with.

    Good Broyden (Broyden, A class of methods for solving nonlinear simultaneous equations, Math. Comp. 19, 1965):
    B <- B + (y - B s) s^T / (s^T s) for the residual r = f(z) - z, a trial step s and the change y of r along it. After
    k of them the Sherman-Morrison formula adds up to

        -B^-1 r = r - (S + Y) K^-1 S^T r,   K = S^T Y + strict lower triangle of S^T S,

    S and Y the pairs as columns (Byrd, Nocedal and Schnabel, Representations of quasi-Newton matrices and their use in
    limited memory methods, Math. Program. 63, 1994, theorem 6.1): no B is stored, and the oldest pair can be dropped,
    as if the iteration had begun after it. In one dimension it is the secant method; the first step is Picard's.

    Safeguards, each row's own, without derivatives and without further evaluations: every trial teaches B, but the row
    moves only where the residual at most doubled; else it stays, the try counts as rejected, and the next direction
    comes from the better B. A row whose best residual has not halved in ten steps takes Picard's step for ten, then for
    twenty the next time, and so on. Where a trial is not finite nothing is learnt and the next one is half as long;
    below 1e-8 the row has DIVERGED. Where K is singular the row forgets its pairs and takes the Picard step.

    Every step is one evaluation of f. Unrolled, the weights K^-1 S^T r are differentiated as all the rest.

    Args:
        history: how many pairs are kept, at least 1; None keeps all. 2 history numbers are stored for every number of
            the state.
        damping: in (0, 1].

    Raises:
        ValueError: an option outside these bounds.
    """

    solves: ClassVar[str] = "rest"

    history: int | None = 20
    damping: float = 1.0

    def __post_init__(self) -> None:
        """Check all."""
        if self.history is not None:
            positive("history", self.history)
        check_damping(self.damping)

    def begin(self, z: Tensor) -> Pairs:
        """B = -I."""
        x = as_real(z)
        none = x.new_zeros(x.shape[0], 0, x.shape[1])
        part = torch.full_like(x[:, 0] if x.shape[1] else x.sum(1), float(self.damping))
        inner, false = x.new_zeros(x.shape[0], 0, 0), torch.zeros_like(part, dtype=torch.bool)
        return Pairs(none, none, inner, false[:, None, None][:, :, :0], part, false)

    def step(self, problem: FixedPointProblem, state: Iterate) -> Iterate:
        """One direction and one trial, from which B learns."""
        memory: Evaluated = state.memory
        assert state.residual is not None
        r = as_real(memory.residual)
        direction, pairs = _direction(memory.own, r)
        patience = pairs.patience or Patience.fresh(state.residual)
        plain = patience.plain()
        if plain is not None:
            direction = torch.where(plain[:, None], r, direction)
        move = pairs.part[:, None] * direction
        trial = memory.at + as_state(move, memory.at)
        whole = state.running & finite_rows(trial)
        residual = problem.residual(torch.where(whole[:, None], trial, memory.at))
        norm = norms(residual)
        whole = whole & (norm < math.inf)
        good = norm <= GROWTH * state.residual
        good = whole & (good if plain is None else good | plain)
        pairs = self._learnt(pairs, move, as_real(residual) - r, whole)
        part = (pairs.part / 2).masked_fill(whole, self.damping)
        patience = patience.after(norm, plain)
        pairs = pairs._replace(part=part, poor=state.running ^ whole, patience=patience)
        return attempt(problem, state, trial, good, residual, pairs)

    def terminate(self, problem: FixedPointProblem, state: Iterate) -> Tensor:
        """By the undamped residual; DIVERGED where no part of a direction has a finite residual."""
        pairs: Pairs = state.memory.own
        return fail(super().terminate(problem, state), pairs.poor & (pairs.part < LEAST_PART), Status.DIVERGED)

    def _learnt(self, pairs: Pairs, s: Tensor, y: Tensor, where: Tensor) -> Pairs:
        """One more pair, and the oldest dropped."""
        length = norms(s)
        skipped = ~(where & (length > 0))
        # Over infinity what is not learnt is 0, or NaN where it was not finite.
        over = length.masked_fill(skipped, math.inf)[:, None]
        s, y = (s / over).nan_to_num()[:, None], (y / over).nan_to_num()[:, None]
        steps, sums, inner, unused = pairs.steps, pairs.sums, pairs.inner, pairs.unused
        if steps.shape[1] == self.history:
            steps, sums, inner, unused = steps[:, 1:], sums[:, 1:], inner[:, 1:, 1:], unused[:, :, 1:]
        row = torch.bmm(s, sums.mT).masked_fill(unused, 0.0)
        steps, sums = torch.cat([steps, s], 1), torch.cat([sums, s + y], 1)
        unused = torch.cat([unused, skipped[:, None, None]], 2)
        column = torch.bmm(y, steps.mT).masked_fill(unused, 0.0)
        inner = torch.cat([torch.cat([inner, row], 1), column.mT], 2)
        return pairs._replace(steps=steps, sums=sums, inner=inner, unused=unused)


def _direction(pairs: Pairs, r: Tensor) -> tuple[Tensor, Pairs]:
    """-B^-1 r, and the pairs without those of rows that had to forget them."""
    residual = r[:, None]
    target = torch.bmm(residual, pairs.steps.mT).masked_fill(pairs.unused, 0.0)
    # A pair that is not used becomes a unit row and column of its own, and so gets the weight 0.
    weights, _ = torch.linalg.solve_ex(pairs.inner + torch.diag_embed(pairs.unused[:, 0]), target.mT)
    direction = torch.baddbmm(residual, weights.mT, pairs.sums, alpha=-1)[:, 0]
    sound = finite_rows(direction)[:, None]
    forgotten = ~sound[:, None]
    pairs = pairs._replace(inner=pairs.inner.masked_fill(forgotten, 0.0), unused=pairs.unused | forgotten)
    return torch.where(sound, direction, r), pairs
