"""Equal intervals of [0, 1]: which one a moment is in, and where in it."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cde_nets.remembered import remembered


def interval(moments: Float[Tensor, "*times"], steps: int) -> Int[Tensor, "*times"]:
    """The n with n / steps <= t < (n + 1) / steps; the first or the last interval outside [0, 1].

    The comparison is with n / steps as it rounds in the dtype of the moments, so that each breakpoint starts its
    interval to the last bit. A moment that is NaN gets some interval.
    """
    # Divided by a tensor, not by a number: some devices multiply by the reciprocal of a number, a bit off.
    width = torch.full_like(moments, steps)
    n = torch.floor(moments.detach() * width).nan_to_num(0.0).clamp(0, steps - 1)
    n = n + (moments >= (n + 1) / width).to(n) - (moments < n / width).to(n)
    return n.clamp(0, steps - 1).to(torch.int64)


@remembered
def breakpoints(steps: int) -> tuple[float, ...]:
    """The ends of the inner intervals."""
    return tuple(n / steps for n in range(1, steps))


@remembered
def intervals_of(mesh: tuple[float, ...], steps: int) -> tuple[int, ...]:
    """The interval of each step between two times that follow each other; a network's mesh is always the same one."""
    return tuple(interval_of((start + end) / 2, steps) for start, end in pairwise(mesh))


def interval_of(moment: float, steps: int) -> int:
    """`interval` of one moment on the host."""
    n = min(max(math.floor(moment * steps), 0), steps - 1)
    n += (moment >= (n + 1) / steps) - (moment < n / steps)
    return min(max(n, 0), steps - 1)


def local(times: Float[Tensor, "*times"], n: Int[Tensor, "*times"], steps: int) -> Float[Tensor, "*times"]:
    """Where the times are in interval n: 0 at its left end, 1 at its right end, in the dtype of the times."""
    width = torch.full_like(times, steps)
    left, right = n.to(times.dtype) / width, (n + 1).to(times.dtype) / width
    return (times - left) / (right - left)
