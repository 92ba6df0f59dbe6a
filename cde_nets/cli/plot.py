"""`cde-nets plot`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cde_nets.cli.console import Json, emit, notify, reported
from cde_nets.cli.places import check_folder
from cde_nets.cli.train import DataDir, Offline, load

if TYPE_CHECKING:
    from cde_nets.data import MNIST


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
        from cde_nets.train.finished import read_run

        done, place = read_run(folder), folder if out is None else out
        check_folder("--out", place)
        data = load(data_dir, offline)
        _warn_of_seen_images(done.result, data)
        # Imported here: matplotlib takes its time, and bad input is to be refused at once.
        from cde_nets.plot import run_pictures

        place.mkdir(parents=True, exist_ok=True)
        drawn = [str(picture) for picture in run_pictures(done.run, done.network, data.test, place)]
    emit(
        as_json,
        {"run": str(folder), "pictures": drawn},
        lambda console: console.print("\n".join(drawn), markup=False, highlight=False, soft_wrap=True),
    )


def _warn_of_seen_images(result: dict[str, Any], data: MNIST) -> None:
    if result["data_complete"] and not data.complete:
        notify(
            f"The run was trained on all of MNIST, and only {data.source} is at hand: the images in flow.png may be "
            "among those it was trained on. Name a folder with the four files by --data-dir."
        )
