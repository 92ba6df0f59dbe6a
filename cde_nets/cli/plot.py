"""`cde-nets plot`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cde_nets.cli.console import Json, emit, notify, reported
from cde_nets.cli.train import DataDir, Offline, load

if TYPE_CHECKING:
    from cde_nets.data import MNIST
    from cde_nets.train import Run


# Of each line of metrics.jsonl.
_DRAWN = {"epoch", "loss", "train_accuracy", "validation_accuracy"}


def plot(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished training run.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the pictures.", show_default="RUN")] = None,
    data_dir: DataDir = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Draw the pictures of a finished training run again: controls, curves, confusion, the flow of ten test images.

    Examples:
      cde-nets plot runs/mnist-0-20260101-120000
      cde-nets plot runs/mnist-0-20260101-120000 --out pictures --json
    """
    with reported():
        from cde_nets.train import Run, load_network

        run, place = Run(folder), folder if out is None else out
        result = _check_finished(run)
        _check_writable(place)
        network, _ = load_network(run.network)
        data = load(data_dir, offline)
        _warn_of_seen_images(result, data)
        # Imported here: matplotlib takes its time, and bad input is to be refused at once.
        from cde_nets.plot import run_pictures

        place.mkdir(parents=True, exist_ok=True)
        drawn = [str(picture) for picture in run_pictures(run, network, data.test, place)]
    emit(
        as_json,
        {"run": str(folder), "pictures": drawn},
        lambda console: console.print("\n".join(drawn), markup=False, highlight=False, soft_wrap=True),
    )


def _check_finished(run: Run) -> dict[str, Any]:
    """The result of a run with everything that pictures are drawn of.

    Raises:
        ValueError: no run, not finished, or with damaged files.
    """
    if not run.folder.is_dir():
        raise ValueError(f"{run.folder} is no folder, expected the one that cde-nets train named by --out.")
    if not run.config.is_file():
        raise ValueError(f"{run.folder} is not a run: it has no config.json. Name a folder of cde-nets train.")
    if not run.result.is_file():
        raise ValueError(
            f"{run.folder} is not finished: it has no result.json. Go on with: "
            f"cde-nets train mnist --resume {run.folder}"
        )
    result = run.read_result()
    missing = [name for name in ("epochs", "chosen_epoch", "confusion") if name not in result]
    if missing:
        raise ValueError(f"{run.result} is damaged: there is no {', '.join(missing)} in it.")
    _check_metrics(run, result["epochs"])
    return result


def _check_metrics(run: Run, epochs: int) -> None:
    # Reading leaves out what was cut short, and curves without an end would not say so.
    try:
        whole = sum(isinstance(row, dict) and row.keys() >= _DRAWN for row in run.read_metrics())
    except UnicodeDecodeError:
        whole = 0
    if whole != epochs:
        raise ValueError(
            f"{run.metrics} is damaged or cut short: whole lines {whole}, expected {epochs}, one an epoch. Put the "
            "file back, or train again."
        )


def _check_writable(place: Path) -> None:
    """Before work starts."""
    there = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"pictures cannot be written to {place}: {there} is no writable folder. Name one by --out.")


def _warn_of_seen_images(result: dict[str, Any], data: MNIST) -> None:
    if result.get("data_complete") and not data.complete:
        notify(
            f"The run was trained on all of MNIST, and only {data.source} is at hand: the images in flow.png may be "
            "among those it was trained on. Name a folder with the four files by --data-dir."
        )
