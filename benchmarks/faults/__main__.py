"""`python -m benchmarks.faults`: a subcommand for each module of this package that is one."""

from __future__ import annotations

from importlib import import_module

import typer

COMMANDS = ("arguments", "feed", "kill", "workers")

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def faults() -> None:
    """Provoke faults and count those that are not met by a clear error."""


for name in COMMANDS:
    app.command(name)(getattr(import_module(f"benchmarks.faults.{name}"), name))

if __name__ == "__main__":
    app()
