"""What a picture of a flow needs of it: states at times, and which of their coordinates are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from cde_nets.door import numbers
from cde_nets.nn.flow import ControlledODE

Trajectory = Float[Tensor, "times points dim"] | Float[np.ndarray, "times points dim"]
Points = Float[Tensor, "points dim"] | Float[np.ndarray, "points dim"]


@dataclass(frozen=True)
class Paths:
    """Points on their way.

    Attributes:
        times: rising, shape (times,).
        states: every coordinate, float64, shape (times, points, dim).
        drawn: which coordinates are drawn, two or three of them.
    """

    times: NDArray[np.float64]
    states: NDArray[np.float64]
    drawn: tuple[int, ...]

    @property
    def points(self) -> NDArray[np.float64]:
        """The coordinates that are drawn, shape (times, points, 2) or (times, points, 3)."""
        return self.states[:, :, list(self.drawn)]

    def at(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """The coordinates that are drawn at other times, on straight lines between the states."""
        points, known = self.points, self.times
        n = np.clip(np.searchsorted(known, times, side="right") - 1, 0, len(known) - 2)
        share = ((times - known[n]) / (known[n + 1] - known[n]))[:, None, None]
        found: NDArray[np.float64] = (1 - share) * points[n] + share * points[n + 1]
        return found


def coordinates(dim: int, dims: Sequence[int] | None) -> tuple[int, ...]:
    """The two or three coordinates that are drawn of states in R^dim.

    Raises:
        ValueError: a line, more than three coordinates of which none are chosen, or a choice that cannot be drawn.
    """
    if dim < 2:
        raise ValueError(
            f"The states have {dim} coordinate, expected 2 or more: on a line there are no paths to see. Draw x "
            "against t as an ordinary curve."
        )
    if dims is None:
        if dim > 3:
            raise ValueError(f"The states have {dim} coordinates and a picture 2 or 3: choose them, as dims=(0, 1).")
        return tuple(range(dim))
    chosen = tuple(dims) if isinstance(dims, Iterable) else ()
    whole = all(isinstance(k, Integral) and not isinstance(k, bool) and 0 <= k < dim for k in chosen)
    if len(chosen) not in (2, 3) or len(set(chosen)) < len(chosen) or not whole:
        raise ValueError(f"dims is {dims!r}, expected two or three different numbers from 0 to {dim - 1}, as (0, 1).")
    return tuple(int(k) for k in chosen)


def extent(flow: ControlledODE | Trajectory, x: Points | None) -> tuple[int, int]:
    """How many points there are and in how many dimensions, known before a flow is run.

    Raises:
        ValueError: a flow without starts or with some that do not fit it, a path with starts besides its own, a path
            that is no array of finite reals of shape (times, points, dim) with two times or more.
    """
    if isinstance(flow, ControlledODE):
        return _starts(flow, x).shape[0], flow.dim
    if not isinstance(flow, Tensor | np.ndarray):
        raise ValueError(
            f"Expected a ControlledODE, or a path as an array of shape (times, points, dim); got a "
            f"{type(flow).__name__}."
        )
    if x is not None:
        raise ValueError("A path has its starts in its first states; got x as well: drop it.")
    if flow.ndim != 3 or flow.shape[0] < 2 or 0 in flow.shape:
        raise ValueError(
            f"The path has shape {tuple(flow.shape)}, expected (times, points, dim) with two times or more and a point "
            "or more. One point's path is path[:, None]."
        )
    as_floats("The path", flow)
    return flow.shape[1], flow.shape[2]


def paths(
    flow: ControlledODE | Trajectory, x: Points | None, drawn: tuple[int, ...], times: Sequence[float] | None = None
) -> Paths:
    """States at the flow's own times; of an array at the times given, equally spaced over [0, 1] where None.

    Call `extent` first: it refuses what cannot be drawn.

    Raises:
        ValueError: times that do not fit, rows of the flow that failed, a state that is not finite.
        DivergedError: the flow raises it.
    """
    if isinstance(flow, ControlledODE):
        if times is not None:
            raise ValueError("A flow knows its times; got times as well: drop them.")
        states = as_floats("The path", flow.trajectory(_starts(flow, x)))
        assert flow.failed is not None
        failed = torch.nonzero(flow.failed).flatten().tolist()
        if failed:
            raise ValueError(
                f"Row {failed[0]} of {states.shape[1]} failed on its way ({len(failed)} did): its path would stand "
                "still. Leave out such rows, or take smaller controls or more steps."
            )
        known = np.array(flow.times)
    else:
        states = as_floats("The path", flow)
        known = np.linspace(0, 1, len(states)) if times is None else np.asarray(times, dtype=np.float64)
        if known.shape != (len(states),) or not (np.diff(known) > 0).all() or not np.isfinite(known).all():
            raise ValueError(f"times must be {len(states)} finite numbers that rise, one a state; got {times!r}.")
    bad = np.argwhere(~np.isfinite(states).all(2))
    if len(bad):
        time, row = (int(k) for k in bad[0])
        raise ValueError(
            f"The path of row {row} is not finite at t = {known[time]:.4g}: {states[time, row].tolist()}. Leave out "
            "such rows, or end the path before."
        )
    return Paths(known, states, drawn)


def as_floats(name: str, values: Tensor | NDArray[np.float64]) -> NDArray[np.float64]:
    """A real array in float64, on the host.

    Raises:
        ValueError: complex numbers.
    """
    complex_ = values.is_complex() if isinstance(values, Tensor) else np.iscomplexobj(values)
    if complex_:
        raise ValueError(f"{name} is complex and pictures are real: draw torch.view_as_real(path).flatten(-2).")
    if isinstance(values, Tensor):
        numbers(name, values)
    return values.detach().cpu().double().numpy() if isinstance(values, Tensor) else np.asarray(values, np.float64)


def _starts(flow: ControlledODE, x: Points | None) -> Tensor:
    if x is None:
        raise ValueError(f"A flow needs points to start from: x of shape (points, {flow.dim}).")
    if not isinstance(x, Tensor) or x.ndim != 2 or x.shape[1] != flow.dim or not len(x):
        got = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise ValueError(f"x must be a tensor of shape (points, {flow.dim}), points >= 1; got {got}.")
    return x
