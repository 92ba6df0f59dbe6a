"""Streamlines: the velocity of planar fields, quietly, under what is drawn over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Inexact
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba_array
from numpy.typing import NDArray
from torch import Tensor

from cde_nets.door import numbers
from cde_nets.fields.base import Fields
from cde_nets.nn.flow import ControlledODE
from cde_nets.plot.space import show, space
from cde_nets.plot.style import styled
from cde_nets.solver import InitialValueProblem
from cde_nets.solver.dynamics import Moment

Limits = tuple[tuple[float, float], tuple[float, float]]
Velocity = Callable[[Tensor], Tensor]
GREY = "#c4c4c4"
# Points of the grid each way between which matplotlib interpolates the velocity.
_GRID = 40
# Strokes along the longer side of a picture, and steps of each half of one, a multiple of three.
_STROKES, _STEPS = 18, 6


@torch.no_grad()
def streamlines(
    fields: Fields,
    u: Inexact[Tensor, "count"],
    ax: Axes | None = None,
    *,
    limits: Limits | None = None,
    density: float = 1.0,
) -> Axes:
    """The velocity sum_i u_i V_i of planar fields as grey streamlines, under all else on the axes.

    Draw them last: they then fill the axes as these are. A control that is zero has no streamlines, and none are drawn.

    Args:
        fields: on R^2.
        u: the control at a time, shape (count,); the i-th unit vector shows V_i alone.
        ax: where; a new figure's where None.
        limits: ((left, right), (bottom, top)), to be filled and seen; what the axes show where None, or the square
            [-1, 1]^2 where they show nothing yet.
        density: of the lines; 1 is about 30 each way.

    Raises:
        ValueError: fields on another space, a control of another shape, limits that are not, a density that is not
            positive, a velocity that is not finite, axes in space.
    """
    if fields.dim != 2:
        raise ValueError(f"Streamlines are drawn of fields on R^2; got fields on R^{fields.dim}.")
    if not isinstance(u, Tensor) or u.shape != (fields.count,):
        got = f"shape {tuple(u.shape)}" if isinstance(u, Tensor) else f"a {type(u).__name__}"
        raise ValueError(f"u has {got}, expected ({fields.count},): a tensor with one number a field.")
    numbers("u", u)
    if not (density > 0 and np.isfinite(density)):
        raise ValueError(f"density is {density}, expected a positive number.")
    if limits is not None and not _are_limits(limits):
        raise ValueError(f"limits is {limits}, expected ((left, right), (bottom, top)), finite and rising.")
    with styled():
        ax = space(ax, (0, 1))
        if limits is not None:
            show(ax, np.array(limits).T, more=ax.has_data(), margin=0.0)
        elif not ax.has_data():
            show(ax, np.array([[-1.0, -1.0], [1.0, 1.0]]), more=False, margin=0.0)
        _draw(ax, fields, u, limits, density)
    return ax


def _are_limits(limits: Any) -> bool:
    try:
        pairs = np.asarray(limits, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return pairs.shape == (2, 2) and bool(np.isfinite(pairs).all() and (pairs[:, 0] < pairs[:, 1]).all())


def _draw(ax: Axes, fields: Fields, u: Inexact[Tensor, "count"], limits: Limits | None, density: float) -> None:
    shown = (ax.get_xlim(), ax.get_ylim())
    across, up = (np.linspace(*pair, _GRID) for pair in (shown if limits is None else limits))
    grid = np.stack(np.meshgrid(across, up), -1)
    v = _ask(lambda x: fields.velocity(x, u.to(fields.dtype)), fields, grid.reshape(-1, 2)).reshape(grid.shape)
    largest = np.abs(v).max()
    if largest > 0:
        # Only directions are drawn. Scaled, tiny and huge velocities are followed as well as others.
        right, upward = np.moveaxis(v / largest, 2, 0)
        ax.streamplot(across, up, right, upward, density=density, color=GREY, linewidth=0.6, arrowsize=0.7, zorder=0.6)
    ax.set(xlim=shown[0], ylim=shown[1])
    # Lines under lines are hard to read.
    ax.grid(False)


def draw_strokes(ax: Axes, flow: ControlledODE, time: float, drawn: Sequence[int] = (0, 1)) -> LineCollection:
    """Short streamlines of a planar flow through a fixed grid, pale where they come from: one artist, drawn fast.

    Seen one after the other they turn in their places, where lines that are spaced anew each time would flicker.

    Args:
        ax: where; its limits are filled, and stay.
        flow: on R^2, with one control for all rows.
        time: of the velocity, drift and fresh fields included; at a breakpoint that which begins there.
        drawn: (0, 1), or (1, 0) where x_1 is drawn upward.

    Raises:
        ValueError: a velocity that is not finite.
    """
    velocity, like = _velocity_at(flow, time, list(drawn)), _families(flow)[0]
    limits = np.array([ax.get_xlim(), ax.get_ylim()])
    apart = float((limits[:, 1] - limits[:, 0]).max()) / _STROKES
    across, up = (np.arange(low + apart / 2, high, apart) for low, high in limits)
    seeds = np.stack(np.meshgrid(across, up), -1).reshape(-1, 2)
    # Half a stroke is 0.8 of the distance between seeds.
    step = 0.8 * apart / _STEPS
    back, ahead = [seeds], [seeds]
    for line, h in ((back, -step), (ahead, step)):
        for _ in range(_STEPS):
            middle = line[-1] + h / 2 * _direction(velocity, like, line[-1])
            line.append(line[-1] + h * _direction(velocity, like, middle))
    corners = np.stack([*reversed(back), *ahead[1:]])
    # Of three steps each: many paths take long to draw.
    pieces = np.stack([corners[n : n + 4] for n in range(0, 2 * _STEPS, 3)]).swapaxes(1, 2)
    colours = to_rgba_array([GREY] * len(pieces))
    colours[:, 3] = np.linspace(0.2, 1.0, len(pieces))
    made = LineCollection(
        list(pieces.reshape(-1, 4, 2)),
        colors=np.repeat(colours, len(seeds), axis=0),
        linewidths=1.0,
        capstyle="butt",
        zorder=0.6,
    )
    ax.add_collection(made, autolim=False)
    return made


def _velocity_at(flow: ControlledODE, time: float, order: list[int]) -> Velocity:
    start, end = flow.control.span
    ends = (start, *flow.control.breakpoints, end)
    # The piece that begins at a breakpoint; at the end the last one.
    n = min(int(np.searchsorted(ends, time, side="right")) - 1, len(ends) - 2)
    piece = ends[n : n + 2]
    node = (time - piece[0]) / (piece[1] - piece[0])

    def velocity(x: Tensor) -> Tensor:
        # A swap of two coordinates is its own inverse.
        x = x[:, order]
        problem = InitialValueProblem.controlled(_families(flow), flow.control, x, drift=flow.drift)
        return problem.dynamics.bind(piece, (node,)).velocity(x, Moment(0, 0))[:, order]

    return velocity


def _families(flow: ControlledODE) -> list[Fields]:
    return [family for family in flow.families if isinstance(family, Fields)]


def _direction(velocity: Velocity, like: Fields, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors along the velocity; zero where it is zero."""
    v = _ask(velocity, like, x)
    speed = np.hypot(v[:, :1], v[:, 1:])
    return np.divide(v, speed, out=np.zeros_like(v), where=speed > 0)


def _ask(velocity: Velocity, like: Fields, x: NDArray[np.float64]) -> NDArray[np.float64]:
    states = torch.from_numpy(x).to(device=like.device, dtype=like.dtype)
    v: NDArray[np.float64] = velocity(states).detach().cpu().double().numpy()
    bad = np.flatnonzero(~np.isfinite(v).all(1))
    if len(bad):
        raise ValueError(f"The velocity at {x[bad[0]].tolist()} is not finite: nothing can be drawn there.")
    return v
