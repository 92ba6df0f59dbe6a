"""A progress meter for long solves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def reporter(progress: bool | Callable[[float], None]) -> Iterator[Callable[[float], None] | None]:
    """What is called with the fraction done: nothing, the user's function, or a bar on standard error.

    Raises:
        ValueError: neither a bool nor a function.
    """
    if callable(progress):
        yield progress
    elif progress is True:
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("solving", total=1.0)
            yield lambda fraction: bar.update(task, completed=fraction)
    elif progress is False:
        yield None
    else:
        raise ValueError(f"progress must be True, False or a function of the fraction done; got {progress!r}.")
