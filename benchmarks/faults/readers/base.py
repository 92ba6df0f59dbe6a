"""What a reader is to the fuzz."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random


class WrongError(Exception):
    """What was read is not what the file says."""


@dataclass(frozen=True)
class Reader:
    """A reader of files.

    Attributes:
        says: what it reads, and by which function.
        make: an input; the same one for the same random numbers.
        read: reads the input, at this path and as bytes, and compares what is accepted with what something independent
            makes of it (WrongError).
        refuses: the errors it documents: these very classes, as one derived from them comes from deeper down.
        named: whether every refusal must name the file.
    """

    says: str
    make: Callable[[Random], bytes]
    read: Callable[[Path, bytes], None]
    refuses: tuple[type[Exception], ...] = (ValueError,)
    named: bool = True


# Takes a scratch folder.
Maker = Callable[[Path], Reader]


def same(found: object, expected: object, what: str) -> None:
    """Refuse what differs.

    Raises:
        WrongError: it does.
    """
    if found != expected:
        raise WrongError(f"{what}: read {str(found)[:200]}, the file says {str(expected)[:200]}")
