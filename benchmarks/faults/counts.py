"""How often something was done, and what was lost: the record, and the table for the terminal."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.faults.trust import fill_trust
from cde_nets.atomic import write_atomically


@dataclass
class Count:
    """What became of one run, or of the calls of many names, under one fault.

    Attributes:
        run: its name.
        fault: what was done to it.
        tried: how often; None where this machine does not allow it.
        resumed: how often the command, given again, came to its end; None where nothing is to be given again.
        identical: how often with exactly the numbers of the undisturbed run; for a call, how often it was met rightly.
        clear: how often it ended in an error in words; None where the fault leaves no time for words.
        left: temporary files that nobody will rename.
        lost: what was damaged, differed or failed, in words.
    """

    run: str
    fault: str
    tried: int | None = 0
    resumed: int | None = 0
    identical: int = 0
    clear: int | None = 0
    left: int = 0
    lost: list[str] = field(default_factory=list)

    def ended(self, differs: str, faults: int = 1) -> None:
        """A run came to its end after so many faults: with the same numbers, or it is said what differs."""
        self.resumed = (self.resumed or 0) + faults
        if not differs:
            self.identical += faults
        else:
            self.lost.append(differs)


def leave(name: str, counts: list[Count], seed: int, out: Path, publish: Path | None, *, as_json: bool) -> None:
    """Write faults_<name>.json to a folder and, where docs are given, there and to its page; print it.

    Raises:
        typer.Exit: with 1, at the end, where something was lost.
    """
    content = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "seed": seed,
        "system": platform.system(),
        "torch": torch.__version__,
        "rows": [asdict(count) for count in counts],
    }
    text = (json.dumps(content, indent=1) + "\n").encode()
    for folder in (out, *([] if publish is None else [publish / "results"])):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"faults_{name}.json", text)
    if publish is not None:
        fill_trust(publish)
    if as_json:
        typer.echo(json.dumps(content))
    else:
        console = Console()
        (console if console.is_terminal else Console(width=160)).print(table(counts))
    if any(count.lost for count in counts):
        raise typer.Exit(1)


def table(counts: list[Count]) -> Table:
    """A row for each fault of each run, and what was lost."""
    made = Table("run", "fault", "tried", "resumed", "identical", "error in words", "temporary files", "lost")
    for count in counts:
        resumed, words = ("" if value is None else str(value) for value in (count.resumed, count.clear))
        tried = "not allowed here" if count.tried is None else str(count.tried)
        made.add_row(
            count.run, count.fault, tried, resumed, str(count.identical), words, str(count.left),
            "\n".join(count.lost) or "nothing",
        )  # fmt: skip
    made.caption = (
        "identical: bit for bit the numbers of a run that nothing was done to; of calls, those that were met rightly"
    )
    return made
