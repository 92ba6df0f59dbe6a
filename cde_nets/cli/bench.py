"""`cde-nets bench`: the benchmarks, where there is a checkout."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from cde_nets.cli.console import BAD_INPUT, FAILED, stop
from cde_nets.cli.nested import hand_over

# An option of help would be taken from the benchmarks: theirs says more.
SETTINGS = {"help_option_names": [], "ignore_unknown_options": True, "allow_interspersed_args": False}


def bench(
    context: typer.Context,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGS", help="Of the benchmarks; --help shows them.")
    ] = None,
) -> None:
    """Time flows beside torchdiffeq, torchode, diffrax and JAX: python -m benchmarks, in a checkout.

    An installed package has no benchmarks: they are in the folder benchmarks of the source.

    Examples:
      cde-nets bench
      cde-nets bench --rows euler --peers torchdiffeq --repeats 5
      cde-nets bench --help
    """
    given = arguments or []
    root = checkout()
    if root is None:
        if {"-h", "--help"} & {*given}:
            typer.echo(context.get_help())
            raise typer.Exit
        raise stop(
            "there are no benchmarks here: they are in the folder benchmarks of the source, not in the installed "
            "package. Get the source and run there: pip install -e '.[bench]', then cde-nets bench.",
            BAD_INPUT,
        )
    # First, as other packages leave folders of this name about.
    sys.path.insert(0, str(root))
    try:
        app = import_module("benchmarks.__main__").app
    except ImportError as error:
        message = f"{root / 'benchmarks'} cannot be loaded: {error}. Try: pip install -e '.[bench]'."
        raise stop(message, FAILED) from None
    hand_over(app, "cde-nets bench", given)


def checkout() -> Path | None:
    """The folder that this package was checked out in; None where it is installed without its source."""
    root = Path(__file__).parents[2]
    whole = (root / "pyproject.toml").is_file() and (root / "benchmarks" / "__main__.py").is_file()
    return root if whole else None
