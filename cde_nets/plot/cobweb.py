"""The cobweb of an iteration on the line: up or down to the graph of f, across to the diagonal, and again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from cde_nets.door import numbers
from cde_nets.plot.style import COLOURS, axes, styled

Iterates = Float[Tensor, " steps"] | Float[np.ndarray, " steps"]

_DIAGONAL = "#999999"
# Where f is read off, and how far beyond the picture its graph is still drawn: a graph that goes through infinity
# must not come back as a vertical line.
_SAMPLES, _BEYOND = 2001, 3.0
# Solvers compute z + (f(z) - z), which is f(z) to the rounding of z.
_ROUNDING = 1e-6


def cobweb(
    f: Callable[[Tensor], Tensor],
    iterates: Iterates,
    ax: Axes | None = None,
    *,
    limits: tuple[float, float] | None = None,
) -> Axes:
    """The iteration x_{k+1} = f(x_k) on the graph of f: hollow where it starts on the diagonal, filled where it ends.

    The staircase runs (x_k, x_k), (x_k, x_{k+1}), (x_{k+1}, x_{k+1}): its corners lie on the graph and on the diagonal,
    and fixed points are where these two meet.

    Args:
        f: of columns of numbers, shape (numbers, 1): as in a `FixedPointProblem` with rows of one number. Of a damped
            iteration the damped map.
        iterates: x_0, x_1, .., two or more.
        ax: where; a new figure's where None.
        limits: of both axes; where None, all iterates and a margin.

    Raises:
        ValueError: fewer than two iterates, iterates that are not finite or not those of f, limits that are not finite
            and rising, axes of three dimensions, an f whose values have another shape.
    """
    if iterates is None:
        raise ValueError("iterates is None, expected numbers x_0, x_1, .., two or more.")
    given = torch.as_tensor(iterates, device=getattr(iterates, "device", "cpu"))
    numbers("iterates", given)
    x = given.detach().to("cpu", torch.float64)
    _check(f, x)
    low, high = _limits(x.numpy(), limits)
    with styled():
        ax = axes(ax, 4.0, 4.0)
        if ax.name != "rectilinear":
            raise ValueError(f"a cobweb needs flat axes; got {type(ax).__name__}.")
        at = np.linspace(low, high, _SAMPLES)
        graph = _values(f, torch.from_numpy(at)).numpy().copy()
        graph[~(np.abs(graph - (low + high) / 2) <= _BEYOND * (high - low))] = np.nan
        ax.plot((low, high), (low, high), color=_DIAGONAL, linewidth=1.0, label="x")
        ax.plot(at, graph, color=COLOURS[0], label="f(x)")
        ax.plot(*_staircase(x.numpy()), color=COLOURS[5], linewidth=1.0, label="iterates")
        for k, face in ((0, "white"), (-1, COLOURS[5])):
            ax.plot(x[k], x[k], "o", color=COLOURS[5], markerfacecolor=face, markersize=5, zorder=3)
        ax.set(xlim=(low, high), ylim=(low, high), xlabel="$x_k$", ylabel="$x_{k+1}$")
        ax.set_aspect("equal")
    return ax


def _check(f: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Refuse what is no iteration of f."""
    if x.dim() != 1 or len(x) < 2:
        raise ValueError(f"iterates has shape {tuple(x.shape)}, expected (steps + 1,) with one step or more.")
    bad = torch.nonzero(~torch.isfinite(x)).flatten().tolist()
    if bad:
        raise ValueError(f"iterates: x_{bad[0]} is not finite: {float(x[bad[0]])}.")
    off = (_values(f, x[:-1]) - x[1:]).abs() / torch.maximum(x[:-1].abs(), x[1:].abs()).clamp(min=1)
    wrong = torch.nonzero(~(off <= _ROUNDING)).flatten().tolist()
    if wrong:
        k = wrong[0]
        raise ValueError(
            f"iterates are not those of f: x_{k + 1} is {float(x[k + 1]):g}, and f(x_{k}) is "
            f"{float(_values(f, x[k : k + 1])):g}. Of a damped iteration give the damped map."
        )


def _limits(x: NDArray[np.float64], limits: tuple[float, float] | None) -> tuple[float, float]:
    if limits is None:
        margin = 0.1 * (x.max() - x.min()) or 0.1
        return float(x.min() - margin), float(x.max() + margin)
    low, high = limits
    if not -np.inf < low < high < np.inf:
        raise ValueError(f"limits is {limits}, expected two finite and rising numbers.")
    return low, high


def _values(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.no_grad():
        values = f(x[:, None])
    if values.shape != (len(x), 1):
        raise ValueError(f"f made shape {tuple(values.shape)} of shape {(len(x), 1)}; it must keep the shape.")
    return values[:, 0]


def _staircase(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners (x_0, x_0), (x_0, x_1), (x_1, x_1), (x_1, x_2), .."""
    return np.repeat(x, 2)[:-1], np.concatenate([x[:1], np.repeat(x[1:], 2)])
