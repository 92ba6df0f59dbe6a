"""A record as tables, for the terminal and for a page of docs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table

from benchmarks.flows.adaptive import right
from benchmarks.flows.machine import Machine
from benchmarks.flows.record import Adapted, Record
from benchmarks.flows.timing import Spread


class Sheet(NamedTuple):
    """A table in words.

    Attributes:
        name: of its place on the page.
        title: what it shows.
        head: of the columns.
        rows: cells.
    """

    name: str
    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def sheets(record: Record) -> list[Sheet]:
    """The tables of all parts that a run has."""
    parts = ((record.fixed, _fixed), (record.adaptive, _adaptive), (record.memory, _memory))
    return [make(record) for part, make in parts if part]


def rich(sheet: Sheet) -> Table:
    """For the terminal."""
    table = Table(title=sheet.title)
    for k, head in enumerate(sheet.head):
        table.add_column(head, no_wrap=k == 0)
    for row in sheet.rows:
        table.add_row(*row)
    return table


def place(record: Record) -> str:
    """Where, when and with what a run was made, in words."""
    found: Machine = record.machine
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    return (
        f"{found.processor} ({', '.join(found.vectors)}), {found.threads} of {found.cores} cores, "
        f"load {found.load:.1f} before the run; float32 products of 2048 x 2048 at {found.gflops:.0f} GFLOP/s, copies "
        f"at {found.gbytes:.0f} GB/s, the best seen in the run; medians of {record.repeats}, quartiles in brackets; "
        f"{found.system}; {versions}; {record.date}."
    )


def _fixed(record: Record) -> Sheet:
    rows = []
    for row in record.fixed:
        mine = row.sides[0].time.median
        gflops = 1e-6 * row.flops / mine
        work = "forward + gradient" if row.gradient else "forward"
        for k, side in enumerate(row.sides):
            beside = f"{gflops:.1f} GFLOP/s, {gflops / record.machine.gflops:.0%}" if k == 0 else ""
            rows.append(
                (
                    row.row if k == 0 else "",
                    work if k == 0 else "",
                    side.side,
                    side.way,
                    _time(side.time),
                    f"{side.time.median / mine:.2f}" if k else "",
                    f"{side.off:.0e}{' (continuous)' if side.inexact else ''}" if k else "",
                    "" if side.compile is None else f"{side.compile:.1f}",
                    beside,
                )
            )
    head = ("family-m-d-M-B", "work", "side", "velocity", "ms", "peer / ours", "off ours", "compile, s", "of the peak")
    return Sheet("fixed", "Euler, a step for each interval of the control, float32", head, rows)


def _adaptive(record: Record) -> Sheet:
    rows = []
    for problem in record.adaptive:
        mine = problem.sides[0].time.median
        for k, side in enumerate(problem.sides):
            rows.append(
                (
                    problem.problem.removeprefix("adaptive-") if k == 0 else "",
                    side.side,
                    side.controller,
                    _time(side.time),
                    _ratio(side, mine) if k else "",
                    str(side.evaluations),
                    f"{side.alone:,}",
                    f"{side.end_error:.0e}",
                    f"{side.gradient_error:.0e}",
                    "" if side.compile is None else f"{side.compile:.1f}",
                )
            )
    head = (
        "problem",
        "side",
        "controller",
        "ms",
        "peer / ours",
        "evaluations",
        "of single rows",
        "end's error",
        "gradient's error",
        "compile, s",
    )
    return Sheet("adaptive", "Dopri5 at rtol 1e-6, 64 uneven rows, float64, forward + gradient", head, rows)


def _memory(record: Record) -> Sheet:
    mine = record.memory[0]
    rows = [
        (
            side.row if k == 0 else "",
            side.side,
            f"{side.megabytes:.0f}",
            f"{side.megabytes / mine.megabytes:.2f}" if k and mine.megabytes > 0 else "",
            f"{side.baseline:.0f}",
            _time(side.time),
            f"{side.time.median / mine.time.median:.2f}" if k else "",
        )
        for k, side in enumerate(record.memory)
    ]
    head = ("family-m-d-M-B", "side", "MB over the baseline", "peer / ours", "baseline, MB", "ms", "peer / ours")
    return Sheet("memory", "Memory of forward + gradient in a process of its own, float32", head, rows)


def _time(time: Spread) -> str:
    return f"{_three(time.median)} ({_three(time.lower)} .. {_three(time.upper)})"


def _three(value: float) -> str:
    """Three digits that count, and no exponent."""
    if value <= 0:
        return "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def _ratio(side: Adapted, mine: float) -> str:
    return f"{side.time.median / mine:.2f}" if right(side) else "wrong"
