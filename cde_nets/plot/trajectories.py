"""Paths of points under a flow, and points carried to their targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from mpl_toolkits.mplot3d.art3d import Line3DCollection  # type: ignore[import-untyped]
from numpy.typing import NDArray
from torch import Tensor

from cde_nets.nn.flow import ControlledODE
from cde_nets.plot.paths import Points, Trajectory, as_floats, coordinates, extent, paths
from cde_nets.plot.space import Labels, colours_of, draw_points, labelled, line_width, marker_area, scatter, show, space
from cde_nets.plot.style import styled

_LEGEND = "#555555"


def trajectories(
    flow: ControlledODE | Trajectory,
    x: Points | None = None,
    ax: Axes | None = None,
    *,
    dims: Sequence[int] | None = None,
    labels: Labels | None = None,
) -> Axes:
    """Paths of points, in the plane or in space: hollow where they start, filled where they end.

    Args:
        flow: a flow, drawn at the times of its `trajectory`, or its path: states, shape (times, points, dim).
        x: where the points start, shape (points, dim); with a flow only.
        ax: where, 3-D axes for three coordinates; a new figure's where None.
        dims: the two or three coordinates to draw; needed where the states have more than three.
        labels: one a point: equal ones share a colour and are named in a legend. Each point has its own colour where
            None.

    Raises:
        ValueError: what has no such picture: states of one coordinate, arrays of another shape, states that are not
            finite, labels that are not one a point, axes of the other kind.
        DivergedError: the flow raises it.
    """
    points, dim = extent(flow, x)
    drawn = coordinates(dim, dims)
    check_labels(labels, points)
    with styled():
        ax = space(ax, drawn)
        path = paths(flow, x, drawn).points
        names, palette, colours = labelled(range(points) if labels is None else labels)
        show(ax, path.reshape(-1, len(drawn)), more=ax.has_data())
        draw_lines(ax, path.swapaxes(0, 1), colours)
        draw_points(ax, path[0], colours, filled=False)
        draw_points(ax, path[-1], colours, filled=True)
        if labels is not None:
            beside(ax, [_key("o", str(name), colour) for name, colour in zip(names, palette, strict=True)])
    return ax


def targets(
    flow: ControlledODE,
    x: Points,
    y: Points,
    ax: Axes | None = None,
    *,
    lam: float | None = None,
    dims: Sequence[int] | None = None,
) -> Axes:
    """Points carried to their targets: path, start (hollow), end (filled), target (cross), a colour a point.

    The title says the largest distance from an end to its target, over all coordinates. Where points outnumber plain
    colours, those go from dark to light by the points' numbers, and five shapes of markers take turns.

    Args:
        flow: X.
        x: where the points start, shape (points, dim).
        y: what was asked for, shape (points, dim).
        ax: where, 3-D axes for three coordinates; a new figure's where None.
        lam: lambda of y = lambda (X_1 - x), for which the target of X_1 is x + y / lambda; None for y = X_1.
        dims: as `trajectories`.

    Raises:
        ValueError: as `trajectories`, or targets that are not one a point, or not finite, or a lambda that is zero or
            not finite.
        DivergedError: the flow raises it.
    """
    points, dim = extent(flow, x)
    drawn = coordinates(dim, dims)
    goals = goals_of(as_floats("x", x), y, lam)
    with styled():
        ax = space(ax, drawn)
        found = paths(flow, x, drawn)
        path, colours = found.points, colours_of(points)
        seen = goals[:, list(drawn)]
        show(ax, np.concatenate([path.reshape(-1, len(drawn)), seen]), more=ax.has_data())
        draw_lines(ax, path.swapaxes(0, 1), colours)
        draw_points(ax, path[0], colours, filled=False, shapes=True)
        draw_points(ax, path[-1], colours, filled=True, shapes=True, scale=0.5)
        draw_crosses(ax, seen, colours)
        left = np.linalg.norm(found.states[-1] - goals, axis=1).max()
        ax.set_title(f"{points} point{'s' if points > 1 else ''}, largest distance left {left:.2g}")
        beside(ax, [_key("o", "start", _LEGEND, hollow=True), _key("o", "end", _LEGEND), _key("x", "target", _LEGEND)])
    return ax


def check_labels(labels: Labels | None, points: int) -> None:
    """Refuse labels that are not one a point (ValueError)."""
    if isinstance(labels, Tensor | np.ndarray) and labels.ndim != 1:
        raise ValueError(f"labels has shape {tuple(labels.shape)}, expected ({points},): one a point.")
    if labels is not None and len(labels) != points:
        raise ValueError(f"labels has {len(labels)} entries, expected {points}: one a point.")


def goals_of(x: NDArray[np.float64], y: Points, lam: float | None) -> NDArray[np.float64]:
    """Where the ends should be: y, or x + y / lam.

    Args:
        x: starts, shape (points, dim).
        y: of the same shape.
        lam: of the readout y = lambda (X_1 - x); None for y = X_1.

    Raises:
        ValueError: y of another shape or not finite, a lambda that is zero or not finite.
    """
    if not isinstance(y, Tensor | np.ndarray):
        raise ValueError(f"y is a {type(y).__name__}, expected a tensor or array of shape {x.shape}.")
    if tuple(y.shape) != x.shape:
        raise ValueError(f"y has shape {tuple(y.shape)}, expected {x.shape}: one target a point.")
    wanted = as_floats("y", y)
    bad = np.flatnonzero(~np.isfinite(wanted).all(1))
    if len(bad):
        raise ValueError(f"y: row {bad[0]} is not finite: {wanted[bad[0]].tolist()}.")
    if lam is None:
        return wanted
    if not np.isfinite(lam) or lam == 0:
        raise ValueError(f"lam is {lam}, expected a finite number other than zero, or None where y is X_1 itself.")
    return x + wanted / lam


def draw_lines(
    ax: Axes, lines: NDArray[np.float64], colours: NDArray[np.float64], width: float | None = None
) -> LineCollection:
    """Lines of shape (lines, corners, coordinates) as one artist; thinner where they are many and no width is given."""
    style: Any = {"colors": colours, "linewidths": line_width(len(lines)) if width is None else width}
    made: LineCollection
    if lines.shape[2] == 3:
        made = Line3DCollection(list(lines), capstyle="round", **style)
    else:
        made = LineCollection(list(lines), capstyle="round", zorder=2, **style)
    ax.add_collection(made, autolim=False)
    return made


def draw_crosses(ax: Axes, points: NDArray[np.float64], colours: NDArray[np.float64]) -> None:
    """Targets: crosses that stick out under markers."""
    scatter(ax, points, s=2.2 * marker_area(len(points)), c=colours, marker="x", linewidths=1.1, zorder=3.5)


def beside(ax: Axes, keys: Sequence[Line2D]) -> None:
    """A legend to the right of the axes, over no path."""
    ax.legend(handles=keys, loc="upper left", bbox_to_anchor=(1.0 if ax.name == "rectilinear" else 1.08, 1.0))


def _key(marker: str, label: str, colour: Any, *, hollow: bool = False) -> Line2D:
    inside = "white" if hollow else colour
    return Line2D(
        [], [], linestyle="", marker=marker, markersize=5, markeredgecolor=colour, markerfacecolor=inside, label=label
    )
