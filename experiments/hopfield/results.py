"""What is kept: a line for each trial, beside the settings that it was made with."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from cde_nets.atomic import write_atomically
from experiments.hopfield.methods import Cell
from experiments.hopfield.settings import Settings


class Results:
    """A folder with settings.json and trials.jsonl; a command that is given again goes on where it stood.

    Args:
        folder: is made where it is missing.
        settings: of the trials.
        images: that they learn, shape (10, inputs); the file holds a digest.

    Attributes:
        rows: a dict for each trial that is done.

    Raises:
        ValueError: the folder's trials were made with other settings or other images.
    """

    def __init__(self, folder: Path, settings: Settings, images: Tensor) -> None:
        self.folder = folder
        self._trials = folder / "trials.jsonl"
        digest = hashlib.sha256(images.cpu().numpy().astype(np.uint8).tobytes()).hexdigest()[:16]
        wanted = {**asdict(settings), "images": digest}
        held = folder / "settings.json"
        if held.exists():
            found = json.loads(held.read_text())
            others = [f"{k} {found.get(k)!r} there, {wanted[k]!r} wanted" for k in wanted if found.get(k) != wanted[k]]
            if others:
                raise ValueError(
                    f"{folder} holds trials of another experiment ({'; '.join(others)}): choose another --out."
                )
        else:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(held, (json.dumps(wanted, indent=1) + "\n").encode())
        lines = self._trials.read_text().splitlines() if self._trials.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

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

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Keep trials; the file is whole at any moment."""
        self.rows += rows
        write_atomically(self._trials, "".join(json.dumps(row) + "\n" for row in self.rows).encode())
