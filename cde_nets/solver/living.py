"""Rows that failed stand where a living row stands: no derivative there is NaN, which times zero is NaN."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cde_nets.solver.opaque import surely_all


def places(alive: Tensor) -> Tensor:
    """Whose place each row takes, shape (rows,): its own, or where it failed that of the first living row."""
    if not len(alive):
        return torch.zeros(0, dtype=torch.int64, device=alive.device)
    return torch.where(alive, torch.arange(len(alive), device=alive.device), alive.to(torch.uint8).argmax())


def stand_in(x: Tensor, alive: Tensor) -> Tensor:
    """The states, with rows that failed put where a living row stands."""
    if surely_all(alive):
        return x
    # Rows are gathered, not selected by torch.where, which is several times slower on the CPU.
    return x.index_select(0, places(alive))


def healed(leaves: Sequence[Tensor], alive: Tensor) -> list[Tensor]:
    """The leaves, with NaN that failed rows were given in them replaced by what a living row was given.

    Zero times the derivative at NaN is NaN: a sample whose input is NaN would spoil what all rows share. A leaf is
    taken for a tensor of the rows where its first axis is as long as theirs; numbers that are not NaN stay.
    """
    if surely_all(alive):
        return list(leaves)
    rows, found = places(alive), []
    for leaf in leaves:
        if leaf.dim() and leaf.shape[0] == len(alive):
            gone = leaf.isnan() & ~alive.view(-1, *[1] * (leaf.dim() - 1))
            leaf = torch.where(gone, leaf.index_select(0, rows), leaf)
        found.append(leaf)
    return found
