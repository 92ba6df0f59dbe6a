"""Events: stop a row where g(t, x) = 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cde_nets.options import options, suggest
from cde_nets.solver.states import Packing, real

_DIRECTIONS = ("any", "rising", "falling")


@options
class Event:
    """A row stops where its g crosses zero for the first time.

    The crossing is looked for between the ends of every step, so that one which comes and goes within a step is missed,
    and is placed on the method's continuous extension by bisection, to the precision of the times.

    Args:
        function: g(t, x) -> one number a row, shape (rows,); (,) or (1,) where the state is a single row. There is a
            time for each row, shaped so that it broadcasts against the state, as in `lambda t, x: (x - t)[:, 0]`.
        direction: "any", "rising" (from below zero to above) or "falling".

    Raises:
        ValueError: an unknown direction, or a function that cannot be called.
    """

    function: Callable[..., Tensor]
    direction: str = "any"

    def __post_init__(self) -> None:
        """Check both."""
        if not callable(self.function):
            raise ValueError(f"An event is a function g(t, x); got a {type(self.function).__name__}.")
        if self.direction not in _DIRECTIONS:
            raise ValueError(f"Unknown direction {self.direction!r}{suggest(self.direction, _DIRECTIONS)}")

    def crossed(self, before: Tensor, after: Tensor) -> Tensor:
        """Whether g went through zero between two values, shape (rows,). A start at zero itself is no crossing."""
        rising, falling = (before < 0) & (after >= 0), (before > 0) & (after <= 0)
        return {"any": rising | falling, "rising": rising, "falling": falling}[self.direction]


class Hits(NamedTuple):
    """Where rows met their event: the step in which they did, and g where they stand.

    Attributes:
        g: at each row's state, shape (rows,).
        hit: the rows that have met it, shape (rows,).
        start: the state their step started from, shape (rows, numbers).
        slopes: its stages' slopes.
        t: when it started, float64, shape (rows, 1).
        h: its signed width, float64, shape (rows, 1).
    """

    g: Tensor
    hit: Tensor
    start: Tensor
    slopes: Sequence[Tensor]
    t: Tensor
    h: Tensor


def begin(event: Event, packing: Packing, x: Tensor, t: Tensor, stages: int) -> Hits:
    """Before the first step, at times t of shape (rows, 1) or (1, 1)."""
    rows = torch.zeros(x.shape[0], 1, dtype=torch.float64, device=x.device)
    none = torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
    return Hits(evaluate(event, packing, t, x), none, x, [torch.zeros_like(x)] * stages, rows + t, rows)


def advance(
    event: Event,
    packing: Packing,
    hits: Hits,
    x: Tensor,
    value: Tensor,
    t: tuple[Tensor, Tensor],
    slopes: Sequence[Tensor],
    moved: Tensor,
) -> Hits:
    """After a step from x to value between two times, for the rows that took it."""
    g = evaluate(event, packing, t[1], value)
    now = moved & ~hits.hit & event.crossed(hits.g, g)
    here = now[:, None]
    return Hits(
        torch.where(moved, g, hits.g),
        hits.hit | now,
        torch.where(here, x, hits.start),
        [torch.where(here, new, old) for new, old in zip(slopes, hits.slopes, strict=True)],
        torch.where(here, t[0], hits.t),
        torch.where(here, t[1] - t[0], hits.h),
    )


def locate(
    event: Event, packing: Packing, hits: Hits, point: Callable[[Tensor], Tensor], halvings: int = 52
) -> tuple[Tensor, Tensor]:
    """Theta in (0, 1] of every row's crossing within its step, by bisection, and its time; both (rows, 1).

    Args:
        event: g.
        packing: of the state.
        hits: the steps.
        point: the states on the continuous extension of those steps at theta, shape (rows, 1).
        halvings: of the bracket.
    """
    low, high = torch.zeros_like(hits.h), torch.ones_like(hits.h)
    below = evaluate(event, packing, hits.t, hits.start)
    for _ in range(halvings):
        middle = (low + high) / 2
        crossed = event.crossed(below, evaluate(event, packing, hits.t + middle * hits.h, point(middle)))[:, None]
        low, high = torch.where(crossed, low, middle), torch.where(crossed, middle, high)
    return high, hits.t + high * hits.h


def evaluate(event: Event, packing: Packing, t: Tensor, x: Tensor) -> Tensor:
    """G of packed states, shape (rows,).

    Raises:
        ValueError: the function returned another shape.
    """
    # A time for each row, also where rows step together: they do not meet their events together.
    times = t.to(real(packing.dtype)).expand(x.shape[0], 1)
    value: Any = event.function(packing.time(times), packing.unpack(x))
    if not isinstance(value, Tensor) or value.numel() != x.shape[0]:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise ValueError(
            f"An event gives one number a row, shape ({x.shape[0]},); got {got}. The time has shape "
            f"{tuple(packing.time(times).shape)} there, to broadcast against the state."
        )
    return value.reshape(x.shape[0])
