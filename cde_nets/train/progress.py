"""The live progress bar of a training run."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

# Columns of a terminal below which the bar has no room for figures: those of an epoch stand in its line.
_WIDE = 72


class ProgressBar:
    """A `Reporter`: a bar with loss, accuracy and time left, and a line for each epoch.

    Args:
        epochs: of the whole run.
        console: where to; standard error where None. If it is no terminal the bar is left out and the lines remain.
        quiet: no bar: in a process that is told nothing.
    """

    def __init__(self, epochs: int, console: Console | None = None, *, quiet: bool = False) -> None:
        console = Console(stderr=True) if console is None else console
        self._epochs = epochs
        percent, left = TextColumn("{task.percentage:>3.0f}%"), (TextColumn("left"), TimeRemainingColumn())
        columns: list[ProgressColumn] = [BarColumn(), percent, *left]
        if console.width >= _WIDE:
            figures = TextColumn("{task.fields[figures]}")
            columns = [TextColumn("training"), BarColumn(), percent, figures, TimeElapsedColumn(), *left]
        self._bar = Progress(
            *columns,
            console=console,
            disable=quiet or not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("training", total=None, figures="")

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def batch(self, done: int, total: int, loss: float, accuracy: float) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done, total=total, figures=f"loss {loss:.4f} accuracy {accuracy:.2%}")

    def epoch(self, row: dict[str, Any]) -> None:
        """Print an epoch's line."""
        self._bar.console.print(
            f"epoch {row['epoch']:>3}/{self._epochs}  loss {row['loss']:.4f}  training {row['train_accuracy']:.2%}  "
            f"validation {row['validation_accuracy']:.2%}  {row['seconds']:.0f} s",
            highlight=False,
        )
