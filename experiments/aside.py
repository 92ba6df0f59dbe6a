"""A long run put aside while it goes on, and taken up again."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from experiments.states import read_state, whole, write_state


class Aside:
    """Where a run is kept until it is done.

    Args:
        path: of its file, which need not exist.
        of: what the run is, as JSON reads it back; a file of any other is left unread, and written over.
        every: seconds between two writings: what may be lost.
    """

    def __init__(self, path: Path, of: Any, every: float) -> None:
        self.path, self.of, self.every = path, of, every
        self._written = time.monotonic()

    def taken_up(self, device: torch.device, restore: Callable[[dict[str, Any]], None]) -> bool:
        """Whether there was a state of this run, and it was restored.

        Args:
            device: where the state's tensors go.
            restore: is given the state.

        Raises:
            ValueError: a damaged file, or a state that cannot be restored.
        """
        if not self.path.exists():
            return False
        found = read_state(self.path, device, ("of",))
        if found.pop("of") != self.of:
            return False
        with whole(self.path):
            restore(found)
        return True

    def offer(self, state: Callable[[], dict[str, Any]]) -> None:
        """Write the state where the last writing is long ago.

        To be called between two epochs: an interruption within one must not leave half of it.
        """
        if time.monotonic() - self._written > self.every:
            write_state(self.path, {"of": self.of, **state()})
            self._written = time.monotonic()
