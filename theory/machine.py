"""What the machine has, and what is refused because it has no more."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

# Where Linux says what a container may take, in its second and its first version.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def machine_memory() -> float:
    """Bytes of memory of this machine, or of what a container may take of it, in use or not.

    Infinite where the system does not tell.
    """
    found = math.inf
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" in names and "SC_PAGE_SIZE" in names:
        found = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in _LIMITS:
        # "max" where there is none, no file on other systems.
        with suppress(OSError, ValueError):
            found = min(found, float(int(path.read_text())))
    return found


def holdable(what: str, needed: int, instead: str) -> None:
    """Refuse what this machine's memory does not hold, before any of it is asked for.

    Args:
        what: is made, in words.
        needed: bytes while it is made.
        instead: what to take.

    Raises:
        ValueError: more bytes than there are.
    """
    there = machine_memory()
    if needed > there:
        # An integer may be one that no line holds.
        gigabytes = needed // 10**9 if needed < 10**33 else "more than 10^24"
        raise ValueError(
            f"{what} takes {gigabytes} GB while it is made; this machine has {there / 1e9:.0f}: take {instead}."
        )
