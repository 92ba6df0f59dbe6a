"""u(t) from data, one control a row of the batch: a neural controlled differential equation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Real
from numpy.typing import NDArray
from torch import Tensor

from cde_nets.controls import arguments
from cde_nets.controls.base import Control
from cde_nets.door import numbers

Pieces = Float[Tensor, "pieces batch count"]


class DataControl(Control):
    """u = dY/dt, or Y itself, of a path Y that interpolates data: each row of the batch has its own.

    With u = dY/dt the flow is dX = sum_i V_i(X) dY^i, a neural controlled differential equation (Kidger, Morrill,
    Foster and Lyons, "Neural controlled differential equations for irregular time series", 2020). What happens between
    the knots depends on the data at them and, unless time is one of the channels, not on when it happens.

    - "linear": straight lines between the knots. dY/dt is constant on each piece and jumps.
    - "hermite": cubic pieces whose slope at a knot is the slope of the line from the knot before, and at the first
      knot that to the next one (Morrill, Kidger, Yang and Lyons, "Neural controlled differential equations for online
      prediction tasks", 2021). A piece depends on no later knot than its end. dY/dt is continuous.
    - "cubic": the natural cubic spline, Y'' = 0 at both ends. dY/dt has a continuous slope, and each piece depends on
      all the data.

    Nothing trains. Gradients flow to `path` through what is computed from it here, at construction: where the path
    is itself trained, make the control anew for every backward pass. The data is not part of the state_dict.

    Args:
        times: the knots' times, shape (knots,), strictly increasing; the same for all rows. The span goes from the
            first to the last.
        path: the data, shape (batch, knots, count), finite.
        interpolation: "linear", "hermite" or "cubic".
        derivative: whether u is dY/dt; otherwise it is Y.

    Raises:
        ValueError: fewer than two knots, times that do not increase, a path of another shape, not floating, or with
            missing values, an unknown interpolation.
    """

    coefficients: Float[Tensor, "pieces batch powers count"]

    def __init__(
        self,
        times: Sequence[float] | Real[Tensor, "knots"] | NDArray[Any],
        path: Float[Tensor, "batch knots count"],
        *,
        interpolation: str = "linear",
        derivative: bool = True,
    ) -> None:
        super().__init__()
        self.interpolation = arguments.known("interpolation", interpolation, _SLOPES)
        if not isinstance(derivative, bool):
            raise ValueError(f"derivative must be True (u = dY/dt) or False (u = Y); got {derivative!r}.")
        self.derivative = derivative
        self.times = _knots(times)
        _check_path(path, len(self.times))
        self.rows, self.count = path.shape[0], path.shape[2]
        self.span = (self.times[0], self.times[-1])
        self.register_buffer("coefficients", self._coefficients(path), persistent=False)
        self._place_knots()

    @property
    def breakpoints(self) -> tuple[float, ...]:
        """The inner knots."""
        return self.times[1:-1]

    @property
    def jumps(self) -> bool:
        """True for the derivative of straight lines."""
        return self.derivative and self.interpolation == "linear" and bool(self.breakpoints)

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """The pieces' coefficients, which are all that `at` reads of the path: from there gradients go on to it."""
        return (self.coefficients,)

    def at(
        self, times: Float[Tensor, "*times lanes"], inside: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, "*times {self.rows} {self.count}"]:
        """The piece's polynomial, for every row; see `Control.at`."""
        times, moments = self._moments(times, inside)
        knots = self._knots
        # In the dtype of the moments, so that a knot's time starts its piece in float32 too.
        n = torch.searchsorted(knots.to(moments.dtype), moments.detach().contiguous(), right=True) - 1
        n = n.clamp(0, len(self.times) - 2)
        s = ((times - knots[n]) / (knots[n + 1] - knots[n])).to(self.coefficients.dtype)[..., None]
        if n.shape[-1] == 1:
            pieces = self.coefficients[n.squeeze(-1)]
        else:
            pieces = self.coefficients[n, torch.arange(n.shape[-1], device=n.device)]
        *lower, values = pieces.unbind(-2)
        for coefficient in reversed(lower):
            values = torch.addcmul(coefficient, values, s)
        return values

    def extra_repr(self) -> str:
        """Shown by print(control)."""
        what = "dY/dt" if self.derivative else "Y"
        return (
            f"u={what}, rows={self.rows}, count={self.count}, knots={len(self.times)}, "
            f"interpolation={self.interpolation!r}, span={self.span}"
        )

    def _coefficients(self, path: Tensor) -> Tensor:
        """Of the powers of s, which runs from 0 to 1 on each piece; computed in float64 and rounded once."""
        knots = path.double().movedim(1, 0)
        h = torch.from_numpy(np.diff(self.times)).to(path.device)[:, None, None]
        left, change = knots[:-1], knots.diff(dim=0) / h
        if self.interpolation == "linear":
            powers = [change] if self.derivative else [left, h * change]
        else:
            m, end = _SLOPES[self.interpolation](self.times, change)
            second, third = 3 * change - 2 * m - end, m + end - 2 * change
            powers = [m, 2 * second, 3 * third] if self.derivative else [left, h * m, h * second, h * third]
        return torch.stack(powers, -2).to(path.dtype)

    def _place_knots(self) -> None:
        self._knots = torch.tensor(self.times, dtype=torch.float64, device=self.coefficients.device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DataControl:
        # Casting is meant for u: the knots move with it and stay float64.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._place_knots()
        return self


def _backward_differences(times: Sequence[float], change: Pieces) -> tuple[Pieces, Pieces]:
    """Slopes at both ends of each piece: that of the line before, and its own."""
    return torch.cat([change[:1], change[:-1]]), change


def _natural(times: Sequence[float], change: Pieces) -> tuple[Pieces, Pieces]:
    """Slopes at both ends of each piece for which Y'' is continuous, and zero at the first and last knot.

    They solve a tridiagonal system whose rows are dominated by their diagonal, 2 against entries that sum to 1 (de
    Boor, A Practical Guide to Splines, chapter IV): Gaussian elimination without pivoting. Its matrix depends on
    the times alone and is eliminated on the host; the right-hand side follows in operations that autograd sees.
    """
    h = np.diff(times)
    # Row n: below[n] m_{n-1} + 2 m_n + above[n] m_{n+1} = 3 (below[n] change_{n-1} + above[n] change_n).
    below = np.concatenate([[0.0], h[1:] / (h[:-1] + h[1:]), [1.0]]).tolist()
    above = [1.0, *(1 - b for b in below[1:-1]), 0.0]
    changes = change.unbind()
    pivots, sides = [2.0], [3 * changes[0]]
    for n in range(1, len(times)):
        side = 3 * below[n] * changes[n - 1]
        if n < len(changes):
            side = side + 3 * above[n] * changes[n]
        factor = below[n] / pivots[-1]
        pivots.append(2.0 - factor * above[n - 1])
        sides.append(side.sub(sides[-1], alpha=factor))
    slopes = [sides[-1] / pivots[-1]]
    for n in reversed(range(len(changes))):
        slopes.append(sides[n].sub(slopes[-1], alpha=above[n]) / pivots[n])
    found = torch.stack(slopes[::-1])
    return found[:-1], found[1:]


def _straight(times: Sequence[float], change: Pieces) -> tuple[Pieces, Pieces]:
    return change, change


_SLOPES: dict[str, Callable[[Sequence[float], Pieces], tuple[Pieces, Pieces]]] = {
    "linear": _straight,
    "hermite": _backward_differences,
    "cubic": _natural,
}


def _knots(times: Any) -> tuple[float, ...]:
    if isinstance(times, Tensor):
        numbers("times", times)
    if isinstance(times, Tensor) and times.is_complex():
        raise ValueError(f"times must be real; got {times.dtype}.")
    try:
        found = np.asarray(times.detach().cpu() if isinstance(times, Tensor) else times, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"times must be numbers, one a knot; got {times!r}.") from None
    if found.ndim != 1 or found.size < 2:
        raise ValueError(
            f"times must have shape (knots,) with at least 2 knots; got shape {found.shape}. All rows share the times."
        )
    if not np.isfinite(found).all():
        raise ValueError(f"times must be finite; times[{int(np.argmin(np.isfinite(found)))}] is not. Drop such knots.")
    if not (np.diff(found) > 0).all():
        n = int(np.argmin(np.diff(found) > 0))
        raise ValueError(
            f"times must strictly increase; times[{n}] = {found[n]:g} is followed by {found[n + 1]:g}. Sort the knots "
            "and the path with them, and keep one of those at the same time."
        )
    return tuple(found.tolist())


def _check_path(path: Any, knots: int) -> None:
    if not isinstance(path, Tensor) or path.ndim != 3 or path.shape[1] != knots or 0 in path.shape:
        got = f"shape {tuple(path.shape)}" if isinstance(path, Tensor) else f"a {type(path).__name__}"
        raise ValueError(
            f"path must be a tensor of shape (batch, {knots}, count), as there are {knots} times; got {got}. "
            "One path is a batch of one: path[None]; one channel is path[..., None]."
        )
    if not path.is_floating_point():
        raise ValueError(f"path must be floating point; got {path.dtype}. Use .to(torch.float64), say.")
    numbers("path", path)
    missing = ~torch.isfinite(path.detach()).flatten(1).all(1)
    if bool(missing.any()):
        rows = missing.nonzero().flatten().tolist()
        shown = ", ".join(map(str, rows[:5])) + (", .." if len(rows) > 5 else "")
        raise ValueError(
            f"path holds NaN or infinity in {len(rows)} of {path.shape[0]} rows: {shown}. Fill in missing values "
            "first: carry the last value on, or np.interp each channel from the times where it was seen."
        )
