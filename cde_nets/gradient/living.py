"""Rows that failed, kept out of gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def stand_in(x: Tensor, alive: Tensor) -> Tensor:
    """The states, with rows that failed put where a living row stands."""
    if not len(alive):
        return x
    return torch.where(alive[:, None], x, x.index_select(0, alive.to(torch.uint8).argmax()[None]))


def filled(parts: Sequence[Tensor | None], leaves: Sequence[Tensor], needs: Sequence[bool]) -> list[Tensor | None]:
    """The leaves' gradients where they are needed; zero where no step was taken that could give one."""
    return [
        None if not need else torch.zeros_like(leaf) if part is None else part
        for part, leaf, need in zip(parts, leaves, needs, strict=True)
    ]


def gradients_again(
    outputs: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    inputs: Sequence[Tensor],
    alive: Tensor,
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """What living rows' outputs give the inputs that are needed, with a graph; zero where no row lives."""
    living, some = alive[:, None], alive.any()
    wanted = [t for t, need in zip(inputs, needs, strict=True) if need]
    pairs = [(y, torch.where(living, q, 0.0)) for y, q in zip(outputs, cotangents, strict=True) if y.requires_grad]
    found = iter(
        torch.autograd.grad([y for y, _ in pairs], wanted, [q for _, q in pairs], create_graph=True, allow_unused=True)
    )
    parts = [next(found) if need else None for need in needs]
    return [part if part is None else torch.where(some, part, 0.0) for part in parts]
