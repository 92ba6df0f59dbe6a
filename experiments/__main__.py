"""Every experiment in its --quick form, one after the other: what it took, and how it ended.

    python -m experiments
    python -m experiments one_point logistic

Each runs in a process of its own, in a scratch folder, as `cde-nets run NAME --quick --json`; what it prints must be
one JSON object, and it must leave a figure. Seconds are of the processor, user and system together, so that a busy
machine counts as an idle one.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cde_nets.cli.console import FAILED, Json, notify
from cde_nets.cli.experiments import experiments
from experiments.shown import progress, say

app = typer.Typer(add_completion=False)

# Of the processor, for each.
LIMIT = 60.0


@dataclass(frozen=True)
class Ran:
    """One experiment.

    Attributes:
        name: of it.
        seconds: of the processor.
        elapsed: by the clock.
        code: its exit code.
        wrong: what is not as it should be; empty where all is.
    """

    name: str
    seconds: float
    elapsed: float
    code: int
    wrong: str


@app.command()
def quick(
    names: Annotated[list[str] | None, typer.Argument(help="Which; all where none is named.")] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(envvar="CDE_NETS_DATA", help="Folder of MNIST and Cora; without it there are stand-ins."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of what they write; a scratch one where None.")] = None,
    as_json: Json = False,
) -> None:
    """Run experiments with --quick and print a table; exits with 1 where one fails or takes over a minute."""
    ours = [name for name, point in experiments().items() if point.module.startswith("experiments.")]
    unknown = sorted({*(names or ())} - {*ours})
    if unknown:
        raise typer.BadParameter(f"no experiment is called {', '.join(unknown)}; there are {', '.join(ours)}.")
    with tempfile.TemporaryDirectory() as scratch, progress() as bar:
        folder = (out or Path(scratch)).absolute()
        found = [_run(name, folder, data_dir) for name in bar.track(names or ours, description="quick")]
    say(as_json, {"experiments": [asdict(one) for one in found]}, _table(found))
    bad = [one for one in found if one.wrong]
    for one in bad:
        notify(f"{one.name}: {one.wrong}")
    if bad:
        raise typer.Exit(FAILED)


def _run(name: str, folder: Path, data_dir: Path | None) -> Ran:
    own = folder / name
    own.mkdir(parents=True, exist_ok=True)
    # A child's own environment: relative paths would be looked up in its folder.
    named = {} if data_dir is None else {"CDE_NETS_DATA": str(data_dir.absolute())}
    command = [sys.executable, "-m", "cde_nets", "run", name, "--quick", "--json", "--out", str(own)]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=own, env=_environment(named), capture_output=True, text=True, check=False)  # noqa: S603
    elapsed, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Ran(name, seconds, elapsed, done.returncode, _wrong(done, own, seconds))


def _environment(more: dict[str, str]) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **more}


def _wrong(done: subprocess.CompletedProcess[str], folder: Path, seconds: float) -> str:
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return f"exit code {done.returncode}: {' '.join(lines[-3:])}"
    try:
        whole = isinstance(json.loads(done.stdout), dict)
    except json.JSONDecodeError:
        whole = False
    if not whole:
        return f"standard output is {done.stdout[:60]!r}, expected one JSON object"
    if not [*folder.rglob("*.png")]:
        return "no figure was drawn"
    return f"{seconds:.0f} s of the processor, expected at most {LIMIT:.0f}" if seconds > LIMIT else ""


def _table(found: list[Ran]) -> Table:
    table = Table("experiment", "CPU seconds", "elapsed", "exit code", "")
    for one in found:
        table.add_row(one.name, f"{one.seconds:.1f}", f"{one.elapsed:.1f}", str(one.code), "!" if one.wrong else "")
    total = sum(one.seconds for one in found), sum(one.elapsed for one in found)
    table.add_section()
    table.add_row("all", *(f"{seconds:.1f}" for seconds in total), "", "")
    return table


if __name__ == "__main__":
    app()
