"""Pictures of learned controls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator
from numpy.typing import NDArray

from cde_nets.controls import Control, PiecewiseConstantControl
from cde_nets.nn.flow import ControlledODE
from cde_nets.plot.sampled import cells, curve
from cde_nets.plot.style import COLOURS, DIVERGING, SEQUENTIAL, axes, figure, styled

# Up to so many intervals each has its tick and a line at its end; more would hide the colours.
_FEW_INTERVALS = 12


def control_map(
    control: Control,
    ax: Axes | None = None,
    *,
    limit: float | None = None,
    bar: bool = True,
    row: int | None = None,
) -> Axes:
    """u_i(t) as colours: time across, the field's number down.

    Args:
        control: what to draw; one that is not piecewise constant is sampled.
        ax: where; a new figure's where None.
        limit: the value of the deepest colours; the largest |u| where None.
        bar: draw the scale of colours beside it.
        row: which row's control, where each has its own.

    Raises:
        ValueError: a row where all share the control, or none, or one too many, where each has its own; a limit that
            is negative or not finite.
    """
    if limit is not None and not 0 <= limit < math.inf:
        raise ValueError(f"limit is {limit}, expected a number from 0 up, or None for the largest |u|.")
    values = cells(control, row).T
    few = isinstance(control, PiecewiseConstantControl) and control.steps <= _FEW_INTERVALS
    with styled():
        ax = axes(ax, *((4.0, 5.0) if few else (6.4, 1.6 + 0.1 * max(control.count, 16))))
        bound = float(abs(values).max()) if limit is None else limit
        extent = (*control.span, control.count + 0.5, 0.5)
        image = ax.imshow(values, aspect="auto", cmap=DIVERGING, vmin=-bound, vmax=bound, extent=extent)
        if few:
            for t in control.breakpoints:
                ax.axvline(t, color="white", linewidth=3)
            ax.set_xticks([control.span[0], *control.breakpoints, control.span[1]])
        ax.grid(False)
        ax.set(xlabel="t", ylabel="field i", xlim=control.span)
        ax.yaxis.set_major_locator(FixedLocator(_numbers(control.count)))
        whole = ax.get_figure()
        if bar and whole is not None:
            whole.colorbar(image, ax=ax, label="$u_i(t)$")
    return ax


def control_curves(control: Control, ax: Axes | None = None, *, row: int | None = None) -> Axes:
    """Every u_i(t), the five of largest energy in colour and named at their ends.

    Piecewise constant controls are staircases, others curves. Staircases of more than 12 intervals would tangle: there
    the five have a lane each, above one another, and the others are left to `control_map`. Meant for tied fields: where
    each interval has fields of its own, u_i before and after a breakpoint steer different ones, and `control_sizes`
    says more.

    Args:
        control: what to draw.
        ax: where; a new figure's where None.
        row: which row's control, where each has its own.

    Raises:
        ValueError: as `control_map`.
    """
    values = cells(control, row)
    strongest = (values**2).sum(0).argsort()[::-1][:5].tolist()
    with styled():
        ax = axes(ax)
        ax.set(xlabel="t", ylabel="$u_i(t)$", xlim=control.span)
        if isinstance(control, PiecewiseConstantControl) and control.steps > _FEW_INTERVALS:
            _draw_lanes(ax, values, strongest)
            return ax
        times, sampled = curve(control, row)
        edges = [control.span[0], *control.breakpoints, control.span[1]]
        styles: dict[int, Any] = {i: {"color": "#bbbbbb", "linewidth": 0.5, "alpha": 0.6} for i in range(control.count)}
        for colour, i in zip(COLOURS, strongest, strict=False):
            # Put last, they are drawn over the others.
            del styles[i]
            styles[i] = {"color": colour, "linewidth": 1.8}
        for i, style in styles.items():
            if isinstance(control, PiecewiseConstantControl):
                ax.stairs(values[:, i], edges, baseline=None, **style)
            else:
                ax.plot(times, sampled[:, i], **style)
        _name_ends(ax, {i: float(sampled[-1, i]) for i in strongest})
    return ax


def _draw_lanes(ax: Axes, values: NDArray[np.float64], strongest: list[int]) -> None:
    """Staircases on zero lines 2 apart, the strongest on top, in units of their largest value."""
    bound = float(abs(values[:, strongest]).max()) or 1.0
    edges = np.linspace(0, 1, len(values) + 1)
    zeros = [-2.0 * lane for lane in range(len(strongest))]
    for colour, zero, i in zip(COLOURS, zeros, strongest, strict=False):
        ax.stairs(zero + values[:, i] / bound, edges, baseline=zero, fill=True, color=colour)
    ax.set_yticks(zeros, [f"$u_{{{i + 1}}}$" for i in strongest])
    ax.set(ylim=(zeros[-1] - 1.05, 1.05), ylabel=f"$u_i(t)$, lanes of ±{bound:.3g}")


def _numbers(count: int) -> list[int]:
    """Which fields to number: all of ten, else every fifth or so, and the first."""
    if count <= 10:
        return list(range(1, count + 1))
    apart = 5 * math.ceil(count / 50)
    return [1, *range(apart, count + 1, apart)]


def control_sizes(control: PiecewiseConstantControl, ax: Axes | None = None) -> Axes:
    """|u_i| in falling order, a curve for each interval: how many of its fields an interval uses."""
    with styled():
        ax = axes(ax)
        sizes = -np.sort(-np.abs(control.values.detach().cpu().numpy()), axis=1)
        edges = [n / control.steps for n in range(control.steps + 1)]
        fields = range(1, control.count + 1)
        if control.steps <= len(COLOURS):
            for colour, low, high, values in zip(COLOURS, edges[:-1], edges[1:], sizes, strict=False):
                ax.plot(fields, values, color=colour, label=f"t in [{low:.2g}, {high:.2g}]")
            ax.legend()
        else:
            times = ScalarMappable(Normalize(0, 1), SEQUENTIAL)
            for low, high, values in zip(edges[:-1], edges[1:], sizes, strict=True):
                ax.plot(fields, values, color=colormaps[SEQUENTIAL]((low + high) / 2), linewidth=0.8)
            whole = ax.get_figure()
            assert whole is not None
            whole.colorbar(times, ax=ax, label="t")
        ax.set(xlabel="fields, largest first", ylabel="$|u_i|$")
    return ax


def _name_ends(ax: Axes, ends: dict[int, float]) -> None:
    """Name curves at their right ends, in their colours, none over another."""
    low, high = ax.get_ylim()
    gap, places = 0.11 * (high - low), sorted(ends.values())
    for n in range(1, len(places)):
        places[n] = max(places[n], places[n - 1] + gap)
    # What was pushed out at the top pushes back.
    places[-1] = min(places[-1], high)
    for n in range(len(places) - 1, 0, -1):
        places[n - 1] = min(places[n - 1], places[n] - gap)
    colours = dict(zip(ends, COLOURS, strict=False))
    for i, place in zip(sorted(ends, key=lambda i: ends[i]), places, strict=True):
        ax.annotate(
            f"$u_{{{i + 1}}}$",
            (1.02, place),
            xycoords=("axes fraction", "data"),
            color=colours[i],
            va="center",
            annotation_clip=False,
        )


def controls(flows: Sequence[ControlledODE]) -> Figure:
    """The controls of every stage: as colours above, one scale for all; below as curves, by size for fresh fields.

    Args:
        flows: with piecewise constant controls, one a stage.

    Raises:
        ValueError: no flows, or a control of another kind.
    """
    if not flows:
        raise ValueError("controls() draws the flows of a network, and there are none: expected one or more.")
    stages = [flow.control for flow in flows if isinstance(flow.control, PiecewiseConstantControl)]
    if len(stages) < len(flows):
        raise ValueError("controls() draws piecewise constant controls; one of the flows has another kind.")
    with styled():
        made = figure(3.2 * len(stages) + 0.8, 6.4)
        grid = made.subplots(2, len(stages), squeeze=False, height_ratios=(2, 1))
        limit = max(float(c.values.detach().abs().max()) for c in stages)
        for number, (flow, control) in enumerate(zip(flows, stages, strict=True)):
            control_map(control, grid[0, number], limit=limit, bar=number == len(stages) - 1)
            kind = "tied fields" if flow.tied else "fresh fields on each interval"
            grid[0, number].set_title(f"stage {number + 1}, {kind}")
            grid[1, number].set_ylim(-1.05 * limit if flow.tied else 0, 1.05 * limit)
            (control_curves if flow.tied else control_sizes)(control, grid[1, number])
        total = sum(c.values.numel() for c in stages)
        energy = sum(float(torch.mean(c.values.detach().square(), 0).sum()) for c in stages)
        made.suptitle(f"{total} trained controls, energy $\\int |u|^2 dt$ = {energy:.3g} over all stages")
    return made
