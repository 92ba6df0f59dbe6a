"""A process that reads damaged files under limits, and tells what became of each."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.faults.guard import ForbiddenError, Guard, LateError


@dataclass(frozen=True)
class Fault:
    """An input that was met by neither a right result nor an error that is documented.

    Attributes:
        reader: its name.
        number: of the input, which with the seed makes it again.
        kind: "crash", "hang", "memory", "forbidden", "wrong" or "error".
        says: the error, and where it comes from.
    """

    reader: str
    number: int
    kind: str
    says: str


@dataclass(frozen=True)
class Told:
    """What became of an input; seconds are the processor's."""

    number: int
    refused: bool
    fault: Fault | None
    seconds: float


def randomness(seed: int, name: str, number: int) -> Random:
    """Of one input."""
    return Random(f"{seed} {name} {number}")


def serve(name: str, seed: int, first: int, count: int, limits: tuple[float, int], folder: Path, pipe: Connection,
          current: Any) -> None:  # fmt: skip
    """Read the inputs first..count-1; tell of each when it is done, after `current` was set to its number."""
    import torch

    from benchmarks.faults.readers import READERS

    torch.set_num_threads(1)
    reader = READERS[name](folder)
    path = folder / "input"

    def one(number: int, guard: Guard | None) -> Told:
        raw = reader.make(randomness(seed, name, number))
        path.write_bytes(raw)
        if guard is None:
            return judge(name, number, reader, path, raw)
        try:
            with guard.watching():
                told = judge(name, number, reader, path, raw)
        except LateError:
            told = Told(number, False, Fault(name, number, "hang", f"more than {limits[0]:g} s"), limits[0])
        if guard.seen:
            return Told(number, False, Fault(name, number, "forbidden", "; ".join(guard.seen)), told.seconds)
        return told

    # What is imported when it is first needed is imported now, while memory is not limited.
    for number in range(-20, 0):
        one(number, None)
    guard = Guard(folder, *limits)
    for number in range(first, count):
        current.value = number
        pipe.send(one(number, guard))
    pipe.close()


def judge(name: str, number: int, reader: Any, path: Path, raw: bytes) -> Told:
    """Read one input."""
    from benchmarks.faults.readers import WrongError

    began = time.process_time()
    kind, said = "", ""
    refused = False
    try:
        reader.read(path, raw)
    except reader.refuses as error:
        # A subclass comes from a library that met what its caller should have.
        refused = type(error) in reader.refuses and bool(str(error)) and (str(path) in str(error) or not reader.named)
        if not refused:
            kind, said = "error", _said(error)
    except WrongError as error:
        kind, said = "wrong", str(error)[:500]
    except MemoryError as error:
        kind, said = "memory", _said(error)
    except ForbiddenError as error:
        kind, said = "forbidden", str(error)
    except Exception as error:
        kind, said = "error", _said(error)
    fault = Fault(name, number, kind, said) if kind else None
    return Told(number, refused, fault, time.process_time() - began)


def _said(error: BaseException) -> str:
    """The error and the last three lines of code it went through."""
    places = traceback.extract_tb(error.__traceback__)[-3:]
    where = " < ".join(f"{Path(place.filename).name}:{place.lineno}" for place in reversed(places))
    return f"{type(error).__name__}: {str(error)[:300]} ({where})"
