"""Every public name called with every hostile argument: `python -m benchmarks.faults arguments`.

Each array of the table in `entries` in each of its forms, each option with each of the values that nobody means and
with random integers, floats and text. The tests take the same forms and values. Writes faults_arguments.json and
prints a table.
"""

from __future__ import annotations

import math
import resource
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from types import FrameType
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks.faults.counts import Count, leave
from benchmarks.faults.entries import ARRAYS, NUMBERS, judge_array, judge_number
from benchmarks.faults.entries.judge import HOSTILE, OTHER, SAME
from theory.machine import machine_memory

ARRAY, OPTION = "array in a hostile form", "option with a hostile value"
# Of the wall; what takes longer hangs.
SECONDS = 60
# What asks for more address space than the machine has memory would end this process, and others.
SPACE = machine_memory()


class LateError(BaseException):
    """A call took longer than it may."""


def arguments(
    draws: Annotated[int, typer.Option(min=0, help="Random values of each option, beside the listed ones.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of the random values.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of faults_arguments.json.")] = Path("runs/faults"),
    publish: Annotated[Path | None, typer.Option(help="Write the results and trust.md of this docs folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Call every public name with hostile arguments; exits with 1 where one is met by a fault."""
    torch.set_num_threads(1)
    if math.isfinite(SPACE):
        resource.setrlimit(resource.RLIMIT_AS, (int(SPACE), int(SPACE)))
    calls = [*_arrays(), *_options(draws, seed)]
    counts = {fault: Count(f"{len(table)} calls of public names", fault, resumed=None, clear=None)
              for fault, table in ((ARRAY, ARRAYS), (OPTION, NUMBERS))}  # fmt: skip
    with Progress(console=Console(stderr=True), transient=True) as bar, warnings.catch_warnings():
        # What NumPy and matplotlib say of huge numbers is no error.
        warnings.simplefilter("ignore")
        for fault, named, judge in bar.track(calls, description="arguments"):
            count = counts[fault]
            count.tried = (count.tried or 0) + 1
            wrong = _judged(judge)
            if wrong:
                count.lost.append(f"{named}: {wrong}")
            else:
                count.identical += 1
    leave("arguments", [*counts.values()], seed, out, publish, as_json=as_json)


def _arrays() -> Iterator[tuple[str, str, Callable[[], str]]]:
    for name, entry in ARRAYS.items():
        for form in (*SAME, *OTHER):
            yield ARRAY, f"{name}, {form}", partial(judge_array, entry, form)


def _options(draws: int, seed: int) -> Iterator[tuple[str, str, Callable[[], str]]]:
    for name, entry in NUMBERS.items():
        for key in sorted(entry.good):
            random = Random(f"{seed} {name} {key}")
            for value in (*HOSTILE, *(_drawn(random) for _ in range(draws))):
                said = f"{name}, {key}={value!r:.60}"
                yield OPTION, said, partial(judge_number, entry, key, value)


def _drawn(random: Random) -> Any:
    """Numbers of all sizes, and short text."""
    kind = random.randrange(3)
    if kind == 0:
        return random.choice((-1, 1)) * random.getrandbits(random.choice((3, 8, 31, 64, 100)))
    if kind == 1:
        return random.choice((-1.0, 1.0)) * 10.0 ** random.uniform(-320, 308)
    return "".join(chr(random.choice((random.randrange(32, 127), random.randrange(1, 0xD800)))) for _ in range(3))


def _judged(judge: Callable[[], str]) -> str:
    try:
        with in_time(SECONDS):
            return judge()
    except LateError:
        return f"more than {SECONDS} s"


@contextmanager
def in_time(seconds: int) -> Iterator[None]:
    """Within it, what takes longer by the clock raises LateError, which no handler of a reader's takes for its own."""

    def late(number: int, frame: FrameType | None) -> None:
        raise LateError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
