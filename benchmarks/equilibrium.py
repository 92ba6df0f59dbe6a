"""Equilibrium layers beside torchdeq: the same map, start, dtype and threads, ours at least as exact.

    python -m benchmarks.equilibrium

The map is z = tanh(W z + x), |W|_2 as in the table. torchdeq solves until |f(z) - z| <= tolerance |f(z)| in every row,
and then returns f(z), which is nearer to rest than the z that it tested; ours returns what it tested. So the residual
that torchdeq reached is measured first, by one more evaluation, and is what ours is asked for. Else each has its own
defaults; the gradient is implicit on both sides, solved to the tolerance that the side's equilibrium is (torchdeq with
ift=True, as its default is one step and inexact). Prints milliseconds, ratios (peer / ours, above 1 where ours is
faster) and residuals, where a row above what was asked for is marked.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import torchdeq
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

import cde_nets as cn
from benchmarks.page import put
from experiments.pages import check

app = typer.Typer(add_completion=False)

# batch, dim, |W|_2, relative residual, dtype
SIZES = (
    (64, 32, 0.9, 1e-4, torch.float32),
    (64, 128, 0.9, 1e-4, torch.float32),
    (512, 128, 0.9, 1e-4, torch.float32),
    (64, 512, 0.99, 1e-4, torch.float32),
    (8, 2048, 0.9, 1e-4, torch.float32),
    (64, 128, 0.9, 1e-8, torch.float64),
)
METHODS: dict[str, tuple[cn.Method, str]] = {
    "Anderson": (cn.Anderson(), "anderson"),
    "Broyden": (cn.Broyden(), "broyden"),
}
# Steps both may take, far more than either needs.
MOST = 300


class Cell(nn.Module):
    """f(x, z) = tanh(W z + x)."""

    def __init__(self, dim: int, norm: float, dtype: torch.dtype) -> None:
        super().__init__()
        w = torch.randn(dim, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.weight = nn.Parameter((norm * w / torch.linalg.matrix_norm(w, 2)).to(dtype))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Shape (rows, dim)."""
        return torch.tanh(torch.nn.functional.linear(z, self.weight) + x)


@dataclass
class Row:
    """One line of the table: medians in seconds and the largest relative residual of a row, ours and the peer's.

    Attributes:
        times: in seconds.
        residuals: reached.
        asked: the residuals that were asked for.
        evaluations: of the map.
    """

    times: tuple[float, float]
    residuals: tuple[float, float]
    asked: tuple[float, float]
    evaluations: tuple[int, int]


def measure(size: tuple[int, int, float, float, torch.dtype], method: str, repeats: int, *, gradient: bool) -> Row:
    """Time one size with one method, ours and the peer's by turns."""
    batch, dim, norm, tolerance, dtype = size
    cell = Cell(dim, norm, dtype)
    x = torch.randn(batch, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    mine, theirs = METHODS[method]
    peer = torchdeq.get_deq(
        f_solver=theirs, f_max_iter=MOST, f_tol=tolerance, f_stop_mode="rel",
        ift=True, b_solver=theirs, b_max_iter=MOST, b_tol=tolerance, b_stop_mode="rel",
    )  # fmt: skip

    def theirs_of(x: Tensor) -> Tensor:
        value: Tensor = peer(lambda z: cell(x, z), torch.zeros_like(x))[0][-1]
        return value

    with torch.no_grad():
        reached = _residual(cell, x, theirs_of(x))
    asked = min(tolerance, reached)
    ours = cn.EquilibriumLayer(
        cell, mine, cn.GMRES(), tolerance=cn.Tolerance(asked, 1e-30), max_steps=MOST, throw=False
    )
    calls = [0, 0]

    def run(side: int) -> Tensor:
        with torch.set_grad_enabled(gradient):
            value: Tensor = theirs_of(x) if side else ours(x)
        if gradient:
            cell.weight.grad = None
            value.square().sum().backward()
        return value

    side = 0
    handle = cell.register_forward_hook(lambda *_: calls.__setitem__(side, calls[side] + 1))
    residuals = []
    for side in (0, 1):
        value = run(side).detach()
        # Counted before the measurement of the residual.
        counted = calls[side]
        with torch.no_grad():
            residuals.append(_residual(cell, x, value))
        calls[side] = counted
    handle.remove()
    taken: list[list[float]] = [[], []]
    for repeat in range(repeats + 1):
        # Interleaved, so that a slow minute of the machine falls on both.
        for side in (0, 1):
            began = time.perf_counter()
            run(side)
            if repeat:
                taken[side].append(time.perf_counter() - began)
    medians = statistics.median(taken[0]), statistics.median(taken[1])
    return Row(medians, (residuals[0], residuals[1]), (asked, tolerance), (calls[0], calls[1]))


def _residual(cell: Cell, x: Tensor, value: Tensor) -> float:
    image = cell(x, value)
    return float(((image - value).norm(dim=1) / image.norm(dim=1)).max())


@app.command()
def equilibrium(
    repeats: Annotated[int, typer.Option(min=1, help="Timings a row; the median counts.")] = 11,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    publish: Annotated[Path | None, typer.Option(help="Fill speed.md of this docs folder, too.")] = None,
) -> None:
    """Time equilibrium layers beside torchdeq's, forward alone and with the gradient."""
    if publish:
        check(publish / "speed.md", "equilibria")
    torch.set_num_threads(threads)
    table = Table("method", "(batch, dim, |W|, tolerance)", "pass", "ours, ms", "torchdeq, ms", "ratio", "evaluations")
    table.add_column("residuals")
    jobs = [(size, method, gradient) for size in SIZES for method in METHODS for gradient in (False, True)]
    for size, method, gradient in track(jobs, "measuring", console=Console(stderr=True), transient=True):
        row = measure(size, method, repeats, gradient=gradient)
        ours, theirs = row.times
        above = ["!" * (r > asked * 1.01) for r, asked in zip(row.residuals, row.asked, strict=True)]
        table.add_row(
            method,
            f"({size[0]}, {size[1]}, {size[2]}, {size[3]:g})",
            "both" if gradient else "forward",
            f"{1e3 * ours:.1f}",
            f"{1e3 * theirs:.1f}",
            f"{theirs / ours:.2f}",
            f"{row.evaluations[0]} / {row.evaluations[1]}",
            " / ".join(f"{r:.0e}{mark}" for r, mark in zip(row.residuals, above, strict=True)),
        )
    table.title = f"z = tanh(W z + x), {threads} threads, medians of {repeats}; !: above what was asked for"
    # A file or a pipe has no width of its own to fold the columns to.
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(table)
    if publish:
        put(table, publish, "equilibria", f"torch {torch.__version__}.")


if __name__ == "__main__":
    app()
