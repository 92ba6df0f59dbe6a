"""Feed every reader of files with damaged ones: `python -m benchmarks.faults feed`.

Each input must be refused by an error that the reader documents, or be read as something independent reads it, within
a time and within a memory, and without running code, unpickling, opening sockets or writing outside a scratch folder.
Anything else is a fault; its input is kept in --out, and is made again by the seed and its number.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.faults.trust import PAGE, fill_trust
from benchmarks.faults.worker import Fault, Told, randomness, serve
from benchmarks.page import markdown
from cde_nets.atomic import write_atomically
from experiments.command import named
from experiments.pages import check, fill

PART = "faults feed"
# A process that says nothing for so many seconds more than an input may take is ended from outside: what waits takes no
# time of the processor, and neither does what the machine gives to others.
_PATIENCE = 120.0
_MOST_KEPT = 200


@dataclass
class Count:
    """Of one reader's inputs."""

    reader: str
    says: str
    tried: int = 0
    refused: int = 0
    accepted: int = 0
    faults: int = 0
    slowest: float = 0.0
    found: list[Fault] = field(default_factory=list)

    def add(self, told: Told) -> None:
        """One more input."""
        self.tried += 1
        self.refused += told.refused
        self.accepted += not told.refused and told.fault is None
        self.slowest = max(self.slowest, told.seconds)
        if told.fault is not None:
            self.faults += 1
            self.found.append(told.fault)


def feed(
    count: Annotated[int, typer.Option(min=1, help="Inputs in all, as many for each reader.")] = 100_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the damage.")] = 0,
    readers: Annotated[str, typer.Option(help="Names, with commas between; all where empty.")] = "",
    seconds: Annotated[float, typer.Option(min=0.1, help="Of the processor, that an input may take.")] = 10.0,
    megabytes: Annotated[int, typer.Option(min=64, help="That a process may grow by.")] = 1024,
    out: Annotated[Path, typer.Option(help="Folder of feed.json and of the inputs that were faults.")] = Path(
        "runs/faults"
    ),
    publish: Annotated[Path | None, typer.Option(help="Fill trust.md of this docs folder, too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, not as a table.")] = False,
) -> None:
    """Feed readers with damaged files; exits with 1 where one is met by a fault."""
    from benchmarks.faults.readers import READERS

    names = named(readers, READERS, "--readers")
    if publish is not None:
        if readers:
            raise typer.BadParameter("--publish fills a whole table: leave --readers out.")
        try:
            check(publish / PAGE, PART)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    counts = []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar, tempfile.TemporaryDirectory() as top:
        task = bar.add_task("feeding", total=count)
        for place, name in enumerate(names):
            # As many each, and what is left over to the first.
            share = count // len(names) + (place < count % len(names))
            made = READERS[name](_folder(top))
            counts.append(Count(name, made.says))
            bar.update(task, description=name)
            for told in inputs(name, seed, share, (seconds, megabytes), top):
                counts[-1].add(told)
                if told.fault is not None and counts[-1].faults <= _MOST_KEPT:
                    raw = made.make(randomness(seed, name, told.number))
                    write_atomically(out / f"{name}-{told.number}", raw)
                bar.advance(task)
            if not bar.console.is_terminal:
                bar.console.print(f"{name}: {counts[-1].tried} tried, {counts[-1].faults} faults", highlight=False)
    result = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "seed": seed,
        "torch": torch.__version__,
        "count": sum(one.tried for one in counts),
        "seconds_an_input": seconds,
        "megabytes": megabytes,
        "seconds": round(time.perf_counter() - began, 1),
        "readers": [asdict(one) for one in counts],
    }
    text = (json.dumps(result, indent=1) + "\n").encode()
    write_atomically(out / "feed.json", text)
    if publish is not None:
        fill(publish / PAGE, PART, markdown(table(result)))
        (publish / "results").mkdir(parents=True, exist_ok=True)
        write_atomically(publish / "results" / "faults_feed.json", text)
        fill_trust(publish)
    if as_json:
        typer.echo(text.decode(), nl=False)
    else:
        Console().print(table(result))
        for kind, fault in _examples(counts):
            Console().print(f"{fault.reader}-{fault.number}: {kind}: {fault.says}", markup=False, highlight=False)
    if any(one.faults for one in counts):
        raise typer.Exit(1)


def inputs(name: str, seed: int, count: int, limits: tuple[float, int], top: str) -> Iterator[Told]:
    """What became of a reader's inputs; a process that dies or hangs is followed by another at the next input."""
    spawn = multiprocessing.get_context("forkserver")
    # Imported once, by a process that has no threads and from which the others are forked.
    spawn.set_forkserver_preload(["benchmarks.faults.readers"])
    first = 0
    while first < count:
        folder = _folder(top)
        ours, theirs = spawn.Pipe(duplex=False)
        current = spawn.Value("q", -1)
        process = spawn.Process(
            target=serve, args=(name, seed, first, count, limits, folder, theirs, current), daemon=True
        )
        process.start()
        theirs.close()
        quiet = time.monotonic()
        ended = False
        while not ended and first < count:
            try:
                if ours.poll(0.5):
                    told: Told = ours.recv()
                    yield told
                    first, quiet = told.number + 1, time.monotonic()
                    continue
            except EOFError:
                ended = True
            # Before its first input a process imports, which has no limit.
            if current.value >= 0 and time.monotonic() - quiet > limits[0] + _PATIENCE:
                process.kill()
                ended = True
        ours.close()
        process.join(10)
        if process.is_alive():
            process.kill()
            process.join()
        if first < count:
            if current.value < 0:
                raise RuntimeError(f"the process for {name} ended with {process.exitcode} before its first input")
            late = time.monotonic() - quiet > limits[0] + _PATIENCE
            kind, said = ("hang", "ended from outside") if late else ("crash", f"exit code {process.exitcode}")
            yield Told(first, False, Fault(name, first, kind, said), time.monotonic() - quiet)
            first += 1


def _folder(top: str) -> Path:
    """A new one: what a process left behind is no other's."""
    return Path(tempfile.mkdtemp(dir=top))


def table(result: dict[str, Any]) -> Table:
    """A row for each reader."""
    rows = result["readers"]
    made = Table(
        "reader",
        *("tried", "refused", "read rightly", "faults", "slowest, s"),
        title=f"{result['count']:,} damaged files from seed {result['seed']}, at most {result['seconds_an_input']:g} s "
        f"and {result['megabytes']:,} MiB each, on {result['date']}, in {result['seconds']:.0f} s",
    )
    for row in rows:
        counts = (f"{row[name]:,}" for name in ("tried", "refused", "accepted", "faults"))
        made.add_row(row["says"], *counts, f"{row['slowest']:.2f}")
    sums = (f"{sum(row[name] for row in rows):,}" for name in ("tried", "refused", "accepted", "faults"))
    made.add_row("all", *sums, f"{max(row['slowest'] for row in rows):.2f}")
    return made


def _examples(counts: list[Count]) -> Iterator[tuple[str, Fault]]:
    """A fault of each sort: of a reader, a kind and a place."""
    seen: Counter[tuple[str, str, str]] = Counter()
    for one in counts:
        for fault in one.found:
            sort = (fault.reader, fault.kind, fault.says.partition(":")[0] + fault.says.rpartition("(")[2])
            seen[sort] += 1
            if seen[sort] == 1:
                yield fault.kind, fault
