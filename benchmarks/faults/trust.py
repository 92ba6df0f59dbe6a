"""The table of docs/trust.md, from what the commands of this package and others have left in docs/results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from experiments.pages import fill

MARK = "faults kill"
AGAIN = "`python -m benchmarks.faults kill`"


def fill_trust(docs: Path) -> None:
    """Fill the page's table of kills and full disks from results/faults_kill.json.

    Raises:
        ValueError: the page has no place for it.
    """
    fill(docs / "trust.md", MARK, markdown(json.loads((docs / "results" / "faults_kill.json").read_text())))


def markdown(content: dict[str, Any]) -> str:
    """A line for each fault: how often it was tried, on which runs, and what was lost."""
    lines = ["| fault | times tried | lost | how to run it again |", "| --- | ---: | ---: | --- |"]
    rows = content["rows"]
    for fault in dict.fromkeys(row["fault"] for row in rows):
        some = [row for row in rows if row["fault"] == fault]
        tried = [row for row in some if row["tried"] is not None]
        times = sum(row["tried"] for row in tried)
        lost = times - sum(row["identical"] for row in tried)
        names = ", ".join(row["run"] for row in some)
        lines.append(f"| {fault}: {names} | {times if tried else 'not allowed there'} | {lost} | {AGAIN} |")
    return "\n".join(lines) + f"\n\nSeed {content['seed']}, {content['date']}, torch {content['torch']}."
