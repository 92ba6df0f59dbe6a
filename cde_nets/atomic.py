"""Files that are whole or not there: written beside their place, forced to disk, then renamed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Put content at path, so that a reader or a kill at any moment sees the old file or the new one.

    Raises:
        OSError: the folder cannot be written or the disk is full; what was at path is untouched, and no half remains.
    """
    try:
        _write(path, content)
    except OSError as error:
        # A full disk is reported without a name; whoever reads the message needs one.
        raise OSError(error.errno, error.strerror, str(path)) from error


def _write(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            # mkstemp makes private files; this one is to be like any other of the user's.
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            # Before the rename: else a power cut may leave the final name on an empty file.
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
