"""A command in a process of its own, and what is done to it there."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from benchmarks.faults.runs import JOBS

# A command that takes longer hangs.
PATIENCE = 300.0


@dataclass(frozen=True)
class Fault:
    """What happens to the process.

    Attributes:
        step: it kills itself at this step of writing files, counted from 0: a temporary file made, filled, about to be
            renamed, renamed.
        seconds: it is killed after so many.
        bytes: no file may become larger.
    """

    step: int | None = None
    seconds: float | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: its exit code; -9 where it was killed.
        said: on standard error.
        steps: of writing files that it took.
    """

    code: int
    said: str
    steps: int

    @property
    def clear(self) -> bool:
        """Whether it ended with a message instead of a traceback."""
        return self.code in (1, 2) and "error" in self.said.lower() and "Traceback" not in self.said


def run(name: str, folder: Path, notes: Path, fault: Fault | None = None) -> Ended:
    """Run a job's command in its folder.

    Args:
        name: of the job.
        folder: of the run.
        notes: a folder for what the process says; one that can be written whatever happens to the other.
        fault: what is done to it.

    Raises:
        TimeoutError: it has not come to an end in five minutes, and was killed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.faults.preload"])
    fault = fault or Fault()
    process: ForkServerProcess = context.Process(target=_work, args=(name, folder, notes, fault))
    process.start()
    process.join(PATIENCE if fault.seconds is None else fault.seconds)
    late = process.is_alive()
    if late:
        process.kill()
        process.join()
    if late and fault.seconds is None:
        raise TimeoutError(f"{name} has not come to an end in {PATIENCE:g} s; it said: {_text(notes / 'said')}")
    assert process.exitcode is not None
    return Ended(process.exitcode, _text(notes / "said"), len(_text(notes / "steps")))


def _work(name: str, folder: Path, notes: Path, fault: Fault) -> None:
    from cde_nets.cli import main

    for stream, file in ((sys.stdout, os.devnull), (sys.stderr, notes / "said")):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
    job = JOBS[name]
    job.shrink()
    _count_steps(os.open(notes / "steps", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), fault.step)
    if fault.bytes is not None:
        # Without the signal the system's answer is an error, as on a full disk.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.bytes, resource.RLIM_INFINITY))
    sys.argv = ["cde-nets", *job.command(folder)]
    main()


def _count_steps(notes: int, last: int | None) -> None:
    """Make every step of `write_atomically` one at which the process may kill itself."""
    taken = 0

    def step() -> None:
        nonlocal taken
        if taken == last:
            os.kill(os.getpid(), signal.SIGKILL)
        taken += 1
        # A file of one byte more may be too large: then the count ends, and nothing else.
        with contextlib.suppress(OSError):
            os.write(notes, b".")

    def around(call: Callable[..., Any], *, before: bool) -> Callable[..., Any]:
        def called(*given: Any, **options: Any) -> Any:
            if before:
                step()
            done = call(*given, **options)
            step()
            return done

        return called

    tempfile.mkstemp = around(tempfile.mkstemp, before=False)
    os.fsync = around(os.fsync, before=False)
    Path.replace = around(Path.replace, before=True)  # type: ignore[method-assign]


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
