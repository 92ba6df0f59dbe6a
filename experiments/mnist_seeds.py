"""MNIST with 745 trained numbers, from several seeds: mean and spread of the test accuracy.

    python -m experiments.mnist_seeds --seeds 3

Fields, controls, order and moves of the images are drawn anew for each seed; the epoch is chosen on 5,000 validation
images; the test images are evaluated once a run. A run that was stopped goes on where it stood when the command is
given again, and a finished one is read back.

Subject: MNIST
Source: Cuchiero, lecture 2, consequences for training
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from matplotlib.figure import Figure
from rich.table import Table

from cde_nets.atomic import write_atomically
from cde_nets.cli.console import errors, notify
from cde_nets.data import MNIST, load_mnist
from cde_nets.nn import ImageNetworkConfig
from cde_nets.plot import run_pictures
from cde_nets.plot.style import COLOURS, figure, plain_log_ticks, save, styled
from cde_nets.train import Run, TrainConfig, load_network
from experiments.at_hand import few_images
from experiments.command import Json, Quick, begin
from experiments.shown import say
from experiments.trained import result_of

app = typer.Typer(add_completion=False)


@app.command()
def mnist_seeds(
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0, 1, .., one run each; 1 with --quick.")] = 3,
    out: Annotated[Path, typer.Option(help="Folder of the runs, the results and the figure.")] = Path(
        "runs/mnist_seeds"
    ),
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the four MNIST files.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training images; 2 with --quick.")] = None,
    quick: Quick = False,
    publish: Annotated[
        Path | None, typer.Option(help="Copy the results, the figure and the first run's pictures to this docs folder.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; the last bits depend on them.")] = 1,
    as_json: Json = False,
) -> None:
    """Train MNIST from several seeds; write results.jsonl and errors.png."""
    out = begin(out, publish, quick=quick)
    torch.set_num_threads(threads)
    console = errors()
    if quick:
        seeds, epochs = 1, 2
    data = few_images(data_dir, notify) if quick else load_mnist(data_dir, notify=notify)
    console.print(f"data: {data.source}")
    rows = []
    for seed in range(seeds):
        console.rule(f"seed {seed}")
        training = TrainConfig(seed=seed) if epochs is None else TrainConfig(seed=seed, epochs=epochs)
        rows.append(result_of(Run(out / f"seed-{seed}"), ImageNetworkConfig(seed=seed), training, data))
    write_atomically(out / "results.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    save(errors_figure([Run(out / f"seed-{seed}").read_metrics() for seed in range(seeds)], rows), out / "errors.png")
    if publish is not None:
        _publish(out, data, publish)
    say(as_json, {"rows": rows}, _table(rows))


def errors_figure(metrics: list[list[dict[str, Any]]], rows: list[dict[str, Any]]) -> Figure:
    """Validation error against epochs for each seed, and the test error at the end as a dot."""
    with styled():
        made = figure(6.4, 3.6)
        ax = made.subplots()
        for colour, lines, row in zip(COLOURS * len(rows), metrics, rows, strict=False):
            epochs = [line["epoch"] for line in lines]
            ax.plot(
                epochs,
                [100 * (1 - line["validation_accuracy"]) for line in lines],
                color=colour,
                label=f"seed {row['seed']}: test {row['test_accuracy']:.2%}",
            )
            ax.plot(epochs[-1] + 0.5, 100 * (1 - row["test_accuracy"]), "o", color=colour)
        ax.set(xlabel="epoch", ylabel="validation error (dots: test error), %", yscale="log")
        plain_log_ticks(ax)
        ax.set_title(f"{rows[0]['trained_parameters']} trained numbers, {rows[0]['frozen_parameters']:,} frozen")
        ax.legend()
    return made


def _publish(out: Path, data: MNIST, docs: Path) -> None:
    run = Run(out / "seed-0")
    pictures = run_pictures(run, load_network(run.network)[0], data.test)
    for folder, files in (("images", [*pictures, out / "errors.png"]), ("results", [out / "results.jsonl"])):
        (docs / folder).mkdir(parents=True, exist_ok=True)
        for file in files:
            name = file.name if folder == "images" else "mnist_seeds.jsonl"
            write_atomically(docs / folder / name, file.read_bytes())


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("seed", "validation", "test", "seconds", title=f"{rows[0]['trained_parameters']} trained numbers")
    for row in rows:
        accuracies = (f"{row['validation_accuracy']:.2%}", f"{row['test_accuracy']:.2%}")
        table.add_row(str(row["seed"]), *accuracies, f"{row['seconds']:.0f}")
    test = np.array([row["test_accuracy"] for row in rows])
    spread = f"± {test.std(ddof=1):.2%}" if len(rows) > 1 else ""
    table.add_section()
    table.add_row("mean", "", f"{test.mean():.2%} {spread}", f"{np.mean([row['seconds'] for row in rows]):.0f}")
    return table


if __name__ == "__main__":
    app()
