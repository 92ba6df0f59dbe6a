"""What a run found, as it is saved."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from benchmarks.flows.machine import Machine
from benchmarks.flows.timing import Spread
from cde_nets.texts import parse_json


@dataclass(frozen=True)
class Timed:
    """A side on a row with fixed steps.

    Attributes:
        side: its name.
        way: how its velocity is written.
        time: milliseconds.
        off: relative difference of what it returns from what ours does: the end state, or the control gradient.
        inexact: that gradient is of the continuous flow by design.
        compile: seconds that the first call took more than later ones, of jitted sides.
    """

    side: str
    way: str
    time: Spread
    off: float
    inexact: bool = False
    compile: float | None = None


@dataclass(frozen=True)
class Fixed:
    """A row with fixed steps, forward or with the gradient; ours is the first side.

    Attributes:
        row: its name.
        gradient: forward and gradient, else forward alone.
        flops: operations of the matrix products it cannot do without.
        sides: as timed.
    """

    row: str
    gradient: bool
    flops: int
    sides: tuple[Timed, ...]


@dataclass(frozen=True)
class Adapted:
    """A side on rows of uneven stiffness, forward and gradient.

    Attributes:
        side: its name.
        controller: of the step sizes.
        time: milliseconds.
        evaluations: of the field in the forward pass, the whole batch at once counting as one.
        alone: of the field at single rows.
        end_error: the largest relative error of a row's end state.
        gradient_error: relative, of the gradient in all parameters.
        compile: as `Timed`.
    """

    side: str
    controller: str
    time: Spread
    evaluations: int
    alone: int
    end_error: float
    gradient_error: float
    compile: float | None = None


@dataclass(frozen=True)
class Adaptive:
    """A problem with adaptive steps; ours is the first side."""

    problem: str
    sides: tuple[Adapted, ...]


@dataclass(frozen=True)
class Held:
    """A side's memory, forward and gradient in a process of its own.

    Attributes:
        side: its name.
        row: of which size.
        megabytes: by which the largest resident set grew over the baseline, 10^6 bytes.
        baseline: the largest resident set after imports, data and a small solve.
        time: milliseconds.
    """

    side: str
    row: str
    megabytes: float
    baseline: float
    time: Spread


@dataclass(frozen=True)
class Record:
    """A whole run."""

    date: str
    repeats: int
    machine: Machine
    fixed: tuple[Fixed, ...] = ()
    adaptive: tuple[Adaptive, ...] = ()
    memory: tuple[Held, ...] = ()
    peers: tuple[str, ...] = field(default=())

    def to_json(self) -> str:
        """Text that `from_json` reads back."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is no such text.
        """
        content = parse_json(text, "the record")
        try:
            return cls._of(content)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is no record of speed: {type(error).__name__} {error}") from error

    @classmethod
    def _of(cls, content: dict[str, Any]) -> Record:
        unknown = set(content) - {one.name for one in dataclasses.fields(cls)}
        if unknown:
            raise ValueError(f"it has {', '.join(sorted(unknown))} besides")
        place = content["machine"]
        return cls(
            content["date"],
            content["repeats"],
            Machine(**{**place, "vectors": tuple(_list(place["vectors"]))}),
            tuple(Fixed(**{**row, "sides": _sides(Timed, row["sides"])}) for row in _list(content["fixed"])),
            tuple(Adaptive(**{**row, "sides": _sides(Adapted, row["sides"])}) for row in _list(content["adaptive"])),
            _sides(Held, content["memory"]),
            tuple(_list(content["peers"])),
        )


def _sides(kind: Any, rows: list[dict[str, Any]]) -> tuple[Any, ...]:
    return tuple(kind(**{**row, "time": Spread(**row["time"])}) for row in _list(rows))


def _list(value: Any) -> list[Any]:
    # An empty text or object would pass for no rows.
    if not isinstance(value, list):
        raise TypeError(f"expected a list, found {value!r:.40}")
    return value
