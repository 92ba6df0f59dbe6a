"""A training run's folder: what is in it, and how it is read back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cde_nets.atomic import write_atomically


@dataclass(frozen=True)
class Run:
    """The files of one run.

    - config.json: both configurations, the data and the versions; written first.
    - metrics.jsonl: a line for each epoch.
    - state.safetensors: where training stands; what --resume reads.
    - network.safetensors: the network chosen on the validation images.
    - result.json: the closing table; written last, so that a run that has it is complete.
    """

    folder: Path

    @property
    def config(self) -> Path:
        """Path of config.json."""
        return self.folder / "config.json"

    @property
    def metrics(self) -> Path:
        """Path of metrics.jsonl."""
        return self.folder / "metrics.jsonl"

    @property
    def state(self) -> Path:
        """Path of state.safetensors."""
        return self.folder / "state.safetensors"

    @property
    def network(self) -> Path:
        """Path of network.safetensors."""
        return self.folder / "network.safetensors"

    @property
    def result(self) -> Path:
        """Path of result.json."""
        return self.folder / "result.json"

    def create(self) -> None:
        """Make the folder.

        Raises:
            ValueError: it exists and is not empty, or cannot be made.
        """
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise ValueError(
                f"{self.folder} is there already and not empty: choose another folder with --out, or go on with the "
                f"run in it by --resume {self.folder}."
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"{self.folder} cannot be made ({error.strerror}): choose another folder with --out."
            ) from error

    def write_json(self, path: Path, values: dict[str, Any]) -> None:
        """One JSON file, atomically."""
        write_atomically(path, (json.dumps(values, indent=2) + "\n").encode())

    def read_config(self) -> dict[str, Any]:
        """What config.json says.

        Raises:
            ValueError: the folder holds no run, or its configuration is damaged.
        """
        if not self.config.is_file():
            raise ValueError(f"{self.folder} is not a run: it has no config.json.")
        try:
            values = json.loads(self.config.read_text())
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.config} is damaged ({error}).") from error
        if not isinstance(values, dict):
            raise ValueError(f"{self.config} is damaged: expected an object, found {type(values).__name__}.")
        return values

    def read_metrics(self, epochs: int | None = None) -> list[dict[str, Any]]:
        """The metrics of the first `epochs` epochs, or of all; a last line that was cut short is left out."""
        if not self.metrics.is_file():
            return []
        rows = []
        for line in self.metrics.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return rows if epochs is None else rows[:epochs]

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        """All of metrics.jsonl, atomically: a few hundred lines at most."""
        write_atomically(self.metrics, "".join(json.dumps(row) + "\n" for row in rows).encode())
