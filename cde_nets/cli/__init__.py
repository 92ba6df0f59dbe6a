"""The command `cde-nets`. Nothing heavy is imported before a subcommand runs."""

from cde_nets.cli.app import app, main

__all__ = ["app", "main"]
