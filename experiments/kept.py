"""What experiments keep of runs that are done: a JSON line each, so that a command goes on where it stood."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


class Kept:
    """Finished runs, all of the same settings, which every line holds.

    Args:
        path: the file, which need not exist.
        settings: of the runs to come, as JSON knows them.

    Attributes:
        rows: a dict for each run, in the order in which they were done.

    Raises:
        ValueError: a line that is no run, or one of other settings: the message says which differ.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, settings
        self.rows = read_lines(path, ["settings"])
        for number, row in enumerate(self.rows, 1):
            self._check(row["settings"], number)

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Keep runs; the file is whole at any moment."""
        self.rows += [{**row, "settings": self.settings} for row in rows]
        text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in self.rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, text.encode())

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
