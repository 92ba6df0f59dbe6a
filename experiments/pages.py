"""Tables within pages of docs, put there by the commands that make them."""

from __future__ import annotations

from pathlib import Path

from cde_nets.atomic import write_atomically


def fill(page: Path, name: str, text: str) -> None:
    """Put a text between the page's marks <!-- name --> and <!-- end of name -->, in the place of what stands there.

    Args:
        page: a Markdown file.
        name: of the marks.
        text: Markdown.

    Raises:
        ValueError: the page has not both marks, each once and in this order.
    """
    marks = f"<!-- {name} -->", f"<!-- end of {name} -->"
    whole = page.read_text()
    if [whole.count(mark) for mark in marks] != [1, 1] or whole.index(marks[0]) > whole.index(marks[1]):
        raise ValueError(f"{page} must hold {marks[0]} and then {marks[1]}, each once.")
    before, rest = whole.split(marks[0])
    after = rest.split(marks[1])[1]
    write_atomically(page, f"{before}{marks[0]}\n{text.strip()}\n{marks[1]}{after}".encode())
