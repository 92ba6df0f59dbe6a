"""Where ridge fields outgrow a tile of rows: the kernel beside the library's matrix products, by dimension.

    python -m benchmarks.crossover

Forward and gradient of Euler steps, both ways by turns, best of the repeats. `cde_nets.kernels.cpu.MOST_NUMBERS` is
read off this table: count * dim^2 up to which tiles are faster.
"""

from __future__ import annotations

import time
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

import cde_nets as cn
from cde_nets.kernels import cpu

app = typer.Typer(add_completion=False)

# dim, count, steps, batch
SIZES = (
    (32, 7, 20, 256),
    (64, 7, 20, 256),
    (96, 7, 20, 256),
    (128, 7, 20, 256),
    (160, 7, 20, 256),
    (192, 7, 20, 256),
    (256, 7, 10, 256),
    (64, 40, 10, 256),
)


@app.command()
def crossover(
    repeats: Annotated[int, typer.Option(min=1, help="Timings a row; the best counts.")] = 9,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
) -> None:
    """Time tiles and products."""
    torch.set_num_threads(threads)
    table = Table("(dim, count, steps, batch)", "numbers of C", "tiles, ms", "products, ms", "products / tiles")
    usual = cpu.MOST_NUMBERS
    for dim, count, steps, batch in SIZES:
        fields = cn.RidgeFields.random(dim, count, seed=0)
        control = cn.PiecewiseConstantControl.random(steps, count, scale=0.1, seed=1)
        flow = cn.ControlledODE(fields, control, "euler", throw=False)
        x = 0.1 * torch.randn(batch, dim, generator=torch.Generator().manual_seed(2))
        best = {2**62: float("inf"), 0: float("inf")}
        for _ in range(repeats + 1):
            for most in best:
                cpu.MOST_NUMBERS = most
                began = time.perf_counter()
                flow(x).square().sum().backward()
                best[most] = min(best[most], 1e3 * (time.perf_counter() - began))
        tiles, products = best.values()
        numbers = f"{count * dim**2:,}"
        table.add_row(
            str((dim, count, steps, batch)), numbers, f"{tiles:.2f}", f"{products:.2f}", f"{products / tiles:.2f}"
        )
    cpu.MOST_NUMBERS = usual
    table.title = f"ridge fields of degree 2, Euler, float32, {threads} threads, best of {repeats}"
    Console().print(table)


if __name__ == "__main__":
    app()
