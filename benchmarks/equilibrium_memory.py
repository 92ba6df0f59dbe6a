"""Memory and time of forward and backward against the number of iterations: ours, unrolled, torchdeq.

    python -m benchmarks.equilibrium_memory

All run Picard's iteration of z = tanh(W z + x) for exactly 10, 100 and 1000 steps in float32, then the backward pass.
The peak is the largest number of bytes that torch has allocated at any time of the run, by its own profiler. `ours` and
`torchdeq, ift` solve the implicit equation to 1e-4; `torchdeq, default` is one step, and inexact. Writes
equilibrium_memory.json and equilibrium_memory.png.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Annotated

import torch
import torchdeq
import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

import cde_nets as cn
from benchmarks.equilibrium import Cell
from cde_nets.atomic import write_atomically
from cde_nets.plot.style import COLOURS, figure, save, styled

app = typer.Typer(add_completion=False)

STEPS = (10, 100, 1000)
BATCH, DIM, NORM, BACKWARD = 64, 512, 0.9, 1e-4


@dataclass(frozen=True)
class Measured:
    """One side at one number of iterations.

    Attributes:
        side: what ran.
        steps: iterations forward.
        megabytes: the peak, in 10^6 bytes.
        seconds: forward and backward, the median.
    """

    side: str
    steps: int
    megabytes: float
    seconds: float


def ours(steps: int, cell: Cell, x: Tensor, gradient: cn.Gradient | None = None) -> Tensor:
    """Our layer; the implicit gradient where none is given."""
    implicit = cn.Implicit(cn.GMRES(), tolerance=cn.Tolerance(BACKWARD, 1e-30))
    layer = cn.EquilibriumLayer(cell, cn.Picard(steps=steps), gradient or implicit, throw=False)
    value: Tensor = layer(x)
    return value


def loop(steps: int, cell: Cell, x: Tensor) -> Tensor:
    """Back-propagation through time, as anyone would write it."""
    z = torch.zeros_like(x)
    for _ in range(steps):
        z = cell(x, z)
    return z


def peer(steps: int, cell: Cell, x: Tensor, *, ift: bool) -> Tensor:
    """The fixed-point iteration of torchdeq; all its steps are taken with a tolerance that nobody meets."""
    backward = {"ift": True, "b_solver": "broyden", "b_tol": BACKWARD, "b_stop_mode": "rel", "b_max_iter": 50}
    deq = torchdeq.get_deq(
        f_solver="fixed_point_iter", f_max_iter=steps, f_tol=-1.0, f_stop_mode="rel", **(backward if ift else {})
    )
    value: Tensor = deq(lambda z: cell(x, z), torch.zeros_like(x))[0][-1]
    return value


SIDES: dict[str, Callable[[int, Cell, Tensor], Tensor]] = {
    "ours, implicit": ours,
    "ours, unrolled": lambda steps, cell, x: ours(steps, cell, x, cn.Unrolled()),
    "torch, unrolled": loop,
    "torchdeq, ift": lambda steps, cell, x: peer(steps, cell, x, ift=True),
    "torchdeq, default": lambda steps, cell, x: peer(steps, cell, x, ift=False),
}


def measure(side: str, steps: int, repeats: int, device: str) -> tuple[Measured, Tensor]:
    """The measurement, and the gradient in W."""
    cell = Cell(DIM, NORM, torch.float32).to(device)
    x = torch.randn(BATCH, DIM, generator=torch.Generator().manual_seed(1)).to(device)

    def run() -> None:
        cell.weight.grad = None
        SIDES[side](steps, cell, x).square().sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()

    run()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    cell.weight.grad = None
    added = peak(run, device)
    assert cell.weight.grad is not None
    return Measured(side, steps, added / 1e6, statistics.median(taken)), cell.weight.grad


def peak(run: Callable[[], None], device: str) -> float:
    """The most bytes of tensors that a run holds at any time, besides those there were before."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return float(torch.cuda.max_memory_allocated() - before)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    found = profile.profiler
    assert found is not None
    events = [event for event in found.kineto_results.events() if event.name() == "[memory]"]
    held = accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return float(max(held))


@app.command()
def equilibrium_memory(
    repeats: Annotated[int, typer.Option(min=1, help="Timings; the median counts.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/equilibrium_memory"),
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder.")] = None,
) -> None:
    """Measure memory and time of forward and backward at 10, 100 and 1000 iterations."""
    torch.set_num_threads(threads)
    rows = []
    jobs = [(side, steps) for steps in STEPS for side in SIDES]
    for side, steps in track(jobs, "measuring", console=Console(stderr=True), transient=True):
        rows.append(measure(side, steps, repeats, device))
    # Back-propagation through as many steps is the exact gradient of what was computed.
    truth = {row.steps: vector for row, vector in rows if row.side == "torch, unrolled"}
    errors = [float((vector - truth[row.steps]).norm() / truth[row.steps].norm()) for row, vector in rows]
    found = [row for row, _ in rows]
    pictured = picture(found)
    out.mkdir(parents=True, exist_ok=True)
    content = {
        "batch": BATCH, "dim": DIM, "norm": NORM, "threads": threads, "device": device, "torch": torch.__version__,
        "rows": [{**asdict(row), "error": error} for row, error in zip(found, errors, strict=True)],
    }  # fmt: skip
    text = json.dumps(content, indent=1) + "\n"
    for folder, numbers in ((out, out), *(((publish / "images", publish / "results"),) if publish else ())):
        save(pictured, folder / "equilibrium_memory.png")
        write_atomically(numbers / "equilibrium_memory.json", text.encode())
    table = Table("iterations", "side", "peak, MB", "time, ms", "gradient beside BPTT's")
    for row, error in zip(found, errors, strict=True):
        table.add_row(str(row.steps), row.side, f"{row.megabytes:.1f}", f"{1e3 * row.seconds:.0f}", f"{error:.0e}")
    table.title = f"z = tanh(W z + x), {BATCH} rows of {DIM}, |W| = {NORM}, float32, {threads} threads, {device}"
    Console().print(table)


def picture(rows: list[Measured]) -> Figure:
    """Memory and time against iterations."""
    with styled():
        made = figure(8.0, 3.4)
        left, right = made.subplots(1, 2)
        for k, side in enumerate(SIDES):
            own = [row for row in rows if row.side == side]
            steps = [row.steps for row in own]
            look = {"color": COLOURS[k], "marker": "osD^v"[k], "label": side}
            left.plot(steps, [row.megabytes for row in own], **look)
            right.plot(steps, [1e3 * row.seconds for row in own], **look)
        for ax, words in ((left, "peak of the memory, MB"), (right, "forward and backward, ms")):
            ax.set(xscale="log", yscale="log", xlabel="iterations forward", ylabel=words)
        left.legend()
        return made


if __name__ == "__main__":
    app()
