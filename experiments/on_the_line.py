"""On the line the order of points cannot be changed; coarse steps do it all the same, and so does one more dimension.

    python -m experiments.on_the_line

Two solutions of one ODE never meet. So on the line x_1 < x_2 stays so: the gap g obeys
g' = (sum_i u_i V_i[x_1, x_2]) g with divided differences V_i[x_1, x_2], and a linear equation does not reach zero. Here
is what follows from that. Points under random controls keep their order, however near they come.
`cde_nets.interpolate` reaches targets in the order of the points, which `theory.universal` proves to be reachable, and
never targets in another order, as long as it is asked for the ODE (`refine_to`). Asked only for a few steps of Euler,
it finds controls under which points jump over each other: a residual network is bound by no order, and the ODE of the
same control does something else. The same points at (x, 0) in the plane change their order, ODE and all.

Subject: Steering
Source: Cuchiero, lecture 2, first result, remarks
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor

import cde_nets as cn
import theory
from cde_nets.plot.style import COLOURS, figure, styled
from experiments.command import Json, Quick, begin, leave, less
from experiments.shown import progress

app = typer.Typer(add_completion=False)

# The points that are steered, and those that random controls carry.
STEERED, CARRIED = 4, 12
# Cubic fields on the line: brackets of quadratic ones stay quadratic and move three points at most.
LINE, PLANE = (4, 3), (5, 2)
# On the line the fields vanish beyond the second radius: no point is lost, not even by coarse steps.
RADII = (2.0, 4.0)
WANTED = 1e-8
# Of the random controls: intervals and size.
INTERVALS, SIZE = 16, 6.0
# Steps of rk4 on each interval by which an ODE is followed.
FINE = 64


@dataclass(frozen=True)
class Case:
    """What is asked of `cde_nets.interpolate`.

    Attributes:
        name: in words.
        dim: 1, or 2 for points put at (x, 0).
        swapped: the first two targets are exchanged.
        method: by name.
        steps: intervals of the control.
        refined: whether the ODE is asked for, or only the steps.
        seconds: for each seed.
    """

    name: str
    dim: int
    swapped: bool
    method: str
    steps: int
    refined: bool
    seconds: float


CASES = (
    Case("line, same order", 1, False, "rk4", 16, True, 10.0),
    Case("line, two swapped", 1, True, "rk4", 16, True, 3.0),
    Case("line, two swapped, Euler's steps only", 1, True, "euler", 6, False, 4.0),
    Case("plane, two swapped", 2, True, "dopri5", 16, True, 10.0),
)


@app.command()
@less(globals(), INTERVALS=4, STEERED=3)
def on_the_line(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/on_the_line"),
    seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="How many, of fields, controls and targets; 1 with --quick.")] = 4,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    as_json: Json = False,
) -> None:
    """Carry and steer points of the line; write on_the_line.json and on_the_line.png."""
    out = begin(out, publish, quick=quick)
    torch.set_num_threads(threads)
    chosen = range(seed, seed + (1 if quick else seeds))
    carried, steered = [], []
    with progress() as bar:
        task = bar.add_task("on the line", total=len(chosen) * (1 + len(CASES)))
        for n in chosen:
            carried.append(carry(n))
            bar.advance(task)
        for case in CASES:
            for n in chosen:
                steered.append(steer(case, n))
                bar.advance(task)
    pictured = picture(carried, steered)
    proofs = [proof(n) for n in chosen]
    content = {
        "seed": seed,
        "carried": [_without_paths(row) for row in carried],
        "steered": [_without_paths(row) for row in steered],
        "proofs": proofs,
    }
    proved = f"theory.universal: {proofs[0]['universal']}\ntheory.check_points: {proofs[0]['points']}"
    leave("on_the_line", out, publish, content, pictured, _table(carried, steered), proved, as_json=as_json)


def drawn(dim: int, seed: int) -> cn.PolynomialFields:
    """Random fields: four cubic ones on the line, five quadratic ones in the plane."""
    count, degree = LINE if dim == 1 else PLANE
    return cn.PolynomialFields.random(dim, count, degree, seed=seed, dtype=torch.float64)


def family(dim: int, seed: int) -> cn.Fields:
    """The random fields that are run: under the cutoff on the line, as they are in the plane."""
    fields = drawn(dim, seed)
    return cn.Cutoff(fields, *RADII) if dim == 1 else fields


def carry(seed: int) -> dict[str, Any]:
    """Points under a random control, the ODE followed finely: paths, and the least gap between neighbours by time."""
    generator = torch.Generator().manual_seed(seed)
    values = SIZE * torch.randn(INTERVALS, LINE[0], dtype=torch.float64, generator=generator)
    x = torch.linspace(-1, 1, CARRIED, dtype=torch.float64)[:, None]
    times, path = follow(family(1, seed), values, x, "rk4", INTERVALS * FINE)
    gaps = np.diff(path[:, :, 0], axis=1).min(1)
    return {"seed": seed, "least_gap": float(gaps.min()), "gaps": gaps, "times": times, "path": path}


def steer(case: Case, seed: int) -> dict[str, Any]:
    """What `cde_nets.interpolate` finds, and what the ODE of that control does."""
    fields = family(case.dim, seed)
    x, y = points_and_targets(seed, swapped=case.swapped)
    x, y = (torch.nn.functional.pad(rows, (0, case.dim - 1)) for rows in (x, y))
    found = cn.interpolate(
        fields,
        x,
        y,
        readout="identity",
        method=case.method,
        steps=case.steps,
        refine_to=WANTED if case.refined else None,
        time_limit=case.seconds,
        seed=seed,
        certify=False,
    )
    values = found.control.values.detach()
    taken = follow(fields, values, x, case.method, case.steps * found.substeps)
    # Where the steps were refined already, four times as many show whether it was enough; elsewhere they are the first.
    finer, fine = (case.method, 4 * found.substeps) if case.refined else ("rk4", FINE)
    ode = follow(fields, values, x, finer, case.steps * fine)
    return {
        "case": case.name,
        "dim": case.dim,
        "seed": seed,
        "status": found.status.name,
        "reason": found.reason,
        "method": case.method,
        "steps": case.steps * found.substeps,
        "residual": found.residual,
        "refined_residual": found.refined_residual,
        "ode_residual": _distance(ode[1], y),
        "energy": found.energy,
        "targets": y.tolist(),
        "taken": taken,
        "ode": ode,
    }


def points_and_targets(seed: int, *, swapped: bool) -> tuple[Tensor, Tensor]:
    """Points of the line and random targets in their order, or with the first two exchanged; shapes (points, 1)."""
    rng = np.random.default_rng(seed)
    y = np.cumsum(rng.uniform(0.3, 1.0, STEERED))
    y = 2 * (y - y.mean()) / (y[-1] - y[0])
    if swapped:
        y[:2] = y[1::-1]
    return torch.linspace(-1, 1, STEERED, dtype=torch.float64)[:, None], torch.from_numpy(y)[:, None]


@torch.no_grad()
def follow(
    fields: cn.Fields, values: Tensor, x: Tensor, method: str, steps: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times, shape (times,), and the states there, (times, points, dim), in equal steps; NaN for lost points."""
    control = cn.PiecewiseConstantControl(*values.shape, values=values)
    flow = cn.ControlledODE(fields, control, cn.RungeKutta(method, steps=steps), throw=False)
    path = flow.trajectory(x)
    assert flow.failed is not None
    path[:, flow.failed] = math.nan
    return np.array(flow.times), path.numpy()


def _distance(path: NDArray[np.float64], y: Tensor) -> float:
    """The largest one of an end from its target; infinite where a point is lost."""
    left = float(np.abs(path[-1] - y.numpy()).max())
    return left if math.isfinite(left) else math.inf


def proof(seed: int) -> dict[str, Any]:
    """What exact algebra says of the fields on the line, without the cutoff, at the points that are steered."""
    program = drawn(1, seed).exact()
    universal = theory.universal(program, seed=seed)
    points = theory.check_points(program, points_and_targets(seed, swapped=False)[0].numpy(), seed=seed)
    return {
        "seed": seed,
        "universal_proved": universal.proved,
        "universal": str(universal),
        "points_proved": points.proved,
        "points": str(points),
    }


def _without_paths(row: dict[str, Any]) -> dict[str, Any]:
    """Figures only; null where a point was lost under refinement, as JSON has no infinity."""
    kept = {name: value for name, value in row.items() if name not in ("path", "times", "taken", "ode")}
    if "gaps" in kept:
        kept["gaps"] = kept["gaps"][:: FINE // 4].tolist()
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in kept.items()
    }


def picture(carried: list[dict[str, Any]], steered: list[dict[str, Any]]) -> Figure:
    """Above: random controls, their least gaps, targets in order. Below: Euler's swap, the plane's, all residuals."""
    pictured = figure(11.5, 6.4)
    with styled():
        panels = pictured.subplots(2, 3)
        _draw_carried(panels[0, 0], carried[0])
        _draw_gaps(panels[0, 1], carried)
        same, _, euler, plane = ([row for row in steered if row["case"] == case.name] for case in CASES)
        _draw_steered(panels[0, 2], _gentlest(same, "ode_residual"))
        _draw_steered(panels[1, 0], _gentlest(euler, "residual"))
        _draw_plane(panels[1, 1], _gentlest(plane, "ode_residual"))
        _draw_residuals(panels[1, 2], steered)
    return pictured


def _gentlest(rows: list[dict[str, Any]], residual: str) -> dict[str, Any]:
    """Of the seeds that reached their targets, if some did, the one with the least energy."""
    return min(rows, key=lambda row: (row[residual] > WANTED, row["energy"]))


def _draw_carried(ax: Axes, row: dict[str, Any]) -> None:
    shades = np.linspace(0, 1, CARRIED)
    for k, shade in enumerate(shades):
        colour = (1 - shade) * np.array([0.0, 0.447, 0.698]) + shade * np.array([0.902, 0.624, 0.0])
        ax.plot(row["times"], row["path"][:, k, 0], color=colour, linewidth=1.1)
    ax.set(xlabel="t", ylabel="x", xlim=(0, 1))
    ax.set_title("a random control keeps the order")


def _draw_gaps(ax: Axes, rows: list[dict[str, Any]]) -> None:
    for colour, row in zip(COLOURS * len(rows), rows, strict=False):
        ax.semilogy(row["times"], row["gaps"], color=colour, linewidth=1.2, label=f"{row['seed']}")
    ax.set(xlabel="t", ylabel="least gap between neighbours", xlim=(0, 1))
    ax.set_title(f"gaps stay above zero: least {min(row['least_gap'] for row in rows):.0e}")
    ax.legend(title="seed", fontsize=7, title_fontsize=7, ncols=2)


def _draw_steered(ax: Axes, row: dict[str, Any]) -> None:
    """Paths in the steps taken, the ODE's dashed where it is not the same, targets as crosses."""
    euler = row["method"] == "euler"
    for k, colour in zip(range(STEERED), COLOURS, strict=False):
        times, path = row["taken"]
        ax.plot(times, path[:, k, 0], "o-" if euler else "-", markersize=3, color=colour)
        if euler:
            times, path = row["ode"]
            ax.plot(times, path[:, k, 0], "--", linewidth=1.0, color=colour)
        ax.plot(1.03, row["targets"][k][0], "x", color=colour, clip_on=False, zorder=4)
    ax.set(xlabel="t", ylabel="x", xlim=(0, 1.06))
    if euler:
        ax.set_title(f"{row['steps']} Euler steps swap, their ODE does not")
        lines = [Line2D([], [], color="#555555", linestyle=style) for style in ("-", "--")]
        ax.legend(lines, ["steps", "ODE"], fontsize=7)
    else:
        ax.set_title("targets (crosses) in order: reached")


def _draw_plane(ax: Axes, row: dict[str, Any]) -> None:
    path = row["ode"][1]
    ax.axhline(0, color="#999999", linewidth=0.8, zorder=0)
    for k, colour in zip(range(STEERED), COLOURS, strict=False):
        ax.plot(*path[:, k].T, color=colour, linewidth=1.2)
        ax.plot(*path[0, k], "o", markersize=6, markerfacecolor="white", color=colour, zorder=3)
        ax.plot(*row["targets"][k], "x", color=colour, zorder=4)
    ax.margins(0.08)
    ax.set(xlabel="$x_1$", ylabel="$x_2$")
    ax.set_title("in the plane they pass each other")


def _draw_residuals(ax: Axes, rows: list[dict[str, Any]]) -> None:
    names = [case.name for case in CASES]
    # What is lost is drawn at the right edge; rounding has no zero on a logarithmic axis.
    left, right = 1e-16, 30.0
    for row in rows:
        beside = 0.09 * (row["seed"] - rows[0]["seed"] - (len(rows) / len(names) - 1) / 2)
        at = len(names) - 1 - names.index(row["case"]) + beside
        colour = COLOURS[names.index(row["case"])]
        ends = [min(max(row[name], left), right) for name in ("residual", "ode_residual")]
        ax.plot(ends, [at, at], color=colour, linewidth=0.7, alpha=0.6)
        ax.plot(ends[0], at, "o", markersize=4.5, markerfacecolor="white", color=colour)
        ax.plot(ends[1], at, "o", markersize=4.5, color=colour)
    ax.set_xscale("log")
    ax.set_xlim(left, 2 * right)
    ax.axvline(WANTED, color="black", linestyle="--", linewidth=0.9)
    ax.set_yticks(
        range(len(names)), [name.replace(", ", "\n", 1).replace(", ", ",\n") for name in names[::-1]], fontsize=8
    )
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.set_xlabel("largest distance from a target")
    ax.set_title("hollow: the steps; filled: the ODE")
    ax.grid(axis="y", visible=False)


def reached(rows: list[dict[str, Any]]) -> int:
    """How many end at their targets as ODEs."""
    return sum(row["ode_residual"] <= WANTED for row in rows)


def _table(carried: list[dict[str, Any]], steered: list[dict[str, Any]]) -> Table:
    least = min(row["least_gap"] for row in carried)
    table = Table("asked for", "statuses", "reached as ODE", "residual", "of the ODE", title=f"least gap {least:.1e}")
    for case in CASES:
        rows = [row for row in steered if row["case"] == case.name]
        counts = Counter(row["status"] for row in rows)
        statuses = ", ".join(f"{count} {status}" for status, count in counts.items())
        spans = [
            f"{min(row[name] for row in rows):.0e} to {max(row[name] for row in rows):.0e}"
            for name in ("residual", "ode_residual")
        ]
        table.add_row(case.name, statuses, f"{reached(rows)} of {len(rows)}", *spans)
    return table


if __name__ == "__main__":
    app()
