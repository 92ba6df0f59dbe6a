"""`cde-nets evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cde_nets.cli.console import Json, emit, reported
from cde_nets.cli.inputs import network_named
from cde_nets.cli.train import DataDir, Device, Offline, Threads, load, machine

if TYPE_CHECKING:
    from rich.console import Console


def evaluate(
    file: Annotated[Path, typer.Argument(help="network.safetensors of a run, or a name such as mnist-750.")],
    data_dir: DataDir = None,
    offline: Offline = False,
    device: Device = "cpu",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Evaluate a trained network on the MNIST test images.

    Examples:
      cde-nets evaluate runs/mnist-0-20260101-120000/network.safetensors
      cde-nets evaluate mnist-750 --data-dir ~/mnist --json
    """
    with reported():
        import torch

        from cde_nets.train import evaluate as evaluate_network
        from cde_nets.train import load_network

        place = machine(device, threads)
        network, about = load_network(Path(network_named(str(file))))
        data = load(data_dir, offline)
        if about.get("result", {}).get("data_complete") and not data.complete:
            raise ValueError(
                f"{file} was trained on all of MNIST and only {data.source} is at hand, whose images may be among "
                "those it was trained on. Name a folder with the four files by --data-dir."
            )
        network.set_throw(False)
        images, labels = torch.from_numpy(data.test.images), torch.from_numpy(data.test.labels).long()
        done = evaluate_network(network.to(place), images.to(place), labels.to(place))
    result = {
        "test_accuracy": done.accuracy,
        "failed": done.failed,
        "test_images": len(labels),
        "trained_parameters": network.trained_numbers,
        "frozen_parameters": network.frozen_numbers,
        "seed": about["config"]["seed"],
        "data": data.source,
        "data_complete": data.complete,
        "confusion": done.confusion.tolist(),
    }

    def show(console: Console) -> None:
        console.print(network.describe(), markup=False, highlight=False, soft_wrap=True)
        wrong = round((1 - done.accuracy) * len(labels))
        console.print(
            f"test accuracy {done.accuracy:.2%} ({wrong} mistakes in {len(labels):,} images, data: {data.source})"
        )

    emit(as_json, result, show)
