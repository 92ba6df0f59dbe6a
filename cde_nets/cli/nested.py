"""Other commands as subcommands: what stands after their name is theirs, and so is the exit code."""

from __future__ import annotations

import sys
from typing import Any

import typer

from cde_nets.cli.console import work
from cde_nets.cli.shape import width


def hand_over(entry: Any, name: str, arguments: list[str]) -> None:
    """Run a typer app, or a function as scripts have them, as if it had been called by this name.

    Its exits and its errors of usage are raised here, not ended by it: the whole command ends in one place, and with
    Ctrl-C in one way.
    """
    if not isinstance(entry, typer.Typer):
        sys.argv = [name, *arguments]
        with work():
            sys.exit(entry())
    # As every other subcommand: plain help, which fits a narrow terminal.
    entry.rich_markup_mode = None
    command = typer.main.get_command(entry)
    with command.make_context(name, list(arguments), terminal_width=width()) as context, work():
        command.invoke(context)
