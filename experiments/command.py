"""What the commands of experiments have in common: their options, how they begin, and what they leave behind.

Each takes --out, --seed, --quick and --json, most of them --publish. Nothing begins that could not be written.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from matplotlib.figure import Figure
from rich.console import RenderableType

from cde_nets.atomic import write_atomically
from cde_nets.cli.console import Json
from cde_nets.options import suggest
from cde_nets.plot.style import save
from experiments.pages import check
from experiments.shown import say

__all__ = ["Json", "Quick", "allowed", "begin", "leave", "less", "named"]

Quick = Annotated[
    bool, typer.Option("--quick", help="Measure less of everything, in under a minute; not to be published.")
]
PUBLISHED = ("images", "results")

Given = ParamSpec("Given")
Result = TypeVar("Result")


def less(constants: dict[str, Any], **smaller: Any) -> Callable[[Callable[Given, Result]], Callable[Given, Result]]:
    """Decorate a command: with quick=True, some of its module's constants are smaller while it runs.

    An experiment's settings are constants of its module, which measure and draw alike; so a quick run goes through the
    very same code.

    Args:
        constants: globals() of the module.
        smaller: the values of a quick run, by the constants' names.

    Raises:
        KeyError: there is no such constant.
    """
    for name in smaller:
        constants[name]

    def decorate(command: Callable[Given, Result]) -> Callable[Given, Result]:
        @functools.wraps(command)
        def run(*args: Given.args, **kwargs: Given.kwargs) -> Result:
            before = {name: constants[name] for name in smaller}
            if kwargs.get("quick"):
                constants.update(smaller)
            try:
                return command(*args, **kwargs)
            finally:
                constants.update(before)

        return run

    return decorate


def named(text: str, known: Iterable[str], option: str) -> list[str]:
    """The names of an option's text, such as "bptt,rbp"; each once, all that are known where none is named.

    Args:
        text: names with commas between.
        known: what may be named.
        option: such as --rows, for the message.

    Raises:
        typer.BadParameter: a name that is not known; it says the nearest one.
    """
    known = list(known)
    names = [name for part in text.split(",") if (name := part.strip())]
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"{option}: there is no {name!r}{suggest(name, known)}")
    return list(dict.fromkeys(names)) or known


def allowed(publish: Path | None, *, quick: bool, page: str | None = None, mark: str = "") -> None:
    """Refuse what is not to be published, and nothing is made: for commands that look at data before they `begin`.

    Args:
        publish: of docs, or None.
        quick: whether the run is one.
        page: of docs, whose table is to be filled; None where there is none.
        mark: of the table in that page.

    Raises:
        typer.BadParameter: a quick run is to be published, there is no such folder, or its page has no place for the
            table.
    """
    if publish is None:
        return
    if quick:
        raise typer.BadParameter("--quick shows that all runs; it is not to be published: leave --publish out.")
    try:
        if page is not None:
            check(publish / page, mark)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if not publish.is_dir():
        raise typer.BadParameter(f"--publish names {publish}, expected the folder of docs.")


def begin(
    out: Path, publish: Path | None = None, *, quick: bool = False, page: str | None = None, mark: str = ""
) -> Path:
    """Make the folders, before work starts; where something is refused none is made.

    Args:
        out: of all that is written.
        publish: as in `allowed`.
        quick: likewise.
        page: likewise.
        mark: likewise.

    Returns:
        The folder of the files: out, or its subfolder quick, so that no quick run takes the place of a whole one.

    Raises:
        typer.BadParameter: a folder cannot be written, and as `allowed`.
    """
    allowed(publish, quick=quick, page=page, mark=mark)
    made = out / "quick" if quick else out
    for option, folder in (("--out", made), *(("--publish", publish / name) for name in PUBLISHED if publish)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise typer.BadParameter(
                f"{option}: {folder} cannot be written ({error.strerror}): choose a folder that can."
            ) from None
    return made


def leave(
    name: str,
    out: Path,
    publish: Path | None,
    content: dict[str, Any],
    pictured: Figure | Mapping[str, Figure],
    *shown: RenderableType,
    as_json: bool = False,
) -> None:
    """Write NAME.json and the figures, copy all to docs where asked, and print.

    Args:
        name: of the experiment.
        out: folder of all.
        publish: folder of docs, or None.
        content: for JSON; NaN and infinity are refused.
        pictured: the figure, NAME.png, or several by the names of their files.
        shown: what is printed.
        as_json: print the content instead.
    """
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    figures = {f"{name}.png": pictured} if isinstance(pictured, Figure) else pictured
    for file, figure in figures.items():
        save(figure, out / file)
    write_atomically(out / f"{name}.json", text.encode())
    if publish is not None:
        for file, folder in (*((file, "images") for file in figures), (f"{name}.json", "results")):
            write_atomically(publish / folder / file, (out / file).read_bytes())
    say(as_json, content, *shown)
