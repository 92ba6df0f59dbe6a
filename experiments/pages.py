"""Tables within pages of docs, put there by the commands that make them."""

from __future__ import annotations

from pathlib import Path

from cde_nets.atomic import write_atomically
from cde_nets.texts import read_utf8


def check(page: Path, name: str) -> None:
    """Refuse a page that has no place for a text, before the work that makes it.

    Raises:
        ValueError: the page has not both marks, each once and in this order, or is no file.
    """
    marks = _marks(name)
    whole = read_utf8(page) if page.is_file() else ""
    if [whole.count(mark) for mark in marks] != [1, 1] or whole.index(marks[0]) > whole.index(marks[1]):
        raise ValueError(f"{page} must hold {marks[0]} and then {marks[1]}, each once.")


def fill(page: Path, name: str, text: str) -> None:
    """Put a text between the page's marks <!-- name --> and <!-- end of name -->, in the place of what stands there.

    Args:
        page: a Markdown file.
        name: of the marks.
        text: Markdown.

    Raises:
        ValueError: as `check`.
    """
    check(page, name)
    first, last = _marks(name)
    before, rest = read_utf8(page).split(first)
    after = rest.split(last)[1]
    write_atomically(page, f"{before}{first}\n{text.strip()}\n{last}{after}".encode())


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- {name} -->", f"<!-- end of {name} -->"
