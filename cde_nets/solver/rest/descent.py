"""Newton's step, shortened row by row until the residual falls: what Newton and NewtonKrylov share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from cde_nets.solver.convergence import norms
from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.method import Iterate
from cde_nets.solver.rest.iteration import Evaluated, Iteration, arrive, attempt, fail
from cde_nets.solver.states import finite_rows, real
from cde_nets.solver.status import Status

DECREASE = 1e-4
LEAST_PART = 1e-8


class Search(NamedTuple):
    """Where each row's line search stands.

    Attributes:
        part: which part of the direction is tried next, shape (rows,).
        lost: rows without a direction, shape (rows,).
        poor: rows whose last trial, or its residual, was not finite, shape (rows,).
        forcing: how exact the next direction is to be, shape (rows,), where the method asks.
    """

    part: Tensor
    lost: Tensor
    poor: Tensor
    forcing: Tensor


class Direction(NamedTuple):
    """Where to go.

    Attributes:
        step: z + step would solve the linear model, shape (rows, numbers).
        left: which part of the residual the model leaves there, 0 where it was solved exactly, shape (rows,).
        found: rows that have a direction, shape (rows,).
    """

    step: Tensor
    left: Tensor
    found: Tensor


class Descent(Iteration):
    """z <- z + part * direction.

    With a line search a trial is taken where |r(trial)| <= (1 - 1e-4 part (1 - left)) |r(z)| (Armijo's rule on the
    norm: Dembo, Eisenstat and Steihaug 1982, Eisenstat and Walker 1994). Elsewhere the row stays, the try counts as
    rejected, and the next one is shorter: by the parabola through what is known, kept between a tenth and a half
    (Kelley, Iterative Methods for Linear and Nonlinear Equations, 1995, section 8.3.1), or by a half where the trial
    was not finite. So every step is one evaluation of f for all rows, and no row waits for the searches of another. A
    row whose part falls below 1e-8 has failed: DIVERGED where its last trial was not finite, else BREAKDOWN (a least
    residual that is not 0, or a tolerance below the dtype's precision).

    Attributes:
        damping: the part tried first.
        line_search: False takes every trial.
    """

    damping: float
    line_search: bool

    @abstractmethod
    def direction(self, problem: FixedPointProblem, state: Iterate) -> Direction:
        """By the Jacobian at the value."""

    def begin(self, z: Tensor) -> Search:
        """The first part of the first direction."""
        none = torch.zeros(z.shape[0], dtype=torch.bool, device=z.device)
        part = torch.full((z.shape[0],), float(self.damping), dtype=real(z.dtype), device=z.device)
        return Search(part, none, none, self.first_forcing(part))

    def first_forcing(self, like: Tensor) -> Tensor:
        """The forcing term of the first direction."""
        return torch.zeros_like(like)

    def next_forcing(self, state: Iterate, residual: Tensor, size: Tensor) -> Tensor:
        """That of the next one, given the norms of r and f where the row has arrived."""
        return state.memory.own.forcing  # type: ignore[no-any-return]

    def step(self, problem: FixedPointProblem, state: Iterate) -> Iterate:
        """One direction and one trial."""
        memory: Evaluated = state.memory
        search: Search = memory.own
        assert state.residual is not None
        direction = self.direction(problem, state)
        going = state.running & direction.found
        move = torch.where(going[:, None], search.part[:, None] * direction.step, 0.0)
        trial = memory.at + move
        if not self.line_search:
            after = arrive(problem, state, trial)
            assert after.residual is not None
            forcing = self.next_forcing(state, after.residual, after.memory.size)
            search = search._replace(lost=state.running & ~going, forcing=forcing)
            return _with(after, search)
        whole = going & finite_rows(trial)
        at = torch.where(whole[:, None], trial, memory.at)
        residual = problem.residual(at)
        norm, before = norms(residual), state.residual
        good = whole & (norm <= (1 - DECREASE * search.part * (1 - direction.left)) * before)
        # How far a row goes is held fixed by every gradient.
        with torch.no_grad():
            part = torch.where(good, float(self.damping), _shorter(search.part, norm / before, direction.left, whole))
        after = attempt(problem, state, trial, good, residual, None)
        assert after.residual is not None
        forcing = torch.where(good, self.next_forcing(state, after.residual, after.memory.size), search.forcing)
        poor = going & ~(whole & torch.isfinite(norm))
        return _with(after, Search(part, state.running & ~going, poor, forcing))

    def terminate(self, problem: FixedPointProblem, state: Iterate) -> Tensor:
        """By the undamped residual; BREAKDOWN without a direction, or where no part of it lowers the residual."""
        search: Search = state.memory.own
        codes = fail(super().terminate(problem, state), search.lost, Status.BREAKDOWN)
        why = torch.where(search.poor, int(Status.DIVERGED), int(Status.BREAKDOWN))
        return fail(codes, search.part < LEAST_PART, why)


def _shorter(part: Tensor, ratio: Tensor, left: Tensor, whole: Tensor) -> Tensor:
    """The next part to try: the least of the parabola through |r|^2 at 0 and at part, with its slope at 0."""
    slope = 2 * (1 - left)
    bend = (ratio.square() - 1 + slope * part) / part.square()
    best = torch.where(whole & (bend > 0), slope / (2 * bend), part / 2)
    return torch.minimum(torch.maximum(best, part / 10), part / 2)


def _with(state: Iterate, search: Search) -> Iterate:
    return replace(state, memory=state.memory._replace(own=search))
