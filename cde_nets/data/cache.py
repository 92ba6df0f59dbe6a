"""The user's cache of verified files: written whole or not at all."""

import contextlib
import time
from pathlib import Path

from cde_nets.atomic import write_atomically

# Writing takes seconds; a temporary file this old belongs to a process that was killed.
STALE_SECONDS = 3600.0


def cache_folder() -> Path:
    """The folder of cached MNIST files; it need not exist."""
    import pooch  # here, because importing it costs more than everything else in this room

    return Path(pooch.os_cache("cde-nets")) / "mnist"


def store(folder: Path, name: str, raw: bytes) -> None:
    """Writes one file so that a reader sees the old file or the new one, never a part.

    Each writer has a temporary file of its own, so two processes may store the same file at once. What a killed
    process left behind is never read, and is removed by a later `store`.

    Args:
        folder: the cache, made if it is not there.
        name: the file's name in it.
        raw: the file's bytes.

    Raises:
        OSError: the folder or the file cannot be written; nothing new is left there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove_stale(folder)
    write_atomically(folder / name, raw)


def _remove_stale(folder: Path) -> None:
    for part in folder.glob(".*.part"):
        # Another process may remove it first, or own it: neither is ours to fail on.
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > STALE_SECONDS:
                part.unlink()
