"""Under a contraction one node's influence on another decays exponentially with their distance: a cycle graph.

    python -m experiments.cycle_influence

Li, Tarlow, Brockschmidt and Zemel ("Gated graph sequence neural networks", ICLR 2016) gave this as a reason not to ask
of a recurrent graph network that it contracts; the appendix of Liao et al. ("Reviving and improving recurrent
back-propagation", ICML 2018) repeats it. Here is how strong the effect is. The nodes of a cycle come to rest at

    z_i = phi(W (z_{i-1} + z_{i+1}) / 2 + x_i),    phi = identity and W = q, or tanh and W = q Q with Q orthogonal,

a contraction by q. Let P be the mean over the neighbours. As |phi'| <= 1 and |W| = q, the influence of node 0 is
bounded by a sum over walks,

    |dz_i / dx_0|_2 <= sum_k q^k (P^k)_{i0} = (r^d + r^{n-d}) / ((1 - r^n) sqrt(1 - q^2)),

with d the distance and r = (1 - sqrt(1 - q^2)) / q. (The sum is the column g of (I - q P)^{-1}: away from 0 it solves
g_d = q (g_{d-1} + g_{d+1}) / 2, whose solutions are powers of r and 1 / r; the equation at 0 gives the factor.) On the
infinite line it is r^d / sqrt(1 - q^2). The affine map with W = q attains it.

Of any map in which a node sees its neighbours only, and which contracts all nodes together by q, a power J^k has no
entry between nodes further apart than k. What is left of the Neumann series is at most q^d / (1 - q): exponential, too,
but much weaker, as r < q.

The derivatives are those of the implicit function theorem, through `cde_nets.solve` of the coupled state.

Subject: Equilibria
Source: Liao et al. 2018, appendix, section 1.1
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator
from rich.table import Table
from torch import Tensor

import cde_nets as cn
from cde_nets.plot.style import COLOURS, figure, styled
from experiments.command import Json, Quick, begin, leave, less
from experiments.shown import progress

app = typer.Typer(add_completion=False)

FACTORS = (0.5, 0.8, 0.95)
NODES = 40
# Name of the map, and the numbers that a node holds.
MAPS = (("affine", 1), ("tanh", 2))
INPUT = 0.2
TOLERANCE = cn.Tolerance(1e-13, 1e-15)


@dataclass(frozen=True)
class Measured:
    """One map with one factor; a number for each distance from 0 to half of the cycle.

    Attributes:
        map: "affine" or "tanh".
        q: the factor of contraction.
        influence: |dz_i / dx_0|_2.
        bound: the sum over walks on the cycle.
        norm: |J|_2 at the rest point, as `cde_nets.spectral_norm` finds it.
        factor: by which the influence falls from one node to the next, the geometric mean over the first half of the
            distances.
        predicted: r, for the bound.
    """

    map: str
    q: float
    influence: list[float]
    bound: list[float]
    norm: float
    factor: float
    predicted: float


@app.command()
@less(globals(), NODES=12)
def cycle_influence(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/cycle_influence"),
    seed: Annotated[int, typer.Option(min=0, help="Of the matrices and the inputs.")] = 0,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder.")] = None,
    as_json: Json = False,
) -> None:
    """Measure how influence decays on a cycle; write cycle_influence.json and cycle_influence.png."""
    out = begin(out, publish, quick=quick)
    found = []
    with progress() as bar:
        task = bar.add_task("cycle influence", total=len(MAPS) * len(FACTORS))
        for name, size in MAPS:
            for q in FACTORS:
                found.append(measure(name, q, NODES, size, seed))
                bar.advance(task)
    pictured = _picture(found)
    content = {"seed": seed, "nodes": NODES, "inputs": INPUT, "rows": [vars(row) for row in found]}
    leave("cycle_influence", out, publish, content, pictured, _table(found), as_json=as_json)


def measure(name: str, q: float, nodes: int, size: int, seed: int) -> Measured:
    """The influence of node 0 at rest.

    Args:
        name: of the map, "affine" or "tanh".
        q: the factor of contraction, from 0 to 1.
        nodes: of the cycle.
        size: numbers of a node.
        seed: of the matrix and the inputs.
    """
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator))[0]
    if name == "affine":
        turn = torch.eye(size, dtype=torch.float64)
    x = INPUT * torch.randn(nodes, size, dtype=torch.float64, generator=generator)
    problem = rest(name, q * turn, x.requires_grad_())
    # Entries of 1e-11 beside 1: LU factors know them better than a residual does.
    gradient = cn.Implicit(cn.Dense(), tolerance=TOLERANCE)
    z = cn.solve(problem, cn.Newton(), gradient=gradient, tolerance=TOLERANCE).value
    distances = nodes // 2 + 1
    influence = [float(torch.linalg.matrix_norm(_block(z[node], x), 2)) for node in range(distances)]
    quarter = distances // 2
    with torch.no_grad():
        norm = float(cn.spectral_norm(problem, z).value)
    return Measured(
        name,
        q,
        influence,
        [on_the_cycle(q, distance, nodes) for distance in range(distances)],
        norm,
        (influence[quarter] / influence[0]) ** (1 / quarter),
        decay(q),
    )


def rest(name: str, W: Tensor, x: Tensor) -> cn.FixedPointProblem:
    """The map of a cycle with inputs x, shape (nodes, size): its nodes see each other."""
    bend = torch.tanh if name == "tanh" else torch.clone

    def function(z: Tensor, W: Tensor, x: Tensor) -> Tensor:
        return bend((z.roll(1, 0) + z.roll(-1, 0)) / 2 @ W.T + x)

    return cn.FixedPointProblem(function, torch.zeros_like(x), args=(W, x), coupled=True)


def decay(q: float) -> float:
    """The r of r^d: the root in (0, 1) of r = q (1 + r^2) / 2."""
    return (1 - math.sqrt(1 - q * q)) / q


def on_the_line(q: float, distance: int) -> float:
    """The sum over walks between two nodes of an infinite line."""
    return decay(q) ** distance / math.sqrt(1 - q * q)


def on_the_cycle(q: float, distance: int, nodes: int) -> float:
    """The sum over walks between two nodes of a cycle: those on the line that end on any copy of the node."""
    r = decay(q)
    return (r**distance + r ** (nodes - distance)) / ((1 - r**nodes) * math.sqrt(1 - q * q))


def _block(node: Tensor, x: Tensor) -> Tensor:
    """The derivative of a node at rest in x_0, row by row."""
    rows = [torch.autograd.grad(number, x, retain_graph=True)[0][0] for number in node]
    return torch.stack(rows)


def _picture(found: list[Measured]) -> Figure:
    pictured = figure(10.0, 4.2)
    with styled():
        panels = pictured.subplots(1, len(MAPS), sharey=True)
        for ax, (name, size) in zip(panels, MAPS, strict=True):
            for row, colour in zip((row for row in found if row.map == name), COLOURS[:3], strict=True):
                _draw(ax, row, colour)
            words = {"affine": "affine: the bound is attained", "tanh": f"tanh, {size} numbers a node"}[name]
            ax.set(xlabel="distance d from node 0", title=words)
            ax.xaxis.set_major_locator(MultipleLocator(5))
        panels[0].set_ylabel("influence $|dz_d^* / dx_0|_2$")
        pictured.legend(handles=_legend(), loc="outside lower center", ncols=3, fontsize=8)
    return pictured


def _draw(ax: Axes, row: Measured, colour: str) -> None:
    distances = np.arange(len(row.influence))
    ax.semilogy(distances, row.influence, "o", color=colour, markersize=4)
    ax.semilogy(distances, row.bound, color=colour, linewidth=1.2)
    ax.semilogy(distances, row.q**distances / (1 - row.q), ":", color=colour, linewidth=1.2)


def _legend() -> list[Line2D]:
    factors = [
        Line2D([], [], color=colour, linewidth=4, label=f"contraction by q = {q:g}")
        for q, colour in zip(FACTORS, COLOURS, strict=False)
    ]
    grey = "#555555"
    kinds = [
        Line2D([], [], color=grey, linestyle="", marker="o", markersize=4, label="measured"),
        Line2D([], [], color=grey, linewidth=1.2, label="bound: all walks on the cycle"),
        Line2D([], [], color=grey, linewidth=1.2, linestyle=":", label="bound for any contraction, $q^d / (1 - q)$"),
    ]
    return [line for pair in zip(factors, kinds, strict=True) for line in pair]


def _table(found: list[Measured]) -> Table:
    table = Table("map", "q", "|J|_2 at rest", "factor a node", "r", "influence at the far end", "bound there")
    for row in found:
        table.add_row(
            row.map,
            f"{row.q:g}",
            f"{row.norm:.4f}",
            f"{row.factor:.4f}",
            f"{row.predicted:.4f}",
            f"{row.influence[-1]:.2e}",
            f"{row.bound[-1]:.2e}",
        )
    return table


if __name__ == "__main__":
    app()
