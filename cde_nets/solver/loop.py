"""The one loop: flows, rest points and linear problems are solved by it, and so are their adjoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from cde_nets.solver.method import Iterate, Scheme
from cde_nets.solver.opaque import listed, refuse_batched, surely_finite, surely_none
from cde_nets.solver.states import chosen, finite_rows
from cde_nets.solver.status import Status
from cde_nets.solver.tolerance import Tolerance

DEFAULT_MAX_STEPS = 4096


@runtime_checkable
class Observer(Protocol):
    """Something that watches the steps: a recorder of states, a trace, a progress meter."""

    def observe(self, before: Iterate, after: Iterate, signals: Sequence[int]) -> None:
        """One step; signals are the numbers that `Scheme.signals` asked for after it."""


@dataclass(frozen=True)
class Limits:
    """When the loop gives up.

    Attributes:
        tolerance: passed to the method.
        max_steps: of methods that do not know their number of steps; every try counts.
        progress: called with the fraction of the work that is done.
    """

    tolerance: Tolerance = Tolerance()  # noqa: RUF009 - frozen
    max_steps: int = DEFAULT_MAX_STEPS
    progress: Callable[[float], None] | None = None


def run(problem: Any, scheme: Scheme, limits: Limits, observers: Sequence[Observer] = ()) -> Iterate:
    """Iterate until every row has ended.

    Where the method knows its number of steps nothing is read from the device; else one small tensor a step.
    """
    state = scheme.init(problem, limits.tolerance)
    planned = scheme.planned(problem)
    if planned is None:
        state = _open_ended(problem, scheme, limits, observers, _end(state, scheme.terminate(problem, state)))
        return _end(state, Status.MAX_STEPS)
    watched = bool(observers) or limits.progress is not None
    n = 0
    while n < planned:
        if not watched:
            state, taken = scheme.ahead(problem, state, planned - n)
            n += taken
            if n == planned:
                break
        before = state
        state = _settle(before, scheme.step(problem, before))
        n += 1
        _tell(observers, before, state, ())
        if limits.progress is not None:
            limits.progress(n / planned)
    # Rows that stopped on the way without a word, or were not finite to begin with.
    lost = ~state.running & (state.status == int(Status.RUNNING))
    state = replace(state, status=state.status.masked_fill(lost, int(Status.DIVERGED)))
    return _end(_end(state, scheme.terminate(problem, state)), Status.DONE)


def _open_ended(problem: Any, scheme: Scheme, limits: Limits, observers: Sequence[Observer], state: Iterate) -> Iterate:
    signals = _read(scheme, state)
    for n in range(limits.max_steps):
        if not signals[0]:
            break
        before = state
        state = _settle(before, scheme.step(problem, before))
        # The very same tensor: the scheme has told that no row was lost.
        lost = None if state.running is before.running else before.running ^ state.running
        if lost is not None and state.status is not before.status:
            # The scheme has ended rows with this very step, as events do.
            lost = lost & (state.status == int(Status.RUNNING))
        state = _end(state, scheme.terminate(problem, state), lost)
        # The only place where the host waits for the device.
        signals = _read(scheme, state)
        _tell(observers, before, state, signals[1:])
        if limits.progress is not None:
            done = scheme.fraction(state)
            limits.progress((n + 1) / limits.max_steps if done is None else done)
    return state


def _read(scheme: Scheme, state: Iterate) -> list[int]:
    refuse_batched(
        state.running,
        "A method that decides from the numbers when to stop looks at them",
        "take one of a fixed number of steps, such as RungeKutta(name, steps=..) or Picard(steps=..) with Unrolled(), "
        "or pass what is batched as rows",
    )
    running, signals = state.running.sum(), scheme.signals(state)
    return listed(torch.stack([running, *signals])) if signals else [int(running)]


def _settle(before: Iterate, after: Iterate) -> Iterate:
    """The step's outcome, with rows that ended or left the finite numbers put back to what they were."""
    going, value = after.settled, after.value
    if going is None:
        going = before.running if surely_finite(value) else before.running & finite_rows(value)
    moved = going if after.moved is None else going & after.moved
    if after.settled is None:
        value = chosen(moved, value, before.value)
    residual = after.residual
    if residual is not None and before.residual is not None:
        residual = torch.where(before.running, residual, before.residual)
    return after.but(
        value=value,
        # A scheme may have ended rows with this very step, as events do.
        running=going if after.running is before.running else going & after.running,
        accepted=before.accepted + moved,
        rejected=before.rejected if after.moved is None else before.rejected + (going ^ moved),
        residual=residual,
        moved=moved,
        settled=None,
    )


def _end(state: Iterate, code: Tensor | Status, lost: Tensor | None = None) -> Iterate:
    """Rows that run get the code, and no longer run where it says so; rows that were lost have diverged."""
    if isinstance(code, Tensor):
        # RUNNING is 0.
        if lost is None and surely_none(code):
            return state
        status = torch.where(state.running, code, state.status)
    else:
        status = state.status.masked_fill(state.running, int(code))
    if lost is not None:
        status = status.masked_fill(lost, int(Status.DIVERGED))
    return state.but(status=status, running=status == int(Status.RUNNING))


def _tell(observers: Sequence[Observer], before: Iterate, after: Iterate, signals: Sequence[int]) -> None:
    for observer in observers:
        observer.observe(before, after, signals)
