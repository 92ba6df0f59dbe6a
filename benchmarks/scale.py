"""What many GPUs would cost and send: reckoned from what one CPU core takes and from assumptions that are printed.

    python -m benchmarks.scale

Measured here: forward and backward of the default network for each image of a batch and one step of `EigenbasisAdam`
(its basis included), in seconds of the processor; the quickest allreduce of the gradient between two processes of this
machine over gloo. Assumed: what a GPU does beside a core, latency and bandwidth of the network, the price of an hour.
An allreduce of b bytes over n processes takes 2 log2(n) a + 2 (n - 1)/n b / B, with latency a and bandwidth B, by
Rabenseifner's algorithm, the sums not counted (Thakur, Rabenseifner and Gropp, "Optimization of collective
communication operations in MPICH", 2005). The optimiser's step is the same on every GPU at every n: it is taken as
measured on the CPU core. Nothing here was measured on a GPU.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import torch.distributed as dist
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from benchmarks.page import markdown
from cde_nets.atomic import write_atomically
from cde_nets.nn import ImageNetworkConfig
from cde_nets.train import EigenbasisAdam
from experiments.pages import check, fill

app = typer.Typer(add_completion=False)

GPUS = (8, 64, 1000)
# Images that each GPU has in a step, or that all have together.
EACH, TOGETHER = 200, 8000
# A network of a hundred million weights, beside ours.
WEIGHTS = 100_000_000
BYTES = 4
# Images that are paid for.
IMAGES = 1e9


@dataclass(frozen=True)
class Measured:
    """On one core of this machine.

    Attributes:
        numbers: that are trained.
        image: seconds of the processor, forward and backward.
        optimizer: seconds of the processor, of a step.
        allreduce: seconds, of the gradient between two processes here.
    """

    numbers: int
    image: float
    optimizer: float
    allreduce: float


@dataclass(frozen=True)
class Assumed:
    """Of GPUs and the network between them.

    Attributes:
        speed: a GPU's images over those of the core, in the same time.
        latency: seconds of a message.
        bandwidth: bytes a second of each GPU.
        price: dollars of a GPU for an hour.
    """

    speed: float
    latency: float
    bandwidth: float
    price: float


@dataclass(frozen=True)
class Reckoned:
    """One row.

    Attributes:
        gpus: n.
        images: of a step, of all GPUs.
        allreduce: seconds of ours.
        other: seconds for a hundred million weights.
        step: seconds of ours.
        efficiency: computing images over all of a step, of ours.
        other_efficiency: the same with the other's allreduce and no optimiser's step.
        sent: bytes of each GPU a step.
        dollars: for a thousand million images.
    """

    gpus: int
    images: int
    allreduce: float
    other: float
    step: float
    efficiency: float
    other_efficiency: float
    sent: float
    dollars: float


def reckon(gpus: int, images: int, measured: Measured, assumed: Assumed) -> Reckoned:
    """A step of so many images on so many GPUs."""
    # The slowest has a row more where they cannot be shared out evenly.
    computing = math.ceil(images / gpus) * measured.image / assumed.speed
    ours = allreduce(gpus, BYTES * measured.numbers, assumed)
    other = allreduce(gpus, BYTES * WEIGHTS, assumed)
    step = computing + measured.optimizer + ours
    return Reckoned(
        gpus,
        images,
        ours,
        other,
        step,
        computing / step,
        computing / (computing + other),
        2 * (gpus - 1) / gpus * BYTES * measured.numbers,
        IMAGES / images * step * gpus / 3600 * assumed.price,
    )


def allreduce(gpus: int, size: int, assumed: Assumed) -> float:
    """Seconds, by the formula above."""
    return 2 * math.log2(gpus) * assumed.latency + 2 * (gpus - 1) / gpus * size / assumed.bandwidth


def measure(repeats: int) -> Measured:
    """All three."""
    network = ImageNetworkConfig().build()
    images = torch.rand(EACH, 28, 28, generator=torch.Generator().manual_seed(0))

    def computed() -> None:
        network.zero_grad()
        network.of_prepared(images).square().mean().backward()

    image = median(computed, repeats) / EACH
    optimizer = EigenbasisAdam(network.parameters(), 1e-6)
    every = optimizer.param_groups[0]["every"]
    # So many steps that the basis is brought up to date once in each sample, and past the first, which costs more.
    several = median(lambda: [optimizer.step() for _ in range(every)], max(3, repeats // 5))
    return Measured(network.trained_numbers, image, several / every, between(network.trained_numbers, repeats))


def median(work: Callable[[], object], repeats: int) -> float:
    """Seconds of the processor, whatever else runs on the machine, after one time that is not counted."""
    return statistics.median(_taken(work, repeats, time.process_time))


def _taken(work: Callable[[], object], repeats: int, clock: Callable[[], float]) -> list[float]:
    work()
    taken = []
    for _ in range(repeats):
        began = clock()
        work()
        taken.append(clock() - began)
    return taken


def between(numbers: int, repeats: int) -> float:
    """An allreduce between two processes of this machine over gloo."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(_meet, (folder, numbers, repeats), nprocs=2)
        return float((Path(folder) / "seconds").read_text())


def _meet(rank: int, folder: str, numbers: int, repeats: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=(Path(folder) / "meeting").as_uri(), rank=rank, world_size=2)
    gradient: Tensor = torch.zeros(numbers)
    # The quickest: on a machine that has other work the others wait for that, and not for each other.
    seconds = min(_taken(lambda: dist.all_reduce(gradient), 20 * repeats, time.perf_counter))
    if rank == 0:
        (Path(folder) / "seconds").write_text(str(seconds))
    dist.barrier()
    # Without gloo's own end, which now and then never comes.
    os._exit(0)


@app.command()
def scale(
    speed: Annotated[float, typer.Option(help="Assumed: a GPU's images over those of one core here.")] = 100.0,
    latency: Annotated[float, typer.Option(help="Assumed: microseconds of a message.")] = 10.0,
    bandwidth: Annotated[float, typer.Option(help="Assumed: GB a second of each GPU.")] = 25.0,
    price: Annotated[float, typer.Option(help="Assumed: dollars of a GPU for an hour.")] = 3.0,
    repeats: Annotated[int, typer.Option(min=1, help="Samples of each.")] = 15,
    out: Annotated[Path, typer.Option(help="Folder of scale.json.")] = Path("runs/scale"),
    publish: Annotated[Path | None, typer.Option(help="Fill scale.md of this docs folder, too.")] = None,
) -> None:
    """Reckon what 8, 64 and 1,000 GPUs cost and send."""
    try:
        if publish is not None:
            check(publish / "scale.md", "scale")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    torch.set_num_threads(1)
    measured = measure(repeats)
    assumed = Assumed(speed, 1e-6 * latency, 1e9 * bandwidth, price)
    sizes = [(n, EACH * n) for n in GPUS] + [(n, TOGETHER) for n in GPUS]
    rows = [reckon(n, images, measured, assumed) for n, images in sizes]
    content = {"measured": asdict(measured), "assumed": asdict(assumed), "rows": [asdict(row) for row in rows]}
    text = (json.dumps(content, indent=1) + "\n").encode()
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "scale.json", text)
    made, said = table(rows), sentence(measured, assumed)
    if publish is not None:
        write_atomically(publish / "results" / "scale.json", text)
        fill(publish / "scale.md", "scale", f"{markdown(made)}\n\n{said}")
    Console(width=160).print(made)
    typer.echo(said)


def table(rows: list[Reckoned]) -> Table:
    """A row for each number of GPUs and images."""
    made = Table(
        "GPUs", "images a step", "allreduce, µs", "one of 400 MB, ms", "step, ms", "of it images", "were it 400 MB",
        "sent by a GPU a step, kB", "dollars for 10⁹ images", title="Reckoned, not measured",
    )  # fmt: skip
    for row in rows:
        made.add_row(
            f"{row.gpus:,}", f"{row.images:,}", f"{1e6 * row.allreduce:.0f}", f"{1e3 * row.other:.0f}",
            f"{1e3 * row.step:.2f}", f"{row.efficiency:.0%}", f"{row.other_efficiency:.0%}", f"{row.sent / 1e3:.1f}",
            f"{row.dollars:,.0f}",
        )  # fmt: skip
    return made


def sentence(measured: Measured, assumed: Assumed) -> str:
    """What the table stands on."""
    return (
        f"Measured on one CPU core: {1e6 * measured.image:.0f} µs an image forward and backward, "
        f"{1e3 * measured.optimizer:.2f} ms a step of the optimiser, {1e6 * measured.allreduce:.0f} µs an allreduce of "
        f"{measured.numbers} numbers between two processes over gloo. Assumed: a GPU does {assumed.speed:g} times as "
        f"many images as the core, a message takes {1e6 * assumed.latency:g} µs, each GPU sends "
        f"{assumed.bandwidth / 1e9:g} GB/s and costs {assumed.price:g} dollars an hour; the optimiser's step takes "
        "on a GPU what it takes on the core; no message is hidden behind computing."
    )


if __name__ == "__main__":
    app()
