"""Where commands write: refused before work starts, not when it is done."""

from __future__ import annotations

import os
from pathlib import Path


def check_folder(option: str, folder: Path) -> None:
    """Refuse a folder in which nothing can be written, or that cannot be made.

    Args:
        option: what names another one, for the message.
        folder: it need not be there.

    Raises:
        ValueError: it, or what is above it, is a file or not writable.
    """
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise ValueError(f"{folder} cannot be written: {there} is no writable folder. Name another by {option}.")


def check_file(option: str, file: Path) -> None:
    """Refuse a file that cannot be written.

    Raises:
        ValueError: it is a folder, or the folder it is in is not there or not writable.
    """
    above = file.absolute().parent
    if file.is_dir():
        raise ValueError(f"{option} {file} is a folder, expected the name of a file.")
    if not above.is_dir():
        raise ValueError(f"{option} {file}: there is no folder {above} to write to.")
    check_folder(option, above)
