"""A finished run read whole, and refused where a part is missing, cut short or of another run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cde_nets.nn.network import Network
from cde_nets.texts import read_object
from cde_nets.train.checkpoint import load_network
from cde_nets.train.run import COPY, Run

_NUMBER = (int, float)
# What pictures and pages read of a line of metrics.jsonl and of result.json, and of which kind it is.
_ROW: dict[str, tuple[type, ...]] = {
    "epoch": (int,),
    "loss": _NUMBER,
    "train_accuracy": _NUMBER,
    "validation_accuracy": _NUMBER,
}
_RESULT: dict[str, tuple[type, ...]] = {
    "trained_parameters": (int,),
    "frozen_parameters": (int,),
    "validation_accuracy": _NUMBER,
    "test_accuracy": _NUMBER,
    "chosen_epoch": (int,),
    "epochs": (int,),
    "seconds": _NUMBER,
    "seed": (int,),
    "data": (str,),
    "data_complete": (bool,),
    "training_images": (int,),
    "validation_images": (int,),
    "test_images": (int,),
    "device": (str,),
    "threads": (int,),
    "confusion": (list,),
}


@dataclass(frozen=True)
class FinishedRun:
    """What the folder of a finished run says.

    Attributes:
        run: the folder.
        config: config.json.
        result: result.json.
        metrics: the lines of metrics.jsonl, one an epoch.
        network: what was trained, on the CPU.
    """

    run: Run
    config: dict[str, Any]
    result: dict[str, Any]
    metrics: list[dict[str, Any]]
    network: Network

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.run.folder.absolute().resolve().name


def read_run(folder: Path) -> FinishedRun:
    """Read a run's folder.

    Raises:
        ValueError: no folder, no run in it, one that is not finished, or a file that is damaged or of another run.
    """
    if not folder.exists():
        raise ValueError(f"{folder}: no such folder. RUN is the folder that --out of cde-nets train named.")
    run = Run(folder)
    network_config, _, _ = run.read_config()
    config = read_object(run.config)
    result = run.read_result()
    _check(result, _RESULT, str(run.result))
    _check_confusion(result["confusion"], network_config.classes, run.result)
    metrics = run.read_metrics(result["epochs"])
    for number, row in enumerate(metrics, start=1):
        _check(row, _ROW, f"line {number} of {run.metrics}")
    network, about = load_network(run.network)
    if about["config"] != network_config.to_dict():
        raise ValueError(
            f"{run.network} holds a network of another configuration than {run.config}: the files are of two runs."
        )
    network.set_throw(False)
    return FinishedRun(run, config, result, metrics, network)


def _check(values: Any, kinds: dict[str, tuple[type, ...]], what: str) -> None:
    if not isinstance(values, dict):
        raise ValueError(f"{what} is damaged: expected an object, found {type(values).__name__}. {COPY}")
    for name, kind in kinds.items():
        value = values.get(name)
        # True is an int to Python, and no number of anything.
        if not isinstance(value, kind) or (isinstance(value, bool) and bool not in kind) or _no_number(value):
            expected = " or ".join(one.__name__ for one in kind)
            raise ValueError(f"{what} is damaged: {name} is {value!r}, expected {expected}. {COPY}")


def _no_number(value: Any) -> bool:
    """NaN and the infinities, which Python reads from JSON and no chart can show."""
    return isinstance(value, float) and not math.isfinite(value)


def _check_confusion(matrix: list[Any], classes: int, path: Path) -> None:
    square = len(matrix) == classes and all(isinstance(row, list) and len(row) == classes for row in matrix)
    if not square or not all(type(count) is int and count >= 0 for row in matrix for count in row):
        raise ValueError(f"{path} is damaged: confusion is no table of {classes} x {classes} counts. {COPY}")
