"""Runs that are done: a JSON line each, from their folders and from a file of earlier ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cde_nets.atomic import write_atomically
from cde_nets.train import Run
from experiments.frontier.plan import Entry
from experiments.kept import read_lines

Row = dict[str, Any]


def folder_of(out: Path, entry: Entry, seed: int) -> Path:
    """Of a run."""
    return out / entry.name / f"seed-{seed}"


def row_of(entry: Entry, seed: int, size: int, result: Mapping[str, Any]) -> Row:
    """A run's line: its result beside what it was a run of."""
    network, training = entry.configurations(seed, size)
    of = {"network": network.to_dict(), "training": training.to_dict()}
    return {"name": entry.name, "kind": entry.kind, **result, **of}


def collect(out: Path, plan: Mapping[str, Entry], size: int) -> list[Row]:
    """All runs that are done, in the order of the plan: folders first, then lines of results.jsonl for the others.

    A line of another configuration than the plan's is left out.

    Raises:
        ValueError: a line that is no run's.
    """
    kept = {(row["name"], row["seed"]): row for row in _lines(out / "results.jsonl")}
    found = []
    for entry in plan.values():
        for seed in range(entry.seeds):
            run, row = Run(folder_of(out, entry, seed)), kept.get((entry.name, seed))
            if run.result.exists():
                result = {name: value for name, value in run.read_result().items() if name != "confusion"}
                run.check_is_of(*entry.configurations(seed, size))
                found.append(row_of(entry, seed, size, result))
            elif row is not None and row == row_of(entry, seed, size, row):
                found.append(row)
    return found


def keep(out: Path, plan: Mapping[str, Entry], size: int) -> list[Row]:
    """`collect`, written to results.jsonl, atomically, before the lines there that are of other configurations.

    Args:
        out: the folder of the runs.
        plan: with all seeds, and not those alone that are wanted now.
        size: of the images.
    """
    rows = collect(out, plan, size)
    others = [row for row in _lines(out / "results.jsonl") if row not in rows]
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "results.jsonl", text(rows + others))
    return rows


def text(rows: list[Row]) -> bytes:
    """JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def of(rows: list[Row], name: str) -> list[Row]:
    """An entry's runs."""
    return [row for row in rows if row["name"] == name]


def spread(rows: list[Row], key: str = "test_accuracy") -> tuple[float, float]:
    """Mean and standard deviation (NaN for one run), in percent."""
    values = 100 * np.array([row[key] for row in rows])
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def _lines(path: Path) -> list[Row]:
    rows = read_lines(path, ("name", "seed"))
    for number, row in enumerate(rows, 1):
        # True is an int to Python.
        if not isinstance(row["name"], str) or type(row["seed"]) is not int:
            raise ValueError(
                f"{path}, line {number}: found the run {row['name']!r} from seed {row['seed']!r}, expected a name and "
                "an integer; move the file away."
            )
    return rows
