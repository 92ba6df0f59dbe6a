"""What a side of the comparison is: a forward pass, and a forward pass with the control's gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Side:
    """Us or a peer, on one row.

    Attributes:
        name: of the library and how it is used.
        way: how the velocity is written.
        collapsed: whether that way sums the fields before they meet a state.
        forward: runs the forward pass to its end without a graph; the end state.
        both: runs forward and backward of the sum of squares of the end state; the gradient in the control's values.
        inexact: the gradient is another one by the peer's design, of the continuous flow and not of the steps taken.
        jitted: the first call compiles.
    """

    name: str
    way: str
    collapsed: bool
    forward: Callable[[], Any]
    both: Callable[[], Any]
    inexact: bool = False
    jitted: bool = False


def off(found: Any, ours: Any) -> float:
    """|found - ours| / |ours| in the Frobenius norm, taken in float64."""
    a, b = (np.asarray(value, dtype=np.float64) for value in (found, ours))
    if a.shape != b.shape:
        raise ValueError(f"Shapes {a.shape} and {b.shape} are not results of the same row.")
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


class DisagreementError(AssertionError):
    """A peer that computes something else is not a row of a table."""


def agree(name: str, what: str, found: Any, ours: Any, allowed: float) -> float:
    """The relative difference.

    Raises:
        DisagreementError: it is above what is allowed, or not a number.
    """
    difference = off(found, ours)
    if not difference <= allowed:
        raise DisagreementError(f"{name}: its {what} is {difference:.1e} off ours; {allowed:.1e} is allowed.")
    return difference
