"""The command's entry."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from cde_nets.cli import check, evaluate, info, report, steer, train

app = typer.Typer(
    name="cde-nets",
    help="Controlled ODEs with frozen polynomial fields: train the few numbers that steer them.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_show_locals=False,
)
app.add_typer(train.app, name="train")
app.command(name="evaluate")(evaluate.evaluate)
app.command(name="check")(check.check)
app.command(name="steer")(steer.steer)
app.command(name="report")(report.report)
app.command(name="info")(info.info)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"cde-nets {version('cde-nets')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Controlled ODEs with frozen polynomial fields: train the few numbers that steer them."""


def main() -> None:
    """Run the command."""
    app()
