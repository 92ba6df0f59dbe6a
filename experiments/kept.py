"""What experiments keep of runs that are done: a JSON line each, so that a command goes on where it stood.

Commands that are given several times at once share their folder: each takes the runs that no other is at.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cde_nets.atomic import write_atomically
from cde_nets.texts import read_objects


def read_lines(path: Path, needed: Sequence[str]) -> list[dict[str, Any]]:
    """The runs of a file, a JSON line each; none where there is no file.

    Args:
        path: of the file.
        needed: names that every line has.

    Raises:
        ValueError: a line that is no run: the message says which.
    """
    try:
        rows = read_objects(path) if path.is_file() else []
    except ValueError as error:
        raise ValueError(f"{error} Found no run; move the file away.") from error
    for number, row in enumerate(rows, 1):
        lacking = [name for name in needed if name not in row]
        if lacking:
            raise ValueError(f"{path}, line {number}: found no {lacking[0]}, so no run; move the file away.")
    return rows


# What tells a run apart, such as ("rbp", 3): the values of `Lines.names`.
Name = tuple[Any, ...]
# Seconds between two looks at whether another process is done.
POLL = 0.2


class Lines:
    """Finished runs, a JSON line each, to which several processes may add.

    A run that a process is at is locked by the operating system, which frees it whatever ends the process. Locks, and
    what is put aside of such runs, lie in the folder `unfinished` beside the file.

    Args:
        path: the file, which need not exist.
        names: the entries of a row that tell runs apart.

    Attributes:
        rows: a dict for each run, in the order in which they were done, as the file was when it was last looked at.

    Raises:
        ValueError: a line that is no run: the message says which.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path, self.names = path, names
        self.refresh()

    def refresh(self) -> None:
        """Look at the file again, for what other processes have done.

        Raises:
            ValueError: as the class does.
        """
        self.rows = read_lines(self.path, self.names)

    def name(self, row: dict[str, Any]) -> Name:
        """What tells a row's run apart."""
        return tuple(row[name] for name in self.names)

    def has(self, run: Name) -> bool:
        """Whether a run was done when the file was last looked at."""
        return any(self.name(row) == run for row in self.rows)

    def find(self, run: Name) -> dict[str, Any]:
        """The row of a run that is done."""
        return next(row for row in self.rows if self.name(row) == run)

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Keep runs; the file is whole at any moment, and what others have added meanwhile stays."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_name(f".{self.path.name}.lock")):
            self.refresh()
            self.rows += [row for row in rows if not self.has(self.name(row))]
            text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in self.rows)
            write_atomically(self.path, text.encode())

    def each(self, groups: Sequence[Sequence[Name]], notify: Callable[[str], None]) -> Iterator[list[Name]]:
        """Runs that are to be done, for a loop whose body adds their rows: at its end all are, by whichever process.

        First those that no other process is at, and then those that others have let go undone.

        Args:
            groups: of runs that are done together.
            notify: is told that others are waited for.

        Yields:
            What is to be done of a group: while the body is at it no other process is.
        """
        for group in groups:
            with self._claim(group, wait=False) as ours:
                if ours:
                    yield ours
        others = [run for group in groups for run in group if not self.has(run)]
        if others:
            notify(f"Waiting for other processes; runs that they are at: {len(others)}.")
        for run in others:
            with self._claim([run], wait=True) as ours:
                if ours:
                    yield ours
        self.refresh()

    @contextmanager
    def _claim(self, runs: Sequence[Name], *, wait: bool) -> Iterator[list[Name]]:
        """Those of some runs that are not done and that no other process is at; within it they are this one's alone."""
        with ExitStack() as held:
            free = []
            for run in runs:
                if self.has(run):
                    continue
                lock = FileLock(self._aside(run, "lock"))
                try:
                    held.enter_context(lock.acquire(timeout=-1 if wait else 0, poll_interval=POLL))
                except Timeout:
                    continue
                # Before the lock is let go.
                held.callback(Path(lock.lock_file).unlink, missing_ok=True)
                free.append(run)
            # Only now: what another process was at a moment ago may be done.
            self.refresh()
            yield [run for run in free if not self.has(run)]

    def checkpoint(self, runs: Sequence[Name]) -> Path:
        """Where what is not done of some runs, trained together, is put aside."""
        return self._aside(runs[0], "safetensors")

    def _aside(self, run: Name, kind: str) -> Path:
        folder = self.path.parent / "unfinished"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{'-'.join(map(str, run))}.{kind}"


class Kept(Lines):
    """Lines of runs that are all of the same settings, which every line holds.

    Args:
        path: the file, which need not exist.
        settings: of the runs to come, as JSON knows them.
        names: the entries of a row that tell runs apart.

    Raises:
        ValueError: as `Lines`, and where a line is of other settings: the message says which differ.
    """

    def __init__(self, path: Path, settings: dict[str, Any], names: Sequence[str]) -> None:
        self.settings = settings
        super().__init__(path, names)

    def refresh(self) -> None:
        """As `Lines`."""
        self.rows = read_lines(self.path, ["settings", *self.names])
        for number, row in enumerate(self.rows, 1):
            self._check(row["settings"], number)

    def add(self, rows: list[dict[str, Any]]) -> None:
        """As `Lines`; the settings are added."""
        super().add([{**row, "settings": self.settings} for row in rows])

    def _check(self, found: Any, number: int) -> None:
        if not isinstance(found, dict):
            raise ValueError(f"{self.path}, line {number}: found settings {found!r}, so no run; move the file away.")
        names = sorted({*self.settings, *found})
        # What is null is not what is missing.
        there, now = ({name: held.get(name, "nothing") for name in names} for held in (found, self.settings))
        differing = [name for name in names if there[name] != now[name]]
        if differing:
            words = "; ".join(f"{name} {there[name]!r} there, {now[name]!r} now" for name in differing)
            raise ValueError(f"{self.path} holds runs of other settings: {words}. Choose another --out.")
