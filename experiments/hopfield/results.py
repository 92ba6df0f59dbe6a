"""What is kept: a line for each trial."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from experiments.hopfield.methods import Cell
from experiments.hopfield.settings import Settings
from experiments.kept import Kept


class Results(Kept):
    """A folder with trials.jsonl.

    Args:
        folder: need not exist.
        settings: of the trials.
        images: that they learn, shape (10, inputs); a line holds a digest.

    Raises:
        ValueError: as `Kept`.
    """

    def __init__(self, folder: Path, settings: Settings, images: Tensor) -> None:
        digest = hashlib.sha256(images.cpu().numpy().astype(np.uint8).tobytes()).hexdigest()[:16]
        super().__init__(folder / "trials.jsonl", {**asdict(settings), "images": digest}, ("row", "steps", "trial"))
        self.folder = folder

    def of(self, cell: Cell, trials: int | None = None) -> list[dict[str, Any]]:
        """The trials of a cell that are done, by number; only those below `trials` where it is given."""
        some = [row for row in self.rows if (row["row"], row["steps"]) == (cell.row, cell.steps)]
        return sorted(
            (row for row in some if trials is None or row["trial"] < trials), key=lambda row: int(row["trial"])
        )

    def missing(self, cell: Cell, trials: int) -> list[int]:
        """The numbers below `trials` that are not done."""
        done = {row["trial"] for row in self.of(cell)}
        return [trial for trial in range(trials) if trial not in done]
