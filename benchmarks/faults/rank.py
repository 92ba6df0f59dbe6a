"""One process of a training under torchrun, on made images; where the environment says so it is killed, once.

    torchrun --nproc-per-node 2 -m benchmarks.faults.rank train mnist --out FOLDER

FAULT_RANK and FAULT_SECONDS say which process kills itself and when, counted from the command's start; FAULT_NOTES
names a file to which the first process writes how long the command took.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from benchmarks.faults.runs import JOBS


def main() -> None:
    """Run `cde-nets` with the arguments given."""
    from cde_nets.cli import main as command

    JOBS["train"].shrink()
    if os.environ.get("FAULT_RANK") == os.environ["RANK"] and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        timer = threading.Timer(float(os.environ["FAULT_SECONDS"]), os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()
    began = time.perf_counter()
    try:
        command()
    finally:
        if os.environ["RANK"] == "0" and "FAULT_NOTES" in os.environ:
            Path(os.environ["FAULT_NOTES"]).write_text(str(time.perf_counter() - began))


if __name__ == "__main__":
    main()
