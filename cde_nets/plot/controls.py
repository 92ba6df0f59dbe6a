"""Pictures of learned controls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cde_nets.controls import PiecewiseConstantControl
from cde_nets.nn.flow import ControlledODE
from cde_nets.plot.style import COLOURS, DIVERGING, axes, figure, styled


def control_map(
    control: PiecewiseConstantControl, ax: Axes | None = None, *, limit: float | None = None, bar: bool = True
) -> Axes:
    """u_i(t) as colours: time across, the field's number down.

    Args:
        control: what to draw.
        ax: where; a new figure's where None.
        limit: the value of the deepest colours; the largest |u| where None.
        bar: draw the scale of colours beside it.
    """
    with styled():
        ax = axes(ax, 4.0, 5.0)
        values = control.values.detach().cpu().numpy().T
        bound = float(abs(values).max()) if limit is None else limit
        image = ax.imshow(
            values, aspect="auto", cmap=DIVERGING, vmin=-bound, vmax=bound, extent=(0, 1, control.count + 0.5, 0.5)
        )
        for t in control.breakpoints:
            ax.axvline(t, color="white", linewidth=3)
        ax.grid(False)
        ax.set(xlabel="t", ylabel="field i", xticks=[n / control.steps for n in range(control.steps + 1)])
        whole = ax.get_figure()
        if bar and whole is not None:
            whole.colorbar(image, ax=ax, label="$u_i(t)$")
    return ax


def control_curves(control: PiecewiseConstantControl, ax: Axes | None = None) -> Axes:
    """Every u_i(t) as a staircase, the five of largest energy in colour and named at their ends.

    Meant for tied fields: where each interval has fields of its own, u_i before and after a breakpoint steer
    different ones, and `control_sizes` says more.
    """
    with styled():
        ax = axes(ax)
        values = control.values.detach().cpu().numpy()
        edges = [n / control.steps for n in range(control.steps + 1)]
        strongest = (values**2).sum(0).argsort()[::-1][:5].tolist()
        for i in range(control.count):
            if i not in strongest:
                ax.stairs(values[:, i], edges, baseline=None, color="#bbbbbb", linewidth=0.5, alpha=0.6)
        for colour, i in zip(COLOURS, strongest, strict=False):
            ax.stairs(values[:, i], edges, baseline=None, color=colour, linewidth=1.8)
        ax.set(xlabel="t", ylabel="$u_i(t)$", xlim=(0, 1))
        _name_ends(ax, {i: float(values[-1, i]) for i in strongest})
    return ax


def control_sizes(control: PiecewiseConstantControl, ax: Axes | None = None) -> Axes:
    """|u_i| in falling order, a curve for each interval: how many of its fields an interval uses."""
    with styled():
        ax = axes(ax)
        sizes = -np.sort(-np.abs(control.values.detach().cpu().numpy()), axis=1)
        edges = [n / control.steps for n in range(control.steps + 1)]
        for colour, low, high, values in zip(COLOURS * control.steps, edges[:-1], edges[1:], sizes, strict=False):
            label = f"t in [{low:.2g}, {high:.2g}]"
            ax.plot(range(1, control.count + 1), values, color=colour, label=label)
        ax.set(xlabel="fields, largest first", ylabel="$|u_i|$")
        ax.legend()
    return ax


def _name_ends(ax: Axes, ends: dict[int, float]) -> None:
    """Name curves at their right ends, in their colours, none over another."""
    low, high = ax.get_ylim()
    gap, place = 0.11 * (high - low), low
    colours = dict(zip(ends, COLOURS, strict=False))
    for i, end in sorted(ends.items(), key=lambda item: item[1]):
        place = max(end, place)
        ax.annotate(f"$u_{{{i + 1}}}$", (1.02, place), color=colours[i], va="center", annotation_clip=False)
        place += gap


def controls(flows: Sequence[ControlledODE]) -> Figure:
    """The controls of every stage: as colours above, one scale for all; below as curves, by size for fresh fields.

    Args:
        flows: with piecewise constant controls, one a stage.

    Raises:
        ValueError: a control of another kind.
    """
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
