"""Configurations that go to JSON and come back checked."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Made = TypeVar("Made", bound=DataclassInstance)


def to_dict(config: DataclassInstance) -> dict[str, Any]:
    """Plain values for JSON: tuples become lists."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()}


def from_dict(kind: type[Made], values: dict[str, Any]) -> Made:
    """The reverse of `to_dict`.

    Raises:
        ValueError: not a mapping, an unknown name, or a value that the configuration refuses.
    """
    if not isinstance(values, dict):
        raise ValueError(f"A {kind.__name__} is made from a mapping; got a {type(values).__name__}.")
    known = [field.name for field in fields(kind)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"Unknown in {kind.__name__}: {', '.join(unknown)}. It has {', '.join(known)}.")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
