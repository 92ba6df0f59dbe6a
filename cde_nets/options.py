"""Options of methods and gradients: frozen dataclasses that refuse a misspelled name with the nearest one."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, ParamSpec, TypeVar, dataclass_transform

_LARGEST = sys.float_info.max

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")


@dataclass_transform(frozen_default=True)
def options(cls: type[T]) -> type[T]:
    """A frozen dataclass whose constructor names the nearest option where an unknown one is given (TypeError)."""
    made = dataclass(frozen=True)(cls)
    plain = made.__init__
    names = [field.name for field in fields(made) if field.init]  # type: ignore[arg-type]

    @functools.wraps(plain)
    def init(self: T, *args: Any, **kwargs: Any) -> None:
        unknown = next((name for name in kwargs if name not in names), None)
        if unknown is not None:
            raise TypeError(f"{cls.__name__} has no option {unknown!r}{suggest(unknown, names)}")
        plain(self, *args, **kwargs)

    made.__init__ = init  # type: ignore[method-assign, assignment]
    return made


def suggesting(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which names the nearest keyword where an unknown one is given (TypeError)."""
    names = [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self" and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    owner = function.__qualname__.removesuffix(".__init__")

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        unknown = next((name for name in kwargs if name not in names), None)
        if unknown is not None:
            raise TypeError(f"{owner} has no option {unknown!r}{suggest(unknown, names)}")
        return function(*args, **kwargs)

    return checked


def suggest(given: object, known: Iterable[str]) -> str:
    """How a message about an unknown name ends: '; did you mean x? Known are ..'."""
    names = list(known)
    word = str(given)
    # An abbreviation is far from its word by difflib's measure.
    near = difflib.get_close_matches(word, names, n=1) or [n for n in names if len(word) > 2 and n.startswith(word)]
    meant = f"; did you mean {near[0]!r}?" if near else "."
    return f"{meant} Known are {', '.join(names)}." if names else f"{meant} It takes none."


def instead(given: object) -> str:
    """How a message ends where a class was given and one of its instances is wanted: ': say GMRES()'."""
    return f": say {given.__name__}()" if isinstance(given, type) else ""


def positive(name: str, value: Any, *, least: int = 1) -> None:
    """Refuse what is no integer of at least `least` (ValueError)."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}; got {value!r}.")


def finite(value: Any) -> bool:
    """Whether it is a number that a double holds: no NaN, no infinity, no integer beyond them, no bool."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and -_LARGEST <= value <= _LARGEST


def double(value: Any) -> float:
    """A number, of NumPy's too, as a double; infinite where none holds it."""
    try:
        return float(value)
    except OverflowError:  # of an integer
        return math.inf


def within(name: str, value: Any, low: float, high: float = float("inf"), *, closed: bool = False) -> None:
    """Refuse what is no number in (low, high), or in [low, high] where closed (ValueError)."""
    if not finite(value) or not (low <= value <= high if closed else low < value < high):
        raise ValueError(
            f"{name} must be a number {'from' if closed else 'above'} {low:g}"
            + (f" {'to' if closed else 'and below'} {high:g}" if high < float("inf") else ", and finite")
            + f"; got {value!r}."
        )
