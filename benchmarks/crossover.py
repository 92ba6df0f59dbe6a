"""Where one way to take a flow through its steps becomes faster than another: what the kernels' limits are read off.

    python -m benchmarks.crossover

Forward and gradient of Euler steps in float32, both ways by turns, best of the repeats: ridge fields in tiles of rows
and by the library's matrix products (`cde_nets.kernels.cpu.MOST_NUMBERS`, of count * dim^2); in tiles with
pre-activations held and made again (`cpu.MOST_HELD`, bytes of batch * steps * count * dim); and fields on images, fresh
at every step and on spheres, in tiles and by the library's convolutions (`cde_nets.kernels.images.MOST_CHANNELS`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

import cde_nets as cn
from cde_nets.kernels import cpu, images, plain_steps

app = typer.Typer(add_completion=False)

ALL = 2**62
Way = Callable[[], AbstractContextManager[None]]

# dim, count, steps, batch
PRODUCTS = (
    (64, 7, 20, 256),
    (128, 7, 20, 256),
    (192, 7, 20, 256),
    (256, 7, 10, 256),
    (320, 7, 10, 256),
    (384, 7, 10, 256),
    (512, 7, 5, 256),
    (64, 40, 10, 256),
    (128, 40, 5, 256),
)
HELD = ((2, 6, 50, 1024), (8, 7, 50, 64), (32, 20, 20, 256), (64, 7, 20, 256), (32, 20, 50, 256), (32, 20, 100, 256))
# channels, height and width, batch
IMAGES = ((10, 14, 200), (16, 14, 200), (24, 14, 200), (32, 14, 200), (48, 14, 100), (10, 28, 100), (32, 28, 50))


@app.command()
def crossover(
    repeats: Annotated[int, typer.Option(min=1, help="Timings a row; the best counts.")] = 9,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
) -> None:
    """Time both sides of every limit."""
    torch.set_num_threads(threads)
    console = Console()
    tiles, products = _set(cpu, MOST_NUMBERS=ALL), _set(cpu, MOST_NUMBERS=0)
    _print(console, "tiles", "products", PRODUCTS, _ridge, [tiles, products], repeats)
    kept, again = _set(cpu, MOST_HELD=ALL), _set(cpu, MOST_HELD=0)
    _print(console, "held", "made again", HELD, _ridge, [kept, again], repeats)
    whole = _set(images, MOST_CHANNELS=ALL, MOST_NUMBERS=ALL)
    _print(console, "tiles", "convolutions", IMAGES, _pictures, [whole, plain_steps], repeats)


def _print(
    console: Console,
    one: str,
    other: str,
    sizes: Sequence[tuple[int, ...]],
    make: Callable[..., Callable[[], None]],
    ways: Sequence[Way],
    repeats: int,
) -> None:
    table = Table("size", f"{one}, ms", f"{other}, ms", f"{other} / {one}")
    for size in sizes:
        first, second = _best(make(*size), ways, repeats)
        table.add_row(str(size), f"{first:.3g}", f"{second:.3g}", f"{second / first:.2f}")
    console.print(table)


def _best(run: Callable[[], None], ways: Sequence[Way], repeats: int) -> list[float]:
    """Milliseconds of each way, by turns, each once untimed before."""
    best = [float("inf")] * len(ways)
    for _ in range(repeats):
        for k, way in enumerate(ways):
            with way():
                run()
                began = time.perf_counter()
                run()
                best[k] = min(best[k], 1e3 * (time.perf_counter() - began))
    return best


def _set(module: Any, **limits: int) -> Way:
    """Within it the module's limits are these."""

    @contextmanager
    def within() -> Iterator[None]:
        with ExitStack() as stack:
            for name, limit in limits.items():
                stack.callback(setattr, module, name, getattr(module, name))
                setattr(module, name, limit)
            yield

    return within


def _ridge(dim: int, count: int, steps: int, batch: int) -> Callable[[], None]:
    return _flow(cn.RidgeFields.random(dim, count, seed=0), steps, batch)


def _pictures(channels: int, side: int, batch: int) -> Callable[[], None]:
    fresh = [cn.ConvFields.random(channels, side, side, 8, form="shared", seed=seed) for seed in (0, 1)]
    return _flow(fresh, 2, batch, manifold="sphere")


def _flow(fields: Any, steps: int, batch: int, **options: Any) -> Callable[[], None]:
    count = fields.count if isinstance(fields, cn.RidgeFields) else fields[0].count
    control = cn.PiecewiseConstantControl.random(steps, count, scale=0.1, seed=1)
    flow = cn.ControlledODE(fields, control, "euler", throw=False, **options)
    x = 0.1 * torch.randn(batch, flow.dim, generator=torch.Generator().manual_seed(2))

    def both() -> None:
        flow(x).square().sum().backward()

    return both


if __name__ == "__main__":
    app()
