"""Times of several functions taken by turns."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

# A sample shorter than this is made of several calls, so that the clock and the first call's caches do not count.
LEAST = 0.02


@dataclass(frozen=True)
class Spread:
    """Milliseconds of one call over the repeats.

    Attributes:
        median: the middle.
        lower: the first quartile.
        upper: the third.
    """

    median: float
    lower: float
    upper: float


def spread(seconds: Sequence[float]) -> Spread:
    """Median and quartiles of samples in seconds, as milliseconds."""
    milliseconds = [1e3 * second for second in seconds]
    if len(milliseconds) == 1:
        return Spread(milliseconds[0], milliseconds[0], milliseconds[0])
    lower, median, upper = statistics.quantiles(milliseconds, n=4, method="inclusive")
    return Spread(median, lower, upper)


def once(run: Callable[[], Any]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def interleaved(
    runs: Sequence[Callable[[], Any]], repeats: int, *, least: float = LEAST, tick: Callable[[], None] = lambda: None
) -> list[Spread]:
    """Time functions by turns, so that a slow minute of the machine falls on all of them.

    Before each sample the function is called once untimed: caches are its own again, and the threads of the library
    that ran before it have gone to sleep. The collector of garbage is off within a sample and runs between samples.

    Args:
        runs: each already called once or more.
        repeats: samples a function.
        least: seconds that a sample takes at least, by calls in a row.
        tick: called after each function's sample.

    Returns:
        For each function the time of one call.
    """
    calls = [max(1, math.ceil(least / min(once(run), once(run)))) for run in runs]
    taken: list[list[float]] = [[] for _ in runs]
    enabled = gc.isenabled()
    # What there is already is not looked through again: collecting takes a tenth of a second else.
    gc.freeze()
    try:
        for _ in range(repeats):
            for run, count, samples in zip(runs, calls, taken, strict=True):
                gc.collect()
                gc.disable()
                run()
                began = time.perf_counter()
                for _ in range(count):
                    run()
                samples.append((time.perf_counter() - began) / count)
                gc.enable()
                tick()
    finally:
        gc.unfreeze()
        (gc.enable if enabled else gc.disable)()
    return [spread(samples) for samples in taken]
