"""What a command left in its folder: is every file whole, and which numbers does it hold?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors import safe_open

# Of a run that was stopped and one that was not, these alone may differ.
TIMES = {"seconds", "took"}


def damaged(folder: Path) -> list[str]:
    """The files that cannot be read to their end, and why."""
    found = []
    for path in _files(folder):
        try:
            _read(path)
        except Exception as error:  # whatever a reader says of a file that is cut short
            found.append(f"{path.relative_to(folder)}: {type(error).__name__} {error}")
    return found


def numbers(folder: Path) -> dict[str, Any]:
    """All numbers by file, but for times. Pictures and tables in words are made of them, and counted by name alone."""
    return {
        str(path.relative_to(folder)): _timeless(_read(path)) if path.suffix in _READERS else "there"
        for path in _files(folder)
    }


def differing(found: dict[str, Any], whole: dict[str, Any]) -> str:
    """Which files' numbers differ, in words; "" where none do."""
    names = sorted(name for name in {*found, *whole} if found.get(name) != whole.get(name))
    return f"other numbers in {', '.join(names)}" if names else ""


def parts(folder: Path) -> int:
    """How many temporary files of killed writers there are."""
    return sum(1 for _ in folder.rglob(".*.part"))


def _files(folder: Path) -> list[Path]:
    # Locks hold nothing.
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".part", ".lock"))


def _read(path: Path) -> Any:
    if path.suffix in _READERS:
        return _READERS[path.suffix](path)
    if path.suffix == ".png":
        with Image.open(path) as picture:
            picture.load()
        return "there"
    text = path.read_text()
    if not text.endswith("\n"):
        raise ValueError("the last line has no end")
    return "there"


def _tensors(path: Path) -> Any:
    with safe_open(path, framework="np") as file:
        # Bits: of two NaN no number would be equal to the other.
        tensors = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118 (no mapping)
        return {"about": json.loads(file.metadata()["about"]), "tensors": tensors}


_READERS = {
    ".json": lambda path: json.loads(path.read_text()),
    ".jsonl": lambda path: [json.loads(line) for line in path.read_text().splitlines()],
    ".safetensors": _tensors,
}


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(one) for name, one in value.items() if name not in TIMES}
    return [_timeless(one) for one in value] if isinstance(value, list) else value
