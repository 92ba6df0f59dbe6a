"""Finished runs of rows and seeds, and what is said of several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.citation.training import Settings
from experiments.kept import Kept


class Results(Kept):
    """A line for each row and seed.

    Args:
        path: the file, which need not exist.
        settings: of the runs to come.

    Raises:
        ValueError: as `Kept`.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        super().__init__(path, settings.plain(), ("row", "seed"))

    def of(self, row: str) -> list[dict[str, Any]]:
        """The runs of a row, by seed."""
        return sorted((done for done in self.rows if done["row"] == row), key=lambda done: int(done["seed"]))


def percent(values: list[float]) -> tuple[float, float]:
    """Mean and spread (of a sample; 0 of one value) in percent."""
    numbers = 100 * np.array(values)
    return float(numbers.mean()), float(numbers.std(ddof=1)) if len(numbers) > 1 else 0.0
