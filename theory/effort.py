"""What every proof is told of its effort: primes to try, a seed, a limit of time, who watches."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from operator import index

# Told of what was reached and of what there is to reach.
Progress = Callable[[int, int], None]


def check_effort(primes: int, time_limit: float | None) -> None:
    """Refuse numbers of primes below one, and negative times."""
    if primes < 1:
        raise ValueError(f"primes is {primes}, expected at least 1")
    if time_limit is not None and not time_limit >= 0:
        raise ValueError(f"time_limit is {time_limit}, expected seconds from 0 up, or None")


def fresh_seed(seed: int | None) -> int:
    """A seed: the one given, or one drawn from the system's entropy."""
    return secrets.randbits(63) if seed is None else index(seed)


def deadline_after(limit: float | None) -> float:
    """The time, by `time.monotonic`, at which so many seconds are over."""
    return float("inf") if limit is None else time.monotonic() + limit
