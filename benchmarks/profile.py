"""Where the time goes: in the kernels, around them, and in the training of MNIST.

    python -m benchmarks.profile

Flows of the benchmark, forward and gradient: by plain torch steps, which is what they took before there were kernels;
as they are; and of that the time within the compiled library, the rest being Python, autograd and the loss. Then the
loop of `cde-nets train mnist` on images made here: the operations of torch that take most of it, and how often a step
waits for a number.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.flows import adaptive, torch_sides
from benchmarks.flows.machine import Meter, load, machine
from benchmarks.flows.record import Record
from benchmarks.flows.report import place
from benchmarks.flows.rows import ROWS, draw
from benchmarks.flows.uneven import problems
from benchmarks.page import put
from cde_nets.data import MNIST, Dataset
from cde_nets.kernels import native, plain_steps
from cde_nets.nn import ImageNetworkConfig
from cde_nets.train import Run, TrainConfig, Trainer
from experiments.pages import check

app = typer.Typer(add_completion=False)

PARTS = ("profile", "profile mnist")
# Entries of the library that solve.
SOLVES = ("cde_flow_forward", "cde_flow_backward", "cde_adaptive_forward", "cde_adaptive_backward")
# The library's products do nearly all of the work there; the kernels lie between them.
WIDE = 784
OPERATIONS = 10


@app.command()
def profile(
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Calls of a flow; the median counts.")] = 200,
    steps: Annotated[int, typer.Option(min=2, help="Of the training.")] = 100,
    publish: Annotated[Path | None, typer.Option(help="Fill speed.md of this docs folder, too.")] = None,
) -> None:
    """Time flows within and without the kernels, and the operations of a training."""
    if native().library is None:
        raise typer.BadParameter(f"The CPU kernels are {native().description}")
    for part in PARTS:
        if publish is not None:
            check(publish / "speed.md", part)
    before, meter = load(), Meter()
    torch.set_num_threads(threads)
    meter.sample()
    tables = dict(zip(PARTS, (flows(repeats), training(steps)), strict=True))
    meter.sample()
    said = place(Record(time.strftime("%Y-%m-%d", time.gmtime()), repeats, machine(threads, before, meter)))
    for name, table in tables.items():
        Console(width=140).print(table)
        if publish is not None:
            put(table, publish, name, said)


def flows(repeats: int) -> Table:
    """Rows of the benchmark with and without kernels, in milliseconds."""
    table = Table("row", "plain steps", "now", "in the kernel", "around it", title="Forward + gradient, milliseconds")
    runs = {row.name: torch_sides.ours(draw(row)).both for row in ROWS if row.dim < WIDE}
    for name, run in (runs | {problem.name: adaptive.ours(problem).both for problem in problems()[:1]}).items():
        with plain_steps():
            plain = _median(run, max(3, repeats // 20))
        with within() as spent:
            run()
            spent.clear()
            whole = _median(run, repeats)
            inside = 1e3 * sum(spent) / (repeats + 1)
        table.add_row(name, f"{plain:.3g}", f"{whole:.3g}", f"{inside:.3g}", f"{max(whole - inside, 0):.3g}")
    return table


@contextmanager
def within() -> Iterator[list[float]]:
    """Seconds of every call of the library."""
    library, spent = native().library, list[float]()
    plain = {name: getattr(library, name) for name in SOLVES}

    def timed(call: Callable[[Any], int]) -> Callable[[Any], int]:
        def run(flow: Any) -> int:
            began = time.perf_counter()
            code = call(flow)
            spent.append(time.perf_counter() - began)
            return code

        return run

    for name, call in plain.items():
        setattr(library, name, timed(call))
    try:
        yield spent
    finally:
        for name, call in plain.items():
            setattr(library, name, call)


def training(steps: int) -> Table:
    """The operations that take most of an epoch of so many steps."""
    with plain_steps():
        before, _ = _epoch(steps)
    whole, events = _epoch(steps)
    reads = sum(event.count for event in events if event.key == "aten::_local_scalar_dense")
    table = Table(
        "operation",
        "share",
        "calls a step",
        title=f"An epoch of {steps} steps under the profiler: {1e3 * whole / steps:.1f} ms a step, by plain torch "
        f"steps {1e3 * before / steps:.1f} ms; {reads / steps:.1f} numbers read by the host a step",
    )
    shown = events[:OPERATIONS]
    for event in shown:
        share = event.self_cpu_time_total / (1e6 * whole)
        table.add_row(event.key, f"{share:.0%}", f"{event.count / steps:.1f}")
    known = sum(event.self_cpu_time_total for event in events) / 1e6
    others = known - sum(event.self_cpu_time_total for event in shown) / 1e6
    table.add_row("other operations", f"{others / whole:.0%}", "")
    table.add_row("Python between them", f"{max(whole - known, 0) / whole:.0%}", "")
    return table


def _epoch(steps: int) -> tuple[float, list[Any]]:
    """Seconds, and the profiler's events, those that took most first."""
    config = TrainConfig(epochs=1)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(Run(Path(folder) / "run"), ImageNetworkConfig(), config, _images(steps * config.batch_size))
        trainer.start()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
            began = time.perf_counter()
            trainer.fit(_Silent())
            whole = time.perf_counter() - began
    return whole, sorted(seen.key_averages(), key=lambda event: -event.self_cpu_time_total)


class _Silent:
    def batch(self, done: int, total: int, loss: float, accuracy: float) -> None:
        """Says nothing."""

    def epoch(self, row: dict[str, Any]) -> None:
        """Says nothing."""


def _images(count: int) -> MNIST:
    """Noise of MNIST's form: what is in the images changes no time."""
    rng = np.random.default_rng(0)

    def noise(number: int) -> Dataset:
        images = rng.integers(0, 256, (number, 28, 28), dtype=np.uint8)
        return Dataset(images, rng.integers(0, 10, number, dtype=np.uint8))

    return MNIST(noise(count), noise(10), noise(10), source="made", detail="noise", complete=False)


def _median(run: Callable[[], Any], repeats: int) -> float:
    run()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return 1e3 * statistics.median(taken)


if __name__ == "__main__":
    app()
