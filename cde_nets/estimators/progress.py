"""What `verbose` shows."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class Report:
    """A bar of iterations with the loss, and a line at the end, on standard error; only that where it is no terminal.

    Args:
        name: of the estimator.
        iterations: at most.
        shown: whether anything is.
    """

    def __init__(self, name: str, iterations: int, *, shown: bool) -> None:
        self._name, self._shown = name, shown
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn(name),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not (shown and self._console.is_terminal),
            transient=True,
        )
        self._task = self._bar.add_task(name, total=iterations, figures="")
        self._last = "no iteration was needed"

    def iteration(self, number: int, loss: float) -> None:
        """Move the bar."""
        self._last = f"{number} iterations, loss {loss:.5g}"
        if self._shown:
            self._bar.update(self._task, completed=number, figures=f"loss {loss:.5g}")

    def __enter__(self) -> Report:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if self._shown and kind is None:
            self._console.print(f"{self._name}: {self._last}", highlight=False)
