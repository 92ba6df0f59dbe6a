"""What methods share that stop after a given number of products."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cde_nets.solver.method import Iterate, start
from cde_nets.solver.status import Status


def start_from(w: Tensor, *, residual: Tensor | None = None, memory: Any = None) -> Iterate:
    """As `start`, with zeros in the rows that are not finite: they have diverged, and hold a finite answer."""
    state = start(w, residual=residual, memory=memory)
    return replace(state, value=torch.where(state.running[:, None], w, 0.0))


def truncated(state: Iterate) -> Tensor:
    """DIVERGED where the residual is not finite; else RUNNING, which the loop turns into DONE: no tolerance was met."""
    if state.residual is None:
        return torch.full_like(state.status, int(Status.RUNNING))
    return torch.where(torch.isfinite(state.residual), int(Status.RUNNING), int(Status.DIVERGED))
