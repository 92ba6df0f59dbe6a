"""A table of the terminal as one of docs/speed.md."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from experiments.pages import fill


def markdown(table: Table) -> str:
    """The table's title as a sentence, and its cells as Markdown."""
    heads = [str(column.header) for column in table.columns]
    rows = zip(*(map(str, column.cells) for column in table.columns), strict=True)
    rule = ["---"] + ["---:"] * (len(heads) - 1)
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |" for cells in (heads, *rows)]
    lines.insert(1, f"| {' | '.join(rule)} |")
    return "\n".join([f"{str(table.title).rstrip('.')}.", "", *lines])


def put(table: Table, docs: Path, name: str, place: str = "") -> None:
    """Fill the table's place on docs' page on speed; `place` says where and when it was measured.

    Raises:
        ValueError: the page has no such place.
    """
    fill(docs / "speed.md", name, f"{markdown(table)}\n\n{place}")
