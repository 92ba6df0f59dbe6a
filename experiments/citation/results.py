"""Finished runs as JSON lines: one for each row and seed, all of the same settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from cde_nets.atomic import write_atomically
from experiments.citation.training import Settings


class Results:
    """What is done.

    Args:
        path: the file, which need not exist.
        settings: of the runs to come.

    Raises:
        ValueError: a line that is no result, or one of other settings: the message says which differ.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        wanted = settings.plain()
        for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
            try:
                row = json.loads(line)
                found = row["settings"]
                self.rows.append(row)
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}, line {number}: found no result of a run ({error!r}); move it away"
                ) from error
            differing = [name for name in sorted({*wanted, *found}) if wanted.get(name) != found.get(name)]
            if differing:
                words = "; ".join(f"{name} {found.get(name)} there, {wanted.get(name)} now" for name in differing)
                raise ValueError(f"{path} holds runs of other settings: {words}. Choose another --out.")

    def has(self, row: str, seed: int) -> bool:
        """Whether a run is done."""
        return any(done["row"] == row and done["seed"] == seed for done in self.rows)

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Finished runs, at once on disk."""
        self.rows += rows
        text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in self.rows)
        write_atomically(self.path, text.encode())

    def of(self, row: str) -> list[dict[str, Any]]:
        """The runs of a row, by seed."""
        return sorted((done for done in self.rows if done["row"] == row), key=lambda done: int(done["seed"]))


def percent(values: list[float]) -> tuple[float, float]:
    """Mean and spread (of a sample; 0 of one value) in percent."""
    numbers = 100 * np.array(values)
    return float(numbers.mean()), float(numbers.std(ddof=1)) if len(numbers) > 1 else 0.0
