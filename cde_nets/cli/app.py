"""The command's entry."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from cde_nets.cli import bench, check, evaluate, experiments, info, plot, steer, train
from cde_nets.cli.console import FAILED, stop
from cde_nets.cli.shape import Command, Main

app = typer.Typer(
    name="cde-nets",
    cls=Main,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_show_locals=False,
)
app.add_typer(train.app, name="train")
app.command(cls=Command)(evaluate.evaluate)
app.command(cls=Command)(check.check)
app.command(cls=Command)(steer.steer)
app.command(cls=Command)(plot.plot)
app.command("list", cls=Command)(experiments.list_)
app.command(cls=Command, context_settings=experiments.SETTINGS)(experiments.run)
app.command(cls=Command, context_settings=bench.SETTINGS)(bench.bench)
app.command(cls=Command)(info.info)


def _version(asked: bool) -> None:
    if asked:
        # Imported here: it takes longer than the rest of --help.
        from importlib.metadata import version

        typer.echo(f"cde-nets {version('cde-nets')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Controlled ODEs with frozen polynomial fields: train the few numbers that steer them.

    Exit codes: 0 done, 1 stopped or failed in the work, 2 bad input. --json prints one JSON object and nothing else on
    standard output.

    Examples:
      cde-nets train mnist
      cde-nets check polynomial --dim 3 --points 20
      cde-nets COMMAND --help
    """


def main() -> None:
    """Run the command, and see its last words off."""
    try:
        # The name by which completion finds it, however it was called.
        app(prog_name="cde-nets")
    except OSError as error:
        # Of standard output, as on a full disk: what works with files reports their errors itself.
        sys.exit(_lost(error))
    finally:
        _flush()


def _flush() -> None:
    """Here and not when the interpreter ends, where all that can be done is to complain."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        sys.exit(_lost(error))


def _lost(error: OSError) -> int:
    """Give up standard output. A reader who has gone, as `head` does, need not be told."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED if isinstance(error, BrokenPipeError) else stop(f"nothing can be written: {error}.", FAILED).exit_code
