"""Forward and gradient of a controlled flow: ours beside torchdiffeq on the same fields, steps, dtype and threads.

    python -m benchmarks.flow

Prints milliseconds and ratios (peer / ours, above 1 where ours is faster). The peer's right-hand side is the collapsed
velocity, the best a user of torchdiffeq could write by hand for these fields.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchdiffeq import odeint, odeint_adjoint

import cde_nets as cn

app = typer.Typer(add_completion=False)

# dim, count, steps of the control, batch
SIZES = ((2, 5, 50, 1000), (10, 5, 20, 1000), (32, 20, 20, 256))


class PeerFlow(torch.nn.Module):
    """The same controlled ODE as a right-hand side for torchdiffeq."""

    def __init__(self, flow: cn.ControlledODE, fields: cn.Fields, steps: int) -> None:
        super().__init__()
        self.values = flow.control.get_parameter("values")
        self.fields, self.steps = fields, steps

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """The velocity at time t."""
        # The peer hands over rounded times; a step must not fall into the interval before it.
        interval = min(int(t.detach().item() * self.steps + 1e-3), self.steps - 1)
        return self.fields.velocity(x, self.values[interval])


@app.command()
def flow(
    repeats: Annotated[int, typer.Option(min=1, help="Timings a row; the median counts.")] = 15,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
) -> None:
    """Time Euler on the control's grid, forward and gradient."""
    torch.set_num_threads(threads)
    table = Table(
        "(dim, count, steps, batch)", "ours, ms", "torchdiffeq odeint, ms", "ratio", "odeint_adjoint, ms", "ratio"
    )
    for size in SIZES:
        ours, direct, adjoint = _row(*size, repeats)
        row = [f"{ours:.2f}", f"{direct:.1f}", f"{direct / ours:.1f}", f"{adjoint:.1f}", f"{adjoint / ours:.1f}"]
        table.add_row(str(size), *row)
    table.title = f"polynomial fields of degree 2, Euler, float32, {threads} threads, medians of {repeats}"
    Console().print(table)


def _row(dim: int, count: int, steps: int, batch: int, repeats: int) -> list[float]:
    fields = cn.PolynomialFields.random(dim, count, degree=2, seed=0)
    control = cn.PiecewiseConstantControl.random(steps, count, scale=0.1, seed=1)
    ours = cn.ControlledODE(fields, control, "euler", throw=False)
    peer = PeerFlow(ours, fields, steps)
    x = 0.1 * torch.randn(batch, dim, generator=torch.Generator().manual_seed(2))
    times, options = torch.tensor([0.0, 1.0]), {"step_size": 1 / steps}
    runs: list[Callable[[], Tensor]] = [
        lambda: ours(x),
        lambda: odeint(peer, x, times, method="euler", options=options)[-1],
        lambda: odeint_adjoint(peer, x, times, method="euler", options=options, adjoint_params=(peer.values,))[-1],
    ]
    ends = [run().detach() for run in runs]
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=1e-4, atol=1e-5)
    timings: list[list[float]] = [[] for _ in runs]
    for repeat in range(repeats + 2):
        # Interleaved, so that a slow minute of the machine falls on all.
        for run, taken in zip(runs, timings, strict=True):
            control.values.grad = None
            began = time.perf_counter()
            run().square().sum().backward()
            if repeat >= 2:
                taken.append(1e3 * (time.perf_counter() - began))
    return [statistics.median(taken) for taken in timings]


if __name__ == "__main__":
    app()
