"""The memory of forward and gradient through 1000 steps, each side in a process of its own.

    python -m benchmarks.flows.memory ours        # one side: prints one line of JSON

The peak is the largest resident set that the system has seen of the process (VmHWM). The baseline is the same
number after imports, data and a solve of eight rows in four steps; what is told is the growth.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import cde_nets as cn
from benchmarks.flows import torch_sides
from benchmarks.flows.record import Held
from benchmarks.flows.rows import Given, Row, draw
from benchmarks.flows.sides import agree
from benchmarks.flows.timing import once, spread

app = typer.Typer(add_completion=False)

ROW = Row("ridge", 32, 20, 1000, 256)
SMALL = Row("ridge", 32, 20, 4, 8)
# float32 through a thousand steps.
GRADIENT = 1e-3


@dataclass(frozen=True)
class Grown:
    """What a side's process prints.

    Attributes:
        megabytes: growth of the largest resident set over the baseline.
        baseline: megabytes.
        seconds: of every repeat.
        gradient: the control gradient, to compare with the other sides'.
    """

    megabytes: float
    baseline: float
    seconds: list[float]
    gradient: list[list[float]]


def _ours(gradient: cn.Gradient) -> Callable[[Given], Callable[[], Any]]:
    def build(given: Given) -> Callable[[], Any]:
        flow = cn.ControlledODE(given.fields, given.control(), "euler", gradient=gradient, throw=False)
        values = flow.control.get_parameter("values")

        def both() -> Any:
            values.grad = None
            flow(given.x).square().sum().backward()
            return values.grad

        return both

    return build


SIDES: dict[str, Callable[[Given], Callable[[], Any]]] = {
    "ours": _ours(cn.Discrete()),
    "ours, checkpointed": _ours(cn.Checkpointed()),
    "torchdiffeq": lambda given: torch_sides.torchdiffeq(given)[0].both,
    "torchdiffeq, u folded in": lambda given: torch_sides.torchdiffeq(given)[1].both,
}


@app.command()
def side(
    name: Annotated[str, typer.Argument(help=f"One of: {'; '.join(SIDES)}.")],
    repeats: Annotated[int, typer.Option(min=1, help="Timings after the measurement of memory.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Measure one side in this process."""
    if name not in SIDES:
        raise typer.BadParameter(f"There is no side {name!r}. There are: {'; '.join(SIDES)}.")
    torch.set_num_threads(threads)
    SIDES[name](draw(SMALL))()
    run = SIDES[name](draw(ROW))
    before = _largest()
    slopes = run().clone()
    grown = _largest() - before
    found = Grown(grown, before, [once(run) for _ in range(repeats)], slopes.tolist())
    sys.stdout.write(json.dumps(dataclasses.asdict(found)) + "\n")


def measure(peers: list[str], repeats: int, threads: int, *, tick: Callable[[], None]) -> tuple[Held, ...]:
    """All sides, one process after another; torchdiffeq where it is among the peers.

    Raises:
        DisagreementError: a side computes something else.
        RuntimeError: a process failed; with what it said.
    """
    found = {}
    for name in SIDES:
        if name.startswith("ours") or name.split(",")[0] in peers:
            found[name] = _apart(name, repeats, threads)
            tick()
    held = []
    for name, grown in found.items():
        agree(name, "control gradient", grown.gradient, found["ours"].gradient, GRADIENT)
        held.append(Held(name, ROW.name, grown.megabytes, grown.baseline, spread(grown.seconds)))
    return tuple(held)


def _apart(name: str, repeats: int, threads: int) -> Grown:
    command = ["-m", "benchmarks.flows.memory", name, "--repeats", str(repeats), "--threads", str(threads)]
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, *command], cwd=root, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"The process that measures the memory of {name!r} failed:\n{done.stderr[-2000:]}")
    return Grown(**json.loads(done.stdout))


def _largest() -> float:
    """Megabytes of the largest resident set of this process.

    Not Linux' ru_maxrss, which a process inherits from the one that started it: the benchmark is larger than its sides.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    # macOS counts in bytes, and anew for every process.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    app()
