"""What the commands of experiments show: bars on standard error, results on standard output."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console, RenderableType
from rich.markdown import Markdown
from rich.measure import Measurement
from rich.progress import Progress, ProgressColumn
from rich.table import Table
from rich.text import Text

from cde_nets.cli.console import console, errors

# Columns below which Markdown's tables are cut off; its own text says the same.
READABLE = 80


def progress(*columns: ProgressColumn, **options: Any) -> Progress:
    """A bar on standard error that leaves nothing behind; where that is no terminal there is none at all."""
    shown_on = errors()
    return Progress(*columns, console=shown_on, transient=True, disable=not shown_on.is_terminal, **options)


def say(as_json: bool, content: Any, *shown: RenderableType) -> None:
    """The result: one JSON object and nothing else, or what is for people.

    Args:
        as_json: which of the two.
        content: for JSON; NaN and infinity are refused.
        shown: as in `show`.
    """
    if as_json:
        typer.echo(json.dumps(content, allow_nan=False))
    else:
        show(*shown)


def show(*shown: RenderableType) -> None:
    """Print tables, Markdown, and sentences as strings, so that nothing is cut off."""
    to = console()
    for one in shown:
        if isinstance(one, Table):
            _table(to, one)
        elif isinstance(one, Markdown) and (not to.is_terminal or to.width < READABLE):
            typer.echo(one.markup)
        elif isinstance(one, str):
            to.print(one, markup=False, highlight=False, soft_wrap=True)
        else:
            to.print(one)


def _table(to: Console, table: Table) -> None:
    """The table, or where the terminal has too few columns for its words, a paragraph for each of its rows."""
    needed = Measurement.get(to, to.options.update(width=10_000), table)
    if not to.is_terminal and "COLUMNS" not in os.environ:
        to.width = max(to.width, needed.maximum)
    if needed.minimum <= to.width:
        to.print(table)
        return
    if table.title:
        to.print(table.title)
    heads = [str(column.header) for column in table.columns]
    for cells in zip(*(list(column.cells) for column in table.columns), strict=True):
        to.print(_paragraph(heads, cells), soft_wrap=False)


def _paragraph(heads: Sequence[str], cells: Sequence[Any]) -> Text:
    words = [cell if isinstance(cell, Text) else Text.from_markup(str(cell)) for cell in cells]
    said = [Text.assemble(f"  {head}: ", word) for head, word in zip(heads[1:], words[1:], strict=True) if word.plain]
    return Text("\n").join([Text.assemble(words[0].plain or "-", style="bold"), *said])
