"""Flows beside the peers: `python -m benchmarks`, or `make bench`.

Every row is computed by all sides and compared before it is timed; then they take turns. Writes speed.json and prints
tables; with --publish also the tables of docs/speed.md.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks.flows import adaptive, fixed, memory, network, report
from benchmarks.flows.jax_sides import limit_threads
from benchmarks.flows.machine import Meter, load, machine
from benchmarks.flows.needs import USUAL, MissingPeerError, require
from benchmarks.flows.record import Adaptive, Fixed, Held, Record
from benchmarks.flows.rows import ROWS, chosen
from benchmarks.flows.uneven import problems
from benchmarks.page import put
from cde_nets.atomic import write_atomically
from experiments.pages import check

app = typer.Typer(add_completion=False)

PARTS = ("fixed", "adaptive", "memory")
MEMORY = f"memory-{memory.ROW.name}"


@app.command()
def bench(
    rows: Annotated[str, typer.Option(help="Parts of rows' names, with commas between; all rows where empty.")] = "",
    peers: Annotated[str, typer.Option(help="With commas between; or none.")] = ",".join(USUAL),
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of every library.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Samples a side; the median counts.")] = 15,
    out: Annotated[Path, typer.Option(help="Folder of speed.json.")] = Path("runs/speed"),
    publish: Annotated[Path | None, typer.Option(help="Fill speed.md of this docs folder, too.")] = None,
) -> None:
    """Time flows beside torchdiffeq, torchode, diffrax and plain JAX."""
    asked = [] if peers == "none" else [peer.strip() for peer in peers.split(",")]
    uneven = {problem.name: problem for problem in problems()}
    sizes = {row.name: row for row in ROWS}
    try:
        if publish and rows:
            raise ValueError("--publish fills whole tables: leave --rows out.")
        require(asked)
        names = chosen(
            [part.strip() for part in rows.split(",") if part.strip()], [*sizes, network.NAME, *uneven, MEMORY]
        )
        if publish:
            for part in PARTS:
                check(publish / "speed.md", part)
    except (ValueError, MissingPeerError) as error:
        raise typer.BadParameter(str(error)) from error
    before = load()
    torch.set_num_threads(threads)
    if {"diffrax", "scan"} & set(asked):
        limit_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    meter = Meter()
    steps: list[Fixed] = []
    solved: list[Adaptive] = []
    held: tuple[Held, ...] = ()
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("measuring", total=len(names))
        for name in names:
            bar.update(task, description=name)
            began = time.perf_counter()
            meter.sample()
            if name in sizes:
                for gradient in (False, True):
                    steps.append(fixed.measure(sizes[name], asked, repeats, gradient=gradient, tick=meter.tick))
            elif name == network.NAME:
                for gradient in (False, True):
                    steps.append(fixed.measure_network(asked, repeats, gradient=gradient, tick=meter.tick))
            elif name in uneven:
                solved.append(adaptive.measure(uneven[name], asked, repeats, tick=meter.tick))
            else:
                held = memory.measure(asked, repeats, threads, tick=meter.tick)
            # A run takes long: a file or a pipe, which shows no bar, is told, too.
            bar.console.print(f"{name}: {time.perf_counter() - began:.0f} s", highlight=False)
            bar.advance(task)
    meter.sample()
    record = Record(
        time.strftime("%Y-%m-%d", time.gmtime()), repeats, machine(threads, before, meter),
        tuple(steps), tuple(solved), held, tuple(asked),
    )  # fmt: skip
    # The numbers first: whatever happens to the tables, they are kept.
    write_atomically(out / "speed.json", record.to_json().encode())
    console = Console()
    wide = console if console.is_terminal else Console(width=200)
    wide.print(report.place(record), highlight=False)
    for sheet in report.sheets(record):
        wide.print(report.rich(sheet))
        if publish:
            put(report.rich(sheet), publish, sheet.name, report.place(record))
    if publish:
        write_atomically(publish / "results" / "speed.json", record.to_json().encode())


if __name__ == "__main__":
    app()
