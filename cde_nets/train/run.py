"""A training run's folder: what is in it, and how it is read back."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cde_nets.atomic import write_atomically
from cde_nets.nn.image import ImageNetworkConfig
from cde_nets.nn.trainable import TrainableConfig
from cde_nets.texts import read_object
from cde_nets.train.config import TrainConfig

# The way out of a damaged file.
COPY = "Put a whole copy in its place, or train again."


@dataclass(frozen=True)
class Run:
    """The files of one run.

    - config.json: both configurations, the data and the versions; written first.
    - metrics.jsonl: a line for each epoch.
    - state.safetensors: where training stands; what --resume reads.
    - network.safetensors: the network chosen on the validation images.
    - tensorboard: a folder, where a log for TensorBoard was asked for.
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
    def tensorboard(self) -> Path:
        """Path of the log's folder."""
        return self.folder / "tensorboard"

    @property
    def result(self) -> Path:
        """Path of result.json."""
        return self.folder / "result.json"

    def check_unused(self) -> None:
        """Refuse a folder with something in it.

        Raises:
            ValueError: it is there and not empty, or is no folder.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is no folder: choose another with --out.")
        there = next(place for place in (self.folder.absolute(), *self.folder.absolute().parents) if place.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise ValueError(f"{self.folder} cannot be made, {there} is no writable folder: choose another with --out.")
        # A temporary file of a writer that was killed is nobody's work.
        if self.folder.exists() and not all(path.name.endswith(".part") for path in self.folder.iterdir()):
            raise ValueError(
                f"{self.folder} is there already and not empty: choose another folder with --out, or go on with the "
                f"run in it by --resume {self.folder}."
            )

    def create(self) -> None:
        """Make the folder.

        Raises:
            ValueError: it is there and not empty, or cannot be made.
        """
        self.check_unused()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"{self.folder} cannot be made ({error}): choose another folder with --out.") from error

    def check_writable(self) -> None:
        """Refuse a folder that a run cannot go on in.

        Raises:
            ValueError: it cannot be written.
        """
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise ValueError(f"{self.folder} cannot be written: make it writable, or go on with a copy of it.")

    def write_json(self, path: Path, values: dict[str, Any]) -> None:
        """One JSON file, atomically."""
        write_atomically(path, (json.dumps(values, indent=2) + "\n").encode())

    def read_config(self) -> tuple[ImageNetworkConfig, TrainConfig, int]:
        """The network, the training and the CPU threads that config.json fixes.

        Raises:
            ValueError: the folder holds no run, or its configuration is damaged.
        """
        if self.folder.is_file():
            raise ValueError(f"{self.folder} is a file; a run is a folder. Did you mean {self.folder.parent}?")
        values = _read_object(self.config, f"{self.folder} is not a run: it has no config.json.")
        try:
            network, training = values["network"], values["training"]
            return ImageNetworkConfig.from_dict(network), TrainConfig.from_dict(training), _positive(values["threads"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{self.config} is damaged: {type(error).__name__} {error}. {COPY}") from error

    def check_is_of(self, network: TrainableConfig, training: TrainConfig) -> None:
        """Refuse a folder in which something else was trained; one without a run is as good as any.

        Raises:
            ValueError: the folder holds a run of another configuration, or a damaged one.
        """
        if not self.config.exists():
            return
        values = _read_object(self.config, "")
        there = type(network).from_dict(values.get("network", {})), TrainConfig.from_dict(values.get("training", {}))
        if there != (network, training):
            raise ValueError(f"{self.folder} holds a run of another configuration: choose another --out.")

    def read_result(self) -> dict[str, Any]:
        """What result.json says.

        Raises:
            ValueError: the run is not finished, or the file is damaged.
        """
        return _read_object(
            self.result,
            f"{self.folder} is not a finished run: it has no result.json. Go on with: "
            f"cde-nets train mnist --resume {self.folder}",
        )

    def read_metrics(self, epochs: int | None = None, *, ahead: bool = False) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, one for each epoch.

        Args:
            epochs: how many there must be. None takes what is there: a last line that was cut short, as a kill leaves
                it, is then left out with a warning.
            ahead: whether lines may follow those, which are not looked at.

        Raises:
            ValueError: a line is damaged, which is named, or there are more or fewer than `epochs`.
        """
        if epochs and not self.metrics.is_file():
            raise ValueError(
                f"{self.metrics} is missing, expected a file with a line for each of {epochs} epochs. {COPY}"
            )
        lines = self.metrics.read_bytes().split(b"\n") if self.metrics.is_file() else []
        if lines and not lines[-1]:
            lines.pop()
        rows = [_row(line) for line in (lines[:epochs] if ahead else lines)]
        if epochs is None and rows and rows[-1] is None:
            warnings.warn(f"{self.metrics}: the last line is cut short and left out.", stacklevel=2)
            rows.pop()
        whole = [row for row in rows if row is not None]
        if len(whole) < len(rows):
            raise ValueError(f"{self.metrics} is damaged: line {rows.index(None) + 1} is no JSON object. {COPY}")
        if epochs is not None and len(whole) != epochs:
            raise ValueError(f"{self.metrics} is damaged: lines {len(whole)}, expected {epochs}, one an epoch. {COPY}")
        return whole

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        """All of metrics.jsonl, atomically: a few hundred lines at most."""
        write_atomically(self.metrics, "".join(json.dumps(row) + "\n" for row in rows).encode())


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # of JSON, or of bytes that are no text; nested too deeply
        return None
    return row if isinstance(row, dict) else None


def _positive(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise TypeError(f"threads must be an integer of at least 1, found {value!r}")
    return value


def _read_object(path: Path, absent: str) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(absent)
    try:
        return read_object(path)
    except ValueError as error:
        raise ValueError(f"{error} {COPY}") from error
