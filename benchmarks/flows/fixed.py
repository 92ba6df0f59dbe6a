"""Rows with fixed steps: agreement first, then times by turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.flows import jax_sides, torch_sides
from benchmarks.flows.flops import flops
from benchmarks.flows.record import Fixed, Timed
from benchmarks.flows.rows import Given, Row, draw
from benchmarks.flows.sides import Side, agree
from benchmarks.flows.timing import interleaved, once

PEERS: dict[str, Callable[[Given], list[Side]]] = {
    "torchdiffeq": torch_sides.torchdiffeq,
    "torchdiffeq-adjoint": torch_sides.torchdiffeq_adjoint,
    "torchdiffeq-compiled": torch_sides.torchdiffeq_compiled,
    "torchode": torch_sides.torchode,
    "diffrax": jax_sides.diffrax,
    "scan": jax_sides.scan,
}
# Relative differences from ours that float32 explains: sums in another order, over all steps.
END, GRADIENT = 1e-5, 1e-4
# The continuous adjoint's gradient is of first order in the step. Further away it would be of another problem.
CONTINUOUS = 0.5
TRIES = 3


def measure(row: Row, peers: Sequence[str], repeats: int, *, gradient: bool, tick: Callable[[], None]) -> Fixed:
    """Time one row, ours and the peers' by turns.

    Raises:
        DisagreementError: a peer computes something else.
    """
    given = draw(row)
    mine = torch_sides.ours(given)
    truth = mine.forward(), mine.both()
    assert not truth[0].isnan().any()
    sides, differences = [mine], [0.0]
    compiled: list[float | None] = [None]
    for peer in peers:
        if peer == "torchdiffeq-adjoint" and not gradient:
            # Forward it is torchdiffeq itself.
            continue
        candidates = PEERS[peer](given)
        groups = (
            [[c for c in candidates if c.collapsed is kind] for kind in (True, False)] if row.apart else [candidates]
        )
        for group in groups:
            side, seconds = _fastest(group, truth, gradient=gradient)
            sides.append(side)
            compiled.append(seconds)
            differences.append(_compare(side, truth, gradient=gradient))
    times = interleaved([_run(side, gradient=gradient) for side in sides], repeats, tick=tick)
    timed = tuple(
        Timed(side.name, side.way, time, difference, side.inexact and gradient, seconds)
        for side, time, difference, seconds in zip(sides, times, differences, compiled, strict=True)
    )
    return Fixed(row.name, gradient, flops(row, gradient=gradient), timed)


def _fastest(group: list[Side], truth: tuple[Any, Any], *, gradient: bool) -> tuple[Side, float | None]:
    """Of one peer's ways the faster, all compared with ours, and the seconds it compiled."""
    tried = []
    for side in group:
        run = _run(side, gradient=gradient)
        first = once(run)
        _compare(side, truth, gradient=gradient)
        best = min(once(run) for _ in range(TRIES))
        tried.append((best, first - best))
    place = min(range(len(group)), key=lambda k: tried[k][0])
    return group[place], tried[place][1] if group[place].jitted else None


def _compare(side: Side, truth: tuple[Any, Any], *, gradient: bool) -> float:
    end = agree(side.name, "end state", side.forward(), truth[0], END)
    if not gradient:
        return end
    return agree(side.name, "control gradient", side.both(), truth[1], CONTINUOUS if side.inexact else GRADIENT)


def _run(side: Side, *, gradient: bool) -> Callable[[], Any]:
    return side.both if gradient else side.forward
