"""The published files in folders on disk: what is there, what is missing, what is damaged."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cde_nets.data.files import PublishedFile, read_verified


@dataclass
class Contents:
    """What some folders hold of the published files.

    Attributes:
        files: verified unpacked bytes by file name.
        missing: a sentence for each file that is not there.
        damaged: a sentence for each file that is there and cannot be used, with what was found and expected.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def read_folders(folders: Sequence[Path], wanted: Sequence[PublishedFile]) -> Contents:
    """Reads published files, each from the first folder that has it, plain or as ``.gz``.

    The first file found by a name is the one that counts, also when it is damaged and another copy lies further on:
    a reader who looks where the error points should find the damage there.

    Args:
        folders: where to look, in this order; they need not exist.
        wanted: the files to look for.

    Returns:
        The verified files, and a sentence for every other one.
    """
    contents = Contents()
    for file in wanted:
        try:
            raw = _read_first(folders, file)
        except (ValueError, OSError) as error:
            contents.damaged.append(str(error))
            continue
        if raw is None:
            places = " or ".join(str(folder) for folder in folders)
            contents.missing.append(f"{file.name}: found neither it nor {file.name}.gz in {places}, expected one")
        else:
            contents.files[file.name] = raw
    return contents


def _read_first(folders: Sequence[Path], file: PublishedFile) -> bytes | None:
    for folder in folders:
        for path in (folder / file.name, folder / f"{file.name}.gz"):
            try:
                with path.open("rb") as stream:
                    return read_verified(stream, file, str(path))
            except (FileNotFoundError, NotADirectoryError):
                continue
    return None
