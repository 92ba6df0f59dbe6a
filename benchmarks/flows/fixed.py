"""Rows with fixed steps: agreement first, then times by turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.flows import jax_sides, network, torch_sides
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
    given, groups = draw(row), []
    for peer in peers:
        # Forward the adjoint is torchdiffeq itself.
        if peer in PEERS and (gradient or peer != "torchdiffeq-adjoint"):
            candidates = PEERS[peer](given)
            kinds = [[c for c in candidates if c.collapsed is kind] for kind in (True, False)]
            groups += kinds if row.apart else [candidates]
    operations = flops(row, gradient=gradient)
    return _beside(row.name, operations, torch_sides.ours(given), groups, repeats, gradient=gradient, tick=tick)


def measure_network(peers: Sequence[str], repeats: int, *, gradient: bool, tick: Callable[[], None]) -> Fixed:
    """The MNIST network's own step, beside the peers that write it out.

    Raises:
        DisagreementError: as `measure`.
    """
    task = network.draw()
    groups = [network.PEERS[peer](task) for peer in peers if peer in network.PEERS]
    operations = network.flops(task, gradient=gradient)
    return _beside(network.NAME, operations, network.ours(task), groups, repeats, gradient=gradient, tick=tick)


def _beside(
    name: str,
    operations: int,
    mine: Side,
    groups: Sequence[list[Side]],
    repeats: int,
    *,
    gradient: bool,
    tick: Callable[[], None],
) -> Fixed:
    """Ours, and of each group the fastest."""
    truth = mine.forward(), mine.both()
    assert not truth[0].isnan().any()
    sides, differences = [mine], [0.0]
    compiled: list[float | None] = [None]
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
    return Fixed(name, gradient, operations, timed)


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
    return agree(side.name, "gradient", side.both(), truth[1], CONTINUOUS if side.inexact else GRADIENT)


def _run(side: Side, *, gradient: bool) -> Callable[[], Any]:
    return side.both if gradient else side.forward
