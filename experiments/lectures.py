"""What the lectures' results leave behind: numbers, a figure, and a table in their page of docs."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image
from rich.console import RenderableType
from rich.table import Table

from cde_nets.atomic import write_atomically
from cde_nets.plot.style import save
from experiments.command import begin
from experiments.pages import fill
from experiments.shown import say

PAGE = "lectures.md"
Rows = Sequence[Sequence[str]]


def ready(name: str, out: Path, publish: Path | None, *, quick: bool = False) -> Path:
    """Refuse, before work starts, what cannot be written, and to publish a quick run or what has no place in the page.

    Returns:
        The folder of the files, as `begin`.

    Raises:
        typer.BadParameter: the message says which.
    """
    return begin(out, publish, quick=quick, page=PAGE, mark=name)


def write(
    name: str,
    out: Path,
    publish: Path | None,
    content: dict[str, Any],
    pictured: Figure,
    columns: Sequence[str],
    rows: Rows,
    *,
    also: Sequence[RenderableType] = (),
    as_json: bool = False,
) -> None:
    """Write NAME.json and NAME.png, copy both to docs and fill the page's table where asked, and print that table.

    Args:
        name: of the experiment.
        out: folder of both.
        publish: folder of docs, or None.
        content: for JSON; NaN and infinity are refused.
        pictured: the figure.
        columns: of the table.
        rows: of the table, a cell for each column.
        also: what is printed before the table.
        as_json: print the content instead.
    """
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    save(pictured, out / f"{name}.png")
    picture = small(out / f"{name}.png")
    for images, numbers in ((out, out), *(((publish / "images", publish / "results"),) if publish else ())):
        write_atomically(images / f"{name}.png", picture)
        write_atomically(numbers / f"{name}.json", text.encode())
    if publish is not None:
        fill(publish / PAGE, name, _markdown(columns, rows))
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    say(as_json, content, *also, table)


def small(picture: Path) -> bytes:
    """A PNG in 256 colours: of lines and text nothing is seen to be lost, and two thirds of the bytes are."""
    packed = io.BytesIO()
    with Image.open(picture) as whole:
        reduced = whole.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    reduced.save(packed, "PNG", optimize=True, dpi=(150, 150))
    return packed.getvalue()


def _markdown(columns: Sequence[str], rows: Rows) -> str:
    # Numbers stand to the right, as all columns but the first hold them.
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
