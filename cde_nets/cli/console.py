"""What the command says and where: results on standard output, everything else on standard error.

rich is imported by what prints, not by this module: `--help` waits for neither.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

BAD_INPUT = 2
FAILED = 1

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else on standard output.")]


def console(*, stderr: bool = False) -> Console:
    """A console of standard output or error as they are now.

    rich takes NO_COLOR to mean colours and leaves bold and dim; here it means every style.
    """
    from rich.console import Console

    return Console(stderr=stderr, color_system=None if os.environ.get("NO_COLOR") else "auto")


def errors() -> Console:
    """The console of standard error."""
    return console(stderr=True)


def notify(message: str) -> None:
    """A line on standard error."""
    errors().print(message, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def reported() -> Iterator[None]:
    """Turn the package's errors into a message and an exit code: 2 for bad input, 1 for what failed in the work."""
    try:
        with work():
            yield
    except ValueError as error:
        raise stop(str(error), BAD_INPUT) from None


@contextmanager
def work() -> Iterator[None]:
    """As `reported`, where input was checked before: a ValueError is a mistake of ours and keeps its traceback."""
    try:
        yield
    except Exception as error:
        if not _failed_work(error):
            raise
        raise stop(str(error), FAILED) from None


def stop(message: str, code: int) -> typer.Exit:
    """What to raise after this message was shown."""
    from rich.markup import escape

    errors().print(f"[bold red]error[/] {escape(message)}", highlight=False, soft_wrap=True)
    return typer.Exit(code)


def emit(as_json: bool, values: dict[str, Any], show: Callable[[Console], None]) -> None:
    """The result: one JSON object and nothing else, or what `show` prints."""
    if as_json:
        typer.echo(json.dumps(values))
    else:
        show(console())


def _failed_work(error: Exception) -> bool:
    """Whether the message of an error says all that a user needs; a reader who has gone is no error to be told."""
    # Imported only where something has failed.
    from cde_nets.data import DataUnavailableError
    from cde_nets.errors import DivergedError

    return isinstance(error, (DivergedError, DataUnavailableError, OSError)) and not isinstance(error, BrokenPipeError)
