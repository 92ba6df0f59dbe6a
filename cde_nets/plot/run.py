"""Every picture of a training run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cde_nets.data import Dataset
from cde_nets.nn.network import Network
from cde_nets.plot.controls import controls
from cde_nets.plot.images import image_flow
from cde_nets.plot.style import save
from cde_nets.plot.training import confusion, curves
from cde_nets.train.batches import as_intensity
from cde_nets.train.run import Run


def run_pictures(run: Run, network: Network, test: Dataset, folder: Path | None = None) -> list[Path]:
    """Draw a finished run: controls, curves, confusion matrix, the flow of one image of each class.

    Args:
        run: with its metrics and result.
        network: what was trained, on the CPU.
        test: the images it was evaluated on.
        folder: that the pictures go to; the run's where None.

    Returns:
        The pictures' paths.

    Raises:
        ValueError: the run is not finished.
        OSError: a picture cannot be written.
    """
    result = run.read_result()
    # argmax finds the first image of each class; a class that is missing from a small set is left out.
    first = [int((test.labels == label).argmax()) for label in range(10) if (test.labels == label).any()]
    images, labels = torch.from_numpy(test.images[first]), torch.from_numpy(test.labels[first]).long()
    drawn: dict[str, Axes | Figure] = {
        "controls.png": controls(network.flows()),
        "curves.png": curves(run.read_metrics(result["epochs"]), result["chosen_epoch"]),
        "confusion.png": confusion(np.array(result["confusion"], dtype=np.int64)),
        "flow.png": image_flow(network, as_intensity(images), labels),
    }
    folder = run.folder if folder is None else folder
    for name, picture in drawn.items():
        save(picture, folder / name)
    return [folder / name for name in drawn]
