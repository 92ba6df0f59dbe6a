"""Long runs killed at random moments, on full disks and in read-only folders: is anything lost?

    python -m benchmarks.faults kill
    python -m benchmarks.faults kill --runs train,citation --kills 10 --seed 1

First each command runs to its end undisturbed. Then it is killed by SIGKILL, every other time at a random moment, every
other at a random step of writing its files (the temporary file made, filled, about to be renamed, renamed), now and
then twice; every file it left must be whole. The command is given again, and must end with exactly the numbers of the
undisturbed run. The same with a limit on the size of files, on a small disk of its own that fills up, and with the
folder made read-only after a kill: then the command must also end with an error in words. The disk is a tmpfs, which
only root may mount: elsewhere these two are reported as not tried. Writes faults_kill.json and prints a table.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from benchmarks.faults import child, files
from benchmarks.faults.child import Ended, Fault
from benchmarks.faults.counts import Count, leave
from benchmarks.faults.runs import JOBS
from experiments.command import named

app = typer.Typer(add_completion=False)

KILLED, LIMITED, FULL, READ_ONLY = "killed", "file size limited", "disk full", "folder read-only"
DISTURBED = (LIMITED, FULL, READ_ONLY)


@dataclass(frozen=True)
class Whole:
    """The undisturbed run.

    Attributes:
        numbers: all that it left.
        steps: of writing files.
        seconds: it took.
        bytes: of its largest file, and of all.
    """

    numbers: dict[str, Any]
    steps: int
    seconds: float
    bytes: tuple[int, int]


class Bench:
    """Runs in folders of their own under one.

    Args:
        folder: for all files.
        seed: of moments and sizes.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self._made = 0

    def whole(self, name: str) -> Whole:
        """Run a command undisturbed.

        Raises:
            RuntimeError: it fails.
        """
        place, notes = self._place()
        began = time.perf_counter()
        ended = child.run(name, place, notes)
        seconds = time.perf_counter() - began
        if ended.code:
            raise RuntimeError(f"{name} failed before anything was done to it: {ended.said}")
        sizes = [path.stat().st_size for path in place.rglob("*") if path.is_file()]
        return Whole(files.numbers(place), ended.steps, seconds, (max(sizes), sum(sizes)))

    def kill(self, name: str, whole: Whole, count: Count, number: int) -> int:
        """Kill a run, now and then twice, and let it come to its end; how often it was killed."""
        random = Random(f"{self.seed} {name} {number}")
        place, notes = self._place()
        killed = 0
        for _ in range(random.choice((1, 1, 2))):
            at_step = number % 2 == 0
            fault = (
                Fault(step=random.randrange(whole.steps))
                if at_step
                else Fault(seconds=random.uniform(0.0, whole.seconds))
            )
            ended = child.run(name, place, notes, fault)
            if ended.code == 0:
                # It was quicker than the undisturbed run, or had less to do than that.
                break
            if ended.code != -signal.SIGKILL:
                count.lost.append(f"{fault}: ended with {ended.code}: {ended.said[-500:]}")
            killed += 1
            count.lost += [f"{fault}: {words}" for words in files.damaged(place)]
        count.left += files.parts(place)
        if killed:
            count.tried = (count.tried or 0) + killed
            # A kill is met if the run it struck is.
            self._finish(name, whole, count, place, notes, killed)
        return killed

    def limit(self, name: str, whole: Whole, count: Count, number: int) -> None:
        """No file may become larger than a part of what the largest one is."""
        random = Random(f"{self.seed} {name} limit {number}")
        place, notes = self._place()
        fault = Fault(bytes=random.randrange(whole.bytes[0]))
        self._disturbed(count, place, child.run(name, place, notes, fault), str(fault))
        self._finish(name, whole, count, place, notes)

    def fill(self, name: str, whole: Whole, count: Count, number: int) -> None:
        """A disk of a part of the size that all files need."""
        random = Random(f"{self.seed} {name} fill {number}")
        place, notes = self._place()
        size = random.randrange(4096, max(whole.bytes[1], 4097))
        with disk(place, size) as again:
            ended = child.run(name, place / "run", notes)
            if ended.code:
                self._disturbed(count, place, ended, f"a disk of {size} bytes")
                again("size=64m")
                self._finish(name, whole, count, place / "run", notes)

    def protect(self, name: str, whole: Whole, count: Count, number: int) -> None:
        """Read-only from the moment on at which the run was killed."""
        random = Random(f"{self.seed} {name} protect {number}")
        place, notes = self._place()
        with disk(place, 1 << 26) as again:
            # Never after the last step: something is left to be written.
            child.run(name, place / "run", notes, Fault(step=random.randrange(whole.steps - 2)))
            again("ro")
            self._disturbed(count, place, child.run(name, place / "run", notes), "a read-only folder")
            again("rw")
            self._finish(name, whole, count, place / "run", notes)

    def _disturbed(self, count: Count, place: Path, ended: Ended, fault: str) -> None:
        count.tried = (count.tried or 0) + 1
        if ended.clear:
            count.clear = (count.clear or 0) + 1
        else:
            count.lost.append(f"{fault}: ended with {ended.code} and no error in words: {ended.said[-500:]}")
        count.left += files.parts(place)
        count.lost += [f"{fault}: {words}" for words in files.damaged(place)]

    def _finish(self, name: str, whole: Whole, count: Count, place: Path, notes: Path, faults: int = 1) -> None:
        ended = child.run(name, place, notes)
        if ended.code:
            count.lost.append(f"not finished: {ended.said[-500:]}")
            return
        count.ended(files.differing(files.numbers(place), whole.numbers), faults)
        shutil.rmtree(place)

    def _place(self) -> tuple[Path, Path]:
        self._made += 1
        place, notes = self.folder / f"{self._made}", self.folder / f"{self._made}-notes"
        notes.mkdir(parents=True)
        return place, notes


@contextmanager
def disk(place: Path, size: int) -> Iterator[Any]:
    """A disk of its own in a folder, and a way to mount it again with other options.

    Raises:
        PermissionError: this user may mount nothing.
    """
    place.mkdir(parents=True)

    def mount(*arguments: str) -> None:
        done = subprocess.run(["/bin/mount", *arguments, str(place)], capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise PermissionError(f"mount: {done.stderr.strip()}")

    try:
        mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")
    except FileNotFoundError as error:
        raise PermissionError("there is no /bin/mount") from error
    try:
        yield lambda options: mount("-o", f"remount,{options}")
    finally:
        subprocess.run(["/bin/umount", str(place)], check=True)  # noqa: S603


@app.command()
def kill(
    runs: Annotated[str, typer.Option(help="Names with commas between; all where empty.")] = "",
    kills: Annotated[int, typer.Option(min=1, help="Of all runs together.")] = 50,
    disturbances: Annotated[int, typer.Option(min=0, help="Of each other kind, for each run.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Of all moments and sizes.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of faults_kill.json.")] = Path("runs/faults"),
    publish: Annotated[Path | None, typer.Option(help="Write the results and trust.md of this docs folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Kill long runs at random moments, fill their disks, and count what is lost."""
    names = named(runs, JOBS, "--runs")
    if publish is not None and set(names) != set(JOBS):
        raise typer.BadParameter("--publish fills a whole table: leave --runs out.")
    columns = TextColumn("{task.description:>14}"), BarColumn(), TextColumn("{task.completed}/{task.total}")
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar,
    ):
        task = bar.add_task("", total=kills + len(DISTURBED) * disturbances * len(names))
        counts = measure(Bench(Path(folder), seed), names, kills, disturbances, bar, task)
    leave("kill", counts, seed, out, publish, as_json=as_json)


def measure(bench: Bench, names: list[str], kills: int, disturbances: int, bar: Progress, task: TaskID) -> list[Count]:
    """Every fault of every run, in turn."""
    wholes, counts = {}, []
    for place, name in enumerate(names):
        bar.update(task, description=name)
        whole = wholes[name] = bench.whole(name)
        killed = Count(name, KILLED, clear=None)
        counts.append(killed)
        # Shares that differ by one at most.
        wanted, number = kills * (place + 1) // len(names) - kills * place // len(names), 0
        while (killed.tried or 0) < wanted:
            bar.advance(task, bench.kill(name, whole, killed, number))
            number += 1
        for fault, disturb in zip(DISTURBED, (bench.limit, bench.fill, bench.protect), strict=True):
            count = Count(name, fault)
            counts.append(count)
            for again in range(disturbances):
                try:
                    disturb(name, whole, count, again)
                except PermissionError:
                    count.tried = count.clear = None
                bar.advance(task)
        # A file or a pipe, which shows no bar, is told, too.
        bar.console.print(f"{name}: {sum(len(one.lost) for one in counts if one.run == name)} lost", highlight=False)
    return counts


if __name__ == "__main__":
    app()
