"""The table of docs/trust.md, from what the commands of this package have left in docs/results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from experiments.pages import fill

PAGE, MARK = "trust.md", "faults"
HEAD = ("| fault | times tried | lost | how to run it again |", "| --- | ---: | ---: | --- |")


def fill_trust(docs: Path) -> None:
    """Fill the page's table of all faults, from as many of results/faults_*.json as there are.

    Raises:
        ValueError: the page has no place for it.
    """
    records = {name: docs / "results" / f"faults_{name}.json" for name in ("kill", "workers", "feed", "arguments")}
    fill(
        docs / PAGE,
        MARK,
        markdown({name: json.loads(file.read_text()) for name, file in records.items() if file.exists()}),
    )


def markdown(records: dict[str, dict[str, Any]]) -> str:
    """A line for each fault: how often it was tried, on what, and what was lost.

    Args:
        records: contents of the commands' files, by the command's name.
    """
    lines, said = [*HEAD], []
    for name, content in records.items():
        again = f"`python -m benchmarks.faults {name}`"
        found = _fed(content) if name == "feed" else _struck(content)
        lines += [f"| {fault} | {times} | {lost} | {again} |" for fault, times, lost in found]
        said.append(f"{name}: seed {content['seed']}, {content['date']}, torch {content['torch']}")
    return "\n".join(lines) + f"\n\n{'; '.join(said)}."


def _struck(content: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Runs: lost is what did not end with the numbers of an undisturbed run."""
    found = []
    for fault in dict.fromkeys(row["fault"] for row in content["rows"]):
        some = [row for row in content["rows"] if row["fault"] == fault]
        tried = [row for row in some if row["tried"] is not None]
        times = sum(row["tried"] for row in tried)
        lost = times - sum(row["identical"] for row in tried)
        names = "; ".join(row["run"] for row in some)
        found.append((f"{fault}: {names}", f"{times:,}" if tried else "not allowed there", f"{lost:,}"))
    return found


def _fed(content: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Files: lost is what was met neither by an error that is documented nor by a right result."""
    rows = content["readers"]
    times, lost = (sum(row[name] for row in rows) for name in ("tried", "faults"))
    return [(f"file damaged, of {len(rows)} sorts", f"{times:,}", f"{lost:,}")]
