"""Rows that failed stand where a living row stands: no derivative there is NaN, which times zero is NaN."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cde_nets.solver.opaque import opaque, surely_all
from cde_nets.solver.states import finite_rows


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


def healed(leaves: Sequence[Tensor], alive: Tensor, seen: Callable[[Sequence[Tensor]], Tensor]) -> list[Tensor]:
    """The leaves, with what failed rows were given in them replaced by what a living row was given.

    Zero times a derivative that is not finite is NaN: a sample that is not finite, or so large that something of it
    overflows, would spoil what all rows share. A leaf has a part for each row where its first axis is as long as there
    are rows, and where living rows stay finite with NaN in the parts of those that failed: a square matrix that all
    share may be as long.

    Args:
        leaves: what the rows were given, and what they share.
        alive: the rows that did not fail, shape (rows,).
        seen: what the rows make of the leaves where failed rows stand in a living row's place, shape (rows, numbers).
            It is asked once for each leaf as long as there are rows, and only where a row failed.
    """
    return replaced(leaves, alive, parts_of_rows(leaves, alive, seen))


def parts_of_rows(
    leaves: Sequence[Tensor], alive: Tensor, seen: Callable[[Sequence[Tensor]], Tensor]
) -> list[Tensor | None]:
    """Whether each leaf has a part for each row, as `healed`: a boolean without axes; None where none is replaced."""
    found: list[Tensor | None] = [None] * len(leaves)
    long = [k for k, leaf in enumerate(leaves) if leaf.dim() and leaf.shape[0] == len(alive)]
    # One look at a device costs less than steps taken again.
    if not long or surely_all(alive) or (not opaque() and bool(alive.all())):
        return found
    with torch.no_grad():
        plain = [leaf.detach() for leaf in leaves]
        for k in long:
            spoilt = torch.where(_gone(alive, plain[k]), math.nan, plain[k])
            try:
                value = seen([*plain[:k], spoilt, *plain[k + 1 :]])
            except RuntimeError:
                # Decompositions refuse a matrix with NaN in it: that one was looked at.
                continue
            found[k] = (finite_rows(value) | ~alive).all()
    return found


def replaced(leaves: Sequence[Tensor], alive: Tensor, own: Sequence[Tensor | None]) -> list[Tensor]:
    """The leaves, where they are the rows' own with the parts of failed rows replaced; see `parts_of_rows`."""
    if all(mine is None for mine in own):
        return list(leaves)
    rows = places(alive)
    return [
        leaf if mine is None else torch.where(mine & _gone(alive, leaf), leaf.index_select(0, rows), leaf)
        for leaf, mine in zip(leaves, own, strict=True)
    ]


def _gone(alive: Tensor, leaf: Tensor) -> Tensor:
    return ~alive.view(-1, *[1] * (leaf.dim() - 1))
