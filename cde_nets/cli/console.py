"""What the command says and where: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

BAD_INPUT = 2
FAILED = 1

errors = Console(stderr=True)


def notify(message: str) -> None:
    """A line on standard error."""
    errors.print(escape(message), highlight=False, soft_wrap=True)


@contextmanager
def reported() -> Iterator[None]:
    """Turn the package's errors into a message and an exit code: 2 for bad input, 1 for what failed in the work."""
    from cde_nets.data import DataUnavailableError
    from cde_nets.errors import DivergedError

    try:
        yield
    except ValueError as error:
        _say(error)
        raise typer.Exit(BAD_INPUT) from None
    except (DivergedError, DataUnavailableError, OSError) as error:
        _say(error)
        raise typer.Exit(FAILED) from None


def emit(as_json: bool, values: dict[str, Any], show: Callable[[Console], None]) -> None:
    """The result: one JSON object and nothing else, or what `show` prints."""
    if as_json:
        sys.stdout.write(json.dumps(values) + "\n")
    else:
        show(Console())


def _say(error: Exception) -> None:
    errors.print(f"[bold red]error[/] {escape(str(error))}", highlight=False, soft_wrap=True)
