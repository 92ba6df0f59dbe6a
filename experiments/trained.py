"""Training runs as experiments have them: begun, gone on with or read back, whichever the folder asks for."""

from __future__ import annotations

from typing import Any

import typer

from cde_nets.cli.console import errors, notify
from cde_nets.data import MNIST
from cde_nets.nn import TrainableConfig
from cde_nets.train import InterruptedTraining, ProgressBar, Run, TrainConfig, Trainer


def result_of(run: Run, network: TrainableConfig, training: TrainConfig, data: MNIST) -> dict[str, Any]:
    """The result of a run: read back if it is finished, gone on with if it was begun, else trained.

    Raises:
        ValueError: the folder holds a run of another configuration.
        typer.Exit: the run was stopped.
    """
    run.check_is_of(network, training)
    if run.result.exists():
        return _without_confusion(run.read_result())
    trainer = Trainer(run, network, training, data)
    # The first file of a run: one that was killed before its second is gone on with, too.
    if run.config.exists():
        trainer.resume()
    else:
        trainer.start()
    try:
        with ProgressBar(training.epochs, errors()) as bar:
            return _without_confusion(trainer.fit(bar))
    except InterruptedTraining:
        notify("Stopped; give the same command to go on.")
        raise typer.Exit(1) from None


def _without_confusion(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name != "confusion"}
