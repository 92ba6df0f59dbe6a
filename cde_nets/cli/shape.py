"""How commands look and begin: help that fits the terminal, subcommands in order, completion for a shell by name.

Help is plain text instead of rich's tables: those cut the names of options off in a narrow terminal, and importing rich
takes as long as all the rest.
"""

from __future__ import annotations

import shutil
from functools import partial
from typing import Any

import typer
from typer.completion import install_callback, show_callback
from typer.core import TyperCommand, TyperGroup

from cde_nets.cli.console import BAD_INPUT, FAILED, notify, stop

# As the README tells the story: train, look, prove, steer; then what is made of them.
ORDER = ("train", "evaluate", "plot", "check", "steer", "list", "run", "bench", "info")
SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")
COMPLETION = {"--install-completion": install_callback, "--show-completion": show_callback}
WIDEST, NARROW = 100, 60


class Command(TyperCommand):
    """A command whose examples stay as they were written, a line each."""

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """The docstring."""
        before, self.help = self.help, _with_examples(self.help)
        super().format_help_text(ctx, formatter)
        self.help = before

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments and options."""
        super().format_options(ctx, _fitted(formatter))


class Group(TyperGroup):
    """Commands of one kind, each with its whole first sentence."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of the story."""
        names: list[str] = super().list_commands(ctx)
        return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """The docstring."""
        before, self.help = self.help, _with_examples(self.help)
        super().format_help_text(ctx, formatter)
        self.help = before

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Options, then commands."""
        super().format_options(ctx, _fitted(formatter))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Sentences wrapped, where typer cuts them off."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, command.get_short_help_str(limit=1000)) for name, command in commands if command is not None]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class Main(Group):
    """The whole command."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """With the terminal's width, which subcommands inherit; typer by itself takes at least 50 columns."""
        return super().make_context(info_name, args, parent, **{"terminal_width": width(), **extra})

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take a shell after --show-completion and --install-completion; typer only takes the shell it runs in."""
        if len(args) == 2 and args[0] in COMPLETION:
            option, shell = args
            if shell not in SHELLS:
                raise stop(f"{option} is {shell!r}, expected one of {', '.join(SHELLS)}.", BAD_INPUT)
            COMPLETION[option](ctx, self.params[0], shell)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand. One that was stopped has failed, with 1 as everywhere; typer would say 130."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            notify("Stopped.")
            raise typer.Exit(FAILED) from None


def width() -> int:
    """Columns of help: what the terminal has, and no more than can be read."""
    return max(min(shutil.get_terminal_size().columns, WIDEST) - 2, 20)


def _with_examples(text: str | None) -> str | None:
    r"""The text with typer's mark \b before its examples, which keeps lines from being filled up."""
    return None if text is None else text.replace("\n\nExample", "\n\n\b\nExample")


def _fitted(formatter: Any) -> Any:
    """The formatter, which puts long names on lines of their own where few columns are left beside them."""
    if formatter.width < NARROW:
        formatter.write_dl = partial(_write_narrow, formatter.write_dl)
    return formatter


def _write_narrow(write: Any, rows: list[tuple[str, str]], *args: Any, **options: Any) -> None:
    longest = max((len(name) for name, _ in rows), default=0)
    write(rows, col_max=longest if longest <= NARROW // 4 else 4)
