"""The two figures: the maps with their iterates and bounds, and the race."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cde_nets.plot import cobweb, convergence
from cde_nets.plot.style import COLOURS, figure, look, styled
from experiments.fixed_points import banach, brouwer
from experiments.fixed_points.scalar import RADICANDS, golden, heron, neuron, rearranged

# A method has the same colour and marker in every panel.
METHODS = ("Picard", "Anderson", "Broyden", "NewtonKrylov", "Newton")
LOOKS = {name: look(number) for number, name in enumerate(METHODS)}
# Which of RADICANDS has its cobweb drawn.
ROOT = 1


def cobwebs(content: dict[str, Any]) -> Figure:
    """Above: four maps of the line. Below: Brouwer's disc, a rotation, Banach's bounds, gradient descent's."""
    pictured = figure(13.0, 6.8)
    with styled():
        panels = pictured.subplots(2, 4)
        _draw_scalar(panels[0], content)
        _draw_disc(panels[1, 0], content["brouwer"])
        _draw_rotation(panels[1, 1], content["rotation"])
        _draw_banach(panels[1, 2], content["banach"][1])
        _draw_descent(panels[1, 3], content["descent"])
    return pictured


def race(problems: list[dict[str, Any]]) -> Figure:
    """The largest residual of a row, above against work, below against time."""
    pictured = figure(11.5, 6.2)
    with styled():
        panels = pictured.subplots(2, len(problems), sharey=True, squeeze=False)
        for column, problem in zip(panels.T, problems, strict=True):
            for ax, along in zip(column, ("work", "clock"), strict=True):
                _draw_race(ax, problem, along)
            column[0].set_title(f"{problem['problem']}; |λ(J)| up to {problem['spectral_radius']:.2f}")
        for ax in panels[:, 0]:
            ax.set_ylabel("largest $|f(z) - z|$ of a row")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        pictured.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9)
    return pictured


def _draw_scalar(row: Any, content: dict[str, Any]) -> None:
    roots = content["square_roots"]
    x = RADICANDS[ROOT]
    scalar: tuple[tuple[Any, list[float], tuple[float, float], str], ...] = (
        (golden, content["golden_ratio"]["iterates"], (1.4, 2.1), "x = 1 + 1/x: 1.618"),
        (rearranged, content["pole"]["from_1.6"]["iterates"], (-2.5, 3.0), "x = 1/(x − 1) jumps its pole: −0.618"),
        (
            lambda u: heron(u, torch.tensor(x, dtype=u.dtype)),
            roots["iterates"][ROOT],
            (0.9, 2.1),
            f"u = (u + {x:g}/u)/2: √{x:g}",
        ),
        (neuron, content["oscillation"][0]["iterates"], (-1.0, 1.1), "z = tanh(−2z + 0.5): back and forth"),
    )
    for ax, (f, iterates, limits, title) in zip(row, scalar, strict=True):
        cobweb(f, np.array(iterates), ax, limits=limits)
        ax.set_title(title)
    row[2].legend(fontsize=8, loc="upper left")


def _draw_disc(ax: Axes, found: dict[str, Any]) -> None:
    angle = torch.linspace(0, 2 * torch.pi, 241, dtype=torch.float64)
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    ax.plot(*circle.T.numpy(), color="black", linewidth=1.0)
    for radius in (0.25, 0.5, 0.75, 1.0):
        ax.plot(*brouwer.bent(radius * circle).T.numpy(), color=COLOURS[4], linewidth=0.9)
    for k in range(0, 240, 20):
        ray = torch.linspace(0, 1, 41, dtype=torch.float64)[:, None] * circle[k]
        ax.plot(*brouwer.bent(ray).T.numpy(), color=COLOURS[4], linewidth=0.6)
    _draw_ways(ax, found)
    ax.set_title(f"Brouwer: disc to disc, |λ(J)| = {found['spectral_radius']:.2f}")


def _draw_rotation(ax: Axes, found: dict[str, Any]) -> None:
    _draw_ways(ax, found)
    # Inside of the circle nothing is hidden; the names are those of the disc, too.
    ax.legend(fontsize=7, loc="center", bbox_to_anchor=(0.55, 0.72))
    ax.set_title("a rotation: Picard circles for ever")


def _draw_ways(ax: Axes, found: dict[str, Any]) -> None:
    """Iterates of Picard as dots, the ways of Newton and Anderson as lines, the fixed point as a star."""
    start = None
    for row in found["solved"]:
        way, name = np.array(row["iterates"]), row["method"].removesuffix("()")
        start = way[0]
        if name not in LOOKS:
            # Damped: on the way, and at rest, like others.
            continue
        colour, marker = LOOKS[name].values()
        if name == "Picard":
            ax.plot(*way.T, ".", color=colour, markersize=2.5, label=name)
        else:
            style = "-" if name == "Newton" else "--"
            ax.plot(*way.T, style, marker=marker, color=colour, markersize=4, linewidth=1.2, label=name)
    assert start is not None
    ax.plot(*start, "o", color="black", markerfacecolor="white", markersize=6, zorder=4, label="start")
    ax.plot(*found["fixed_point"], "*", color="black", markersize=11, zorder=4, label="fixed point")
    ax.set(xlabel="$z_1$", ylabel="$z_2$")
    ax.set_aspect("equal", adjustable="datalim")


def _draw_banach(ax: Axes, row: dict[str, Any]) -> None:
    steps = range(len(row["errors"]))
    ax.semilogy(steps, row["errors"], color=COLOURS[0], label="measured")
    for key, style in (("seen", "--"), ("proved", ":")):
        q = row[f"q_{key}"]
        limits = [banach.bound(row["first_step"], q, k) for k in steps]
        ax.semilogy(steps, limits, style, color=COLOURS[5], label=f"bound, q = {q:.3f} {key}")
    ax.set(xlabel="k", ylabel="$|z_k - z^*|$", ylim=(1e-13, None), title=f"Banach: {row['map']}")
    ax.legend(fontsize=7, loc="lower left")


def _draw_descent(ax: Axes, rows: list[dict[str, Any]]) -> None:
    colours = dict(zip((row["objective"] for row in rows), (COLOURS[0], COLOURS[2]), strict=True))
    styles: dict[str, Any] = {"descent": "-", "its bound": ":", "Anderson": "--"}
    for row in rows:
        anderson = row["anderson_gaps"]
        curves = ((row["k"], row["gaps"]), (row["k"], row["bounds"]), (range(1, len(anderson)), anderson[1:]))
        for (k, values), style in zip(curves, styles.values(), strict=True):
            ax.loglog(k, values, style, color=colours[row["objective"]])
    lines = [Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
    lines += [Line2D([], [], color="#555555", linestyle=style, label=name) for name, style in styles.items()]
    ax.set(xlabel="k", ylabel="$L(w_k) - L(w^*)$", ylim=(1e-13, None), title="gradient descent is Picard")
    ax.legend(handles=lines, fontsize=7, loc="lower left")


def _draw_race(ax: Axes, problem: dict[str, Any], along: str) -> None:
    # At the start no time has passed, which a logarithmic axis cannot show.
    first = 0 if along == "work" else 1
    curves = {
        row["method"].removesuffix("()"): (row[along][first:], row["residuals"][first:]) for row in problem["solved"]
    }
    convergence(curves, ax, tolerance=problem["atol"], among=METHODS, legend=False)
    ax.set(xscale="log", xlabel="evaluations and products with J" if along == "work" else "seconds", ylabel="")
