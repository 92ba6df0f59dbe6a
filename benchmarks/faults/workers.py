"""One of two processes that work together is killed: does the other, or the next, end with the same numbers?

    python -m benchmarks.faults workers

Training: two processes under torchrun, one of them, now the first and now the second, killed by SIGKILL at a random
moment; torchrun gives the command again, and every number of the run must be, bit for bit, that of an undisturbed run
of two processes. Draws of `theory.generic` on two workers of a Dask cluster on this machine, one of them killed while
they draw: as many draws, as many proofs as in one process. Writes faults_workers.json and prints a table.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from random import Random
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.faults import files
from benchmarks.faults.counts import Count, leave
from benchmarks.faults.runs import JOBS
from theory import MonomialProgram, generic, monomial_exponents

TRAINING, DRAWS = "training, one of two processes", "draws, one of two workers"
KILLED = "killed"
# A run that takes longer hangs.
PATIENCE = 300.0
DRAWN = 60


def workers(
    kills: Annotated[int, typer.Option(min=1, help="Of each of the two.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of all moments.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of faults_workers.json.")] = Path("runs/faults"),
    publish: Annotated[Path | None, typer.Option(help="Write the results and trust.md of this docs folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Kill one of two processes under torchrun, and one of two Dask workers, and count what is lost."""
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise typer.BadParameter('workers of Dask need the extra dask: pip install "cde-nets[dask]"') from error
    columns = TextColumn("{task.description:>30}"), BarColumn(), TextColumn("{task.completed}/{task.total}")
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar,
    ):
        task = bar.add_task(TRAINING, total=2 * kills)
        counts = [training(Path(folder), kills, seed, lambda: bar.advance(task))]
        bar.update(task, description=DRAWS)
        counts.append(draws(kills, seed, lambda: bar.advance(task)))
    leave("workers", counts, seed, out, publish, as_json=as_json)


def training(folder: Path, kills: int, seed: int, done: Any) -> Count:
    """Kill one of two processes so many times, each time in a run of its own.

    Args:
        folder: of all runs.
        kills: how many.
        seed: of moments and processes.
        done: called after each kill.

    Raises:
        RuntimeError: the undisturbed run fails.
    """
    count = Count(TRAINING, KILLED, clear=None)
    notes = folder / "took"
    whole, code, said = _torchrun(folder / "whole", FAULT_NOTES=str(notes))
    if code:
        raise RuntimeError(f"training failed before anything was done to it: {said[-2000:]}")
    seconds, number = float(notes.read_text()), 0
    while (count.tried or 0) < kills:
        random = Random(f"{seed} torchrun {number}")
        rank, moment = number % 2, random.uniform(0.0, seconds)
        found, code, said = _torchrun(folder / f"{number}", FAULT_RANK=str(rank), FAULT_SECONDS=str(moment))
        number += 1
        if "exitcode: -9" not in said:
            if code:
                count.lost.append(f"ended with {code} before anything was done to it: {said[-500:]}")
            # It came to its end before its moment.
            continue
        count.tried = (count.tried or 0) + 1
        done()
        if code:
            count.lost.append(f"process {rank} after {moment:.2f} s: not finished: {said[-500:]}")
            continue
        differs = files.differing(found, whole)
        count.ended(differs and f"process {rank} after {moment:.2f} s: {differs}")
    return count


def _torchrun(place: Path, **env: str) -> tuple[dict[str, Any], int, str]:
    """Two processes train in a folder: the numbers they left, the exit code, what was said."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1")
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, *launcher, "-m", "benchmarks.faults.rank", *JOBS["train"].arguments, "--out", str(place)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A session of its own, so that its processes are ended with it.
        start_new_session=True,
    )
    try:
        said = process.communicate(timeout=PATIENCE)[1]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return files.numbers(place), process.returncode, said


def family(seed: int) -> MonomialProgram:
    """Three quadratic fields in the plane; of one seed in three a linear one, of which nothing can be proved."""
    if seed % 3 == 0:
        return MonomialProgram([[1, 0], [0, 1]], [[[1, 2], [3, 4]]])
    exponents = monomial_exponents(2, 2)
    # As long as a larger draw takes, so that a kill finds it at work.
    time.sleep(0.02)
    return MonomialProgram(exponents, np.random.default_rng(seed).standard_normal((3, 2, len(exponents))))


def draws(kills: int, seed: int, done: Any) -> Count:
    """Kill one of two workers so many times while they draw; arguments as of `training`."""
    from distributed import Client, LocalCluster
    from joblib import parallel_config

    count = Count(DRAWS, KILLED, clear=None)
    whole = generic(family, DRAWN, points=3, seed=seed)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster,
        Client(cluster) as client,
        parallel_config(backend="dask", client=client),
    ):
        began = time.perf_counter()
        generic(family, DRAWN, points=3, seed=seed, jobs=-1)
        seconds, number = time.perf_counter() - began, 0
        while (count.tried or 0) < kills:
            random = Random(f"{seed} dask {number}")
            number += 1
            client.wait_for_workers(2, timeout=PATIENCE)
            pids = sorted(client.run(os.getpid).values())
            moment = random.uniform(0.0, seconds)
            killed: list[int] = []

            def kill(pid: int = random.choice(pids), told: list[int] = killed) -> None:
                os.kill(pid, signal.SIGKILL)
                told.append(pid)

            timer = threading.Timer(moment, kill)
            timer.start()
            failed = ""
            try:
                found = generic(family, DRAWN, points=3, seed=seed, jobs=-1)
            except Exception as error:  # whatever the backend makes of it
                failed = f"after {moment:.2f} s: {type(error).__name__}: {str(error)[:500]}"
            timer.cancel()
            timer.join()
            if not killed:
                continue
            count.tried = (count.tried or 0) + 1
            done()
            if failed:
                count.lost.append(failed)
            else:
                count.ended("" if found == whole else f"after {moment:.2f} s: {found} instead of {whole}")
    return count
