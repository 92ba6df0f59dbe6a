"""How cost grows with depth, fields, dimension, batch and points, beside what counting predicts.

    python -m benchmarks.growth

Flows (forward and gradient, Euler, float32): time beside max(flops / measured peak, bytes / measured bandwidth), and
what is kept for the way back beside M B m numbers. Polynomial fields, whose control collapses, beside ridge fields,
whose cost is that of d matrices. Certificates (`theory.check_points`): time beside a cubic in the rank m N. Writes
growth.json and growth.png.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

import cde_nets as cn
import theory
from benchmarks.flows.flops import flops
from benchmarks.flows.machine import Meter, load, machine
from benchmarks.flows.rows import Row, draw
from cde_nets.atomic import write_atomically
from cde_nets.kernels import cpu
from cde_nets.plot.style import save, styled

app = typer.Typer(add_completion=False)

BASE = {"dim": 16, "count": 8, "steps": 20, "batch": 512}
SWEEPS = {
    "steps": (5, 20, 80, 320, 1280),
    "count": (1, 4, 16, 64, 128),
    "dim": (4, 8, 16, 32, 64),
    "batch": (32, 128, 512, 2048, 8192),
}
TITLES = {"steps": "depth M", "count": "fields d", "dim": "dimension m", "batch": "batch B", "points": "points N"}
POINTS = (32, 64, 128, 256)
FAMILIES = ("ridge", "polynomial")


@dataclass(frozen=True)
class Cost:
    """One measurement.

    Attributes:
        family: of the fields.
        sweep: what grows.
        value: to how much.
        milliseconds: the median.
        predicted: what counting says, milliseconds; of certificates None.
        kept: megabytes for the way back, of flows.
        kept_predicted: the states alone, M B m numbers.
    """

    family: str
    sweep: str
    value: int
    milliseconds: float
    predicted: float | None
    kept: float | None = None
    kept_predicted: float | None = None


@app.command()
def growth(
    repeats: Annotated[int, typer.Option(min=1, help="Timings; the median counts.")] = 7,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder of growth.json and growth.png.")] = Path("runs/growth"),
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder.")] = None,
) -> None:
    """Measure, and draw the figure."""
    before = load()
    torch.set_num_threads(threads)
    meter = Meter()
    meter.sample(5)
    found: list[Cost] = []
    jobs = [(family, sweep, value) for family in FAMILIES for sweep, values in SWEEPS.items() for value in values]
    for family, sweep, value in track(jobs, "flows", console=Console(stderr=True)):
        meter.tick()
        sizes = {**BASE, sweep: value}
        row = Row(family, sizes["dim"], sizes["count"], sizes["steps"], sizes["batch"])
        found.append(_flow(row, sweep, value, repeats, meter))
    for points in track(POINTS, "certificates", console=Console(stderr=True)):
        found.append(_certificate(points, max(1, repeats // 3)))
    content = {
        "base": BASE,
        "machine": dataclasses.asdict(machine(threads, before, meter)),
        "costs": [dataclasses.asdict(cost) for cost in found],
    }
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "growth.json", (json.dumps(content, indent=1) + "\n").encode())
    save(_figure(found), out / "growth.png")
    if publish is not None:
        write_atomically(publish / "results" / "growth.json", (out / "growth.json").read_bytes())
        write_atomically(publish / "images" / "growth.png", (out / "growth.png").read_bytes())
    typer.echo(f"{out / 'growth.png'}")


def _flow(row: Row, sweep: str, value: int, repeats: int, meter: Meter) -> Cost:
    given = draw(row)
    flow = cn.ControlledODE(given.fields, given.control(), "euler", throw=False)

    def both() -> None:
        flow(given.x).square().sum().backward()

    taken = [_milliseconds(both) for _ in range(repeats + 1)][1:]
    prepared = flow._ready(given.x)
    assert prepared is not None
    whole = prepared.whole
    numbers = cpu.kept_numbers(
        given.x, whole.fields.coefficients, whole.fields.family, whole.widths, whole.tableau, prepared.stride
    )
    # Coefficients are read once a step at least, states written once and read once.
    coefficients = sum(c.numel() for c in given.fields.buffers() if c.is_floating_point())
    moved = 4 * (2 * numbers + coefficients)
    predicted = 1e3 * max(flops(row, gradient=True) / (1e9 * meter.gflops), moved / (1e9 * meter.gbytes))
    states = row.steps * row.batch * row.dim
    return Cost(row.family, sweep, value, statistics.median(taken), predicted, 4e-6 * numbers, 4e-6 * states)


def _certificate(points: int, repeats: int) -> Cost:
    fields = cn.PolynomialFields.random(4, 5, 2, seed=0)
    at = torch.randn(points, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def prove() -> None:
        assert theory.check_points(fields, at).proved

    # The first call loads what theory needs.
    prove()
    return Cost("certificate", "points", points, statistics.median(_milliseconds(prove) for _ in range(repeats)), None)


def _milliseconds(run: Any) -> float:
    began = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - began)


def _figure(found: list[Cost]) -> Figure:
    with styled():
        figure = Figure(figsize=(13.0, 6.0), layout="constrained")
        axes = figure.subplots(2, 5)
        for place, sweep in enumerate(SWEEPS):
            _sweep(axes[0, place], axes[1, place], [cost for cost in found if cost.sweep == sweep])
            axes[0, place].set_title(TITLES[sweep])
        _certificates(axes[0, 4], [cost for cost in found if cost.sweep == "points"])
        axes[0, 0].set_ylabel("forward and gradient, ms")
        axes[1, 0].set_ylabel("kept for the way back, MB")
        axes[1, 4].axis("off")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        axes[1, 4].legend(handles, labels, loc="center", frameon=False)
    return figure


def _sweep(times: Any, sizes: Any, costs: list[Cost]) -> None:
    for colour, family in zip(("C0", "C1"), FAMILIES, strict=True):
        here = [cost for cost in costs if cost.family == family]
        x = [cost.value for cost in here]
        times.loglog(x, [cost.milliseconds for cost in here], "o-", color=colour, label=f"{family}, measured")
        times.loglog(x, [cost.predicted for cost in here], ":", color=colour, label=f"{family}, predicted")
        sizes.loglog(x, [cost.kept for cost in here], "o-", color=colour)
        sizes.loglog(x, [cost.kept_predicted for cost in here], ":", color=colour)
        _ticks(times, x)
        _ticks(sizes, x)


def _ticks(ax: Any, values: list[int]) -> None:
    """The values that were measured, as they are."""
    ax.set_xticks(values, labels=[str(value) for value in values])
    ax.set_xticks([], minor=True)


def _certificates(ax: Any, costs: list[Cost]) -> None:
    x, y = [cost.value for cost in costs], [cost.milliseconds for cost in costs]
    ax.loglog(x, y, "o-", color="C2", label="certificate, measured")
    ax.loglog(x, [y[-1] * (n / x[-1]) ** 3 for n in x], ":", color="C2", label="cubic through the last")
    _ticks(ax, x)
    ax.set_title(f"certificate: {TITLES['points']}")
    ax.legend(frameon=False, fontsize="small")


if __name__ == "__main__":
    app()
