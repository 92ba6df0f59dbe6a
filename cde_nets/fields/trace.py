"""The trace of a Jacobian, for a velocity that is known only as a function."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Inexact
from torch import Tensor

# Derivatives along this many axes are held at once.
_AXES = 32


def jacobian_trace(f: Callable[[Tensor], Tensor], x: Inexact[Tensor, "batch dim"]) -> Inexact[Tensor, "batch"]:
    """sum_j d f_j / d x_j of every row, exactly, by `dim` forward derivatives along the axes.

    Args:
        f: from (batch, dim) to (batch, dim), each row by itself.
        x: where, shape (batch, dim).
    """

    def entry(axis: Tensor) -> Tensor:
        column: Tensor = torch.func.jvp(f, (x,), (axis.expand_as(x),))[1]
        return (column * axis).sum(1)

    axes = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    entries: Tensor = torch.func.vmap(entry, chunk_size=_AXES)(axes)
    return entries.sum(0)
