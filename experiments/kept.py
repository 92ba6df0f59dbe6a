"""What experiments keep of runs that are done: a JSON line each, so that a command goes on where it stood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cde_nets.atomic import write_atomically


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
        self.rows: list[dict[str, Any]] = []
        for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
            self.rows.append(self._checked(line, number))

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Keep runs; the file is whole at any moment."""
        self.rows += [{**row, "settings": self.settings} for row in rows]
        text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in self.rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, text.encode())

    def _checked(self, line: str, number: int) -> dict[str, Any]:
        try:
            row: dict[str, Any] = json.loads(line)
            found = dict(row["settings"])
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.path}, line {number}: found no run ({error!r}); move the file away.") from error
        names = sorted({*self.settings, *found})
        differing = [name for name in names if self.settings.get(name) != found.get(name)]
        if differing:
            words = "; ".join(
                f"{name} {found.get(name)!r} there, {self.settings.get(name)!r} now" for name in differing
            )
            raise ValueError(f"{self.path} holds runs of other settings: {words}. Choose another --out.")
        return row
