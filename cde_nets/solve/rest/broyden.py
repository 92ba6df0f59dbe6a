"""Broyden's good method, with limited memory."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from cde_nets.options import options, positive
from cde_nets.solve.convergence import norms
from cde_nets.solve.fixed_point import FixedPointProblem
from cde_nets.solve.method import Iterate, Method
from cde_nets.solve.rest.iteration import Evaluated, Iteration, as_real, as_state, attempt, check_damping, fail
from cde_nets.solve.states import finite_rows
from cde_nets.solve.status import Status

import os
GROW=float(os.environ.get("GROW","1")); SHRINK=os.environ.get("SHRINK","0")=="1"

class Pairs(NamedTuple):
    steps: tuple[Tensor, ...]
    changes: tuple[Tensor, ...]
    part: Tensor
    poor: Tensor


@options
class Broyden(Method, Iteration):
    solves: ClassVar[str] = "rest"
    history: int = 20
    damping: float = 1.0

    def begin(self, z):
        part = torch.full((z.shape[0],), float(self.damping), dtype=z.dtype.to_real(), device=z.device)
        return Pairs((), (), part, torch.zeros(z.shape[0], dtype=torch.bool, device=z.device))

    def step(self, problem, state):
        memory = state.memory
        pairs = memory.own
        z, r = as_real(state.value), as_real(memory.residual)
        d = self._direction(pairs, r)
        d = torch.where(finite_rows(d)[:, None], d, r)
        move = pairs.part[:, None] * d
        trial = as_state(z + move, state.value)
        whole = state.running & finite_rows(trial)
        at = torch.where(whole[:, None], trial, state.value)
        residual = problem.residual(at)
        norm = norms(residual)
        whole = whole & torch.isfinite(norm)
        good = whole & (norm <= GROW * state.residual)
        # learn
        length = norms(move)
        usable = whole & (length > 0)
        length = torch.where(usable, length, 1.0)[:, None]
        s = torch.where(usable[:, None], move, 0.0) / length
        y = torch.where(usable[:, None], as_real(residual) - r, 0.0) / length
        part = torch.where(whole, self.damping, pairs.part / 2)
        if SHRINK:
            part = torch.where(good, self.damping, pairs.part/2)
        n = self.history
        pairs = Pairs((*pairs.steps, s)[-n:], (*pairs.changes, y)[-n:], part, state.running & ~whole)
        return attempt(problem, state, trial, good, residual, pairs)

    def _direction(self, pairs, r):
        if not pairs.steps:
            return r
        s, y = torch.stack(pairs.steps, 1), torch.stack(pairs.changes, 1)
        k = (s @ s.mT).tril(-1) + s @ y.mT
        empty = (torch.stack(pairs.steps, 1).abs().amax(2) == 0)
        k = k + torch.diag_embed(empty.to(k.dtype))
        w, _ = torch.linalg.solve_ex(k, s @ r[:, :, None])
        return r - ((s + y).mT @ w)[:, :, 0]
