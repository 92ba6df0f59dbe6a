"""JSON out of files that anybody may have written: what is read is JSON, and whatever is not is a ValueError."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def parse_json(text: str, what: str) -> Any:
    """A JSON text.

    Args:
        text: of it.
        what: to call it in errors, usually a path.

    Raises:
        ValueError: it is damaged, nested too deeply for Python's parser, or holds an integer of more than 4,300 digits.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} is damaged: expected JSON ({error}).") from error


def read_json(path: Path) -> Any:
    """The JSON of a file.

    Raises:
        ValueError: as `parse_json`, or no text in UTF-8.
        OSError: the file cannot be read.
    """
    return parse_json(read_utf8(path), str(path))


def read_object(path: Path) -> dict[str, Any]:
    """As `read_json`, of a file that holds an object.

    Raises:
        ValueError: as `read_json`, or something else than an object.
        OSError: the file cannot be read.
    """
    return _object(read_json(path), str(path))


def read_objects(path: Path, *, cut: bool = False) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines.

    Args:
        path: of the file.
        cut: leave out a last line that was cut short, which has no newline behind it and is no JSON.

    Raises:
        ValueError: a line that is damaged, or no object: the message says which.
        OSError: the file cannot be read.
    """
    text = read_utf8(path)
    lines = text.splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        what = f"{path}, line {number},"
        try:
            value = parse_json(line, what)
        except ValueError:
            if cut and number == len(lines) and not text.endswith("\n"):
                break
            raise
        rows.append(_object(value, what))
    return rows


def read_utf8(path: Path) -> str:
    """A text file, whatever the machine's own encoding is.

    Raises:
        ValueError: it is not in UTF-8.
        OSError: the file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged: expected text in UTF-8 ({error}).") from error


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is damaged: expected an object, found {type(value).__name__}.")
    return value
