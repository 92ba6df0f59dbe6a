"""Where no single field leads: one point steered along brackets, in the four classical examples.

    python -m experiments.one_point

Chow's and Rashevskii's theorem: where the fields and their brackets fill the space at every point, any point is joined
to any other by a control. Each example has two fields. Its brackets are SymPy's, taken in order until as many as the
space has dimensions have a determinant that is a constant other than zero: then they fill the space everywhere. The
target is chosen where the fields themselves do not point, and `cde_nets.interpolate` finds the control.

Of Heisenberg's and Grushin's fields the least energy int |u|^2 dt is known. Straight up by h Heisenberg's point follows
the shortest loop around the area h, a circle: 4 pi h (Dido's problem: Montgomery, "A Tour of Subriemannian Geometries",
2002, chapter 1). Up Grushin's line by h it is a sine, a sin(pi t) with a^2 = 2 h / pi: 2 pi h (Agrachev, Barilari,
Boscain, "A Comprehensive Introduction to Sub-Riemannian Geometry", 2020). The control has finitely many values, so that
what is found lies a little above.

Subject: Steering
Source: Cuchiero, lecture 2, Chow-Rashevskii for 1-point controllability
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import sympy
import torch
import typer
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from rich.table import Table

import cde_nets as cn
import theory
from cde_nets.plot.space import draw_points, show
from cde_nets.plot.style import COLOURS, SEQUENTIAL, figure, styled
from experiments.command import Json, Quick, begin, leave, less
from experiments.shown import progress

app = typer.Typer(add_completion=False)

Array = npt.NDArray[np.float64]

X, Y, Z, HEADING, ROLL = sympy.symbols("x y z theta phi", real=True)
DEPTH, STEPS, METHOD = 4, 48, "tsit5"
TOLERANCE, REFINED = 1e-12, 1e-8
# Seconds for each example.
TIME_LIMIT = 25.0
# For the picture: points on each interval of the control, and how many of its intervals lie between two headings.
FINE, APART = 8, 4


@dataclass(frozen=True)
class Example:
    """Two fields, a start and a target.

    Attributes:
        name: of the fields.
        task: what the target asks for.
        view: how the path is drawn: "headings" in the plane, "roll" for headings and the roll angle as colour, "space",
            or "line" in the plane with the line x = 0.
        symbols: the m coordinates.
        fields: V_1 and V_2, m expressions each.
        start: m exact numbers.
        target: m exact numbers.
        least_energy: int |u|^2 dt of the shortest control of all, where it is known.
    """

    name: str
    task: str
    view: str
    symbols: tuple[sympy.Symbol, ...]
    fields: tuple[tuple[Any, ...], ...]
    start: tuple[Any, ...]
    target: tuple[Any, ...]
    least_energy: float | None = None


ROLLING = sympy.cos(HEADING), sympy.sin(HEADING)
EXAMPLES = (
    Example(
        "unicycle", "parked sideways", "headings", (X, Y, HEADING), ((*ROLLING, 0), (0, 0, 1)), (0, 0, 0), (0, 1, 0)
    ),
    Example(
        "Heisenberg's fields",
        "straight up",
        "space",
        (X, Y, Z),
        ((1, 0, -Y / 2), (0, 1, X / 2)),
        (0, 0, 0),
        (0, 0, 1),
        4 * math.pi,
    ),
    Example("Grushin's fields", "up the singular line", "line", (X, Y), ((1, 0), (0, X)), (0, 0), (0, 1), 2 * math.pi),
    Example(
        "rolling disc",
        "a quarter turn of roll, in place",
        "roll",
        (X, Y, HEADING, ROLL),
        ((*ROLLING, 0, 1), (0, 0, 1, 0)),
        (0, 0, 0, 0),
        (0, 0, 0, sympy.pi / 2),
    ),
)


@dataclass(frozen=True)
class Frame:
    """Brackets that fill the space at every point.

    Attributes:
        brackets: m of them, the fields among them.
        determinant: of their components, a constant other than zero.
    """

    brackets: tuple[theory.Bracket, ...]
    determinant: sympy.Expr

    def coordinates(self, symbols: Sequence[sympy.Symbol], point: Sequence[Any], vector: Sequence[Any]) -> list[Any]:
        """The m coefficients c with vector = sum_B c_B B(point), exact."""
        columns = [theory.evaluate_at(bracket, symbols, [point]) for bracket in self.brackets]
        return list(sympy.Matrix(columns).T.solve(sympy.Matrix(vector)))


@app.command()
@less(globals(), STEPS=12)
def one_point(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/one_point"),
    seed: Annotated[int, typer.Option(min=0, help="Of the loops that steering starts from.")] = 0,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    as_json: Json = False,
) -> None:
    """Steer one point in the classical examples; write one_point.json and one_point.png."""
    out = begin(out, publish, quick=quick)
    torch.set_num_threads(threads)
    rows: list[dict[str, Any]] = []
    paths: list[Array] = []
    frames: list[Frame] = []
    with progress() as bar:
        task = bar.add_task("one point", total=len(EXAMPLES))
        for example in EXAMPLES:
            frames.append(frame(example.fields, example.symbols))
            found = steer(example, seed)
            rows.append(_row(example, frames[-1], found))
            paths.append(path(example, found))
            bar.advance(task)
    pictured = _picture(frames, rows, paths)
    content = {"seed": seed, "method": METHOD, "steps": STEPS, "rows": rows}
    leave("one_point", out, publish, content, pictured, _table(rows), as_json=as_json)


def frame(fields: Sequence[Sequence[Any]], symbols: Sequence[sympy.Symbol]) -> Frame:
    """The first m brackets, by depth, whose determinant simplifies to a constant other than zero.

    A determinant that depends on the point may still vanish somewhere; at x = 0 that of Grushin's fields, x, does.

    Args:
        fields: lists of m expressions.
        symbols: the m coordinates.

    Raises:
        ValueError: there are none up to depth 4.
    """
    tried: list[sympy.Expr] = []
    for depth in range(1, DEPTH + 1):
        for chosen in combinations(theory.lie_algebra(fields, symbols, depth), len(symbols)):
            # Those of less depth have been tried.
            if max(bracket.depth for bracket in chosen) < depth:
                continue
            determinant = sympy.simplify(sympy.Matrix([bracket.components for bracket in chosen]).det())
            if determinant.is_number and determinant.is_nonzero:
                return Frame(chosen, determinant)
            tried.append(determinant)
    seen = ", ".join(sorted({str(one) for one in tried})) or "none, as there are fewer brackets"
    raise ValueError(
        f"No {len(symbols)} brackets up to depth {DEPTH} have a determinant that is constant and not zero; expected "
        f"some, to prove that they fill the space at every point. Determinants found: {seen}. Take other fields."
    )


def steer(example: Example, seed: int) -> cn.Interpolation:
    """The control from start to target.

    Raises:
        RuntimeError: none was found, or not for the ODE.
    """
    fields = _fields(example)
    x, y = (torch.tensor([[float(v) for v in point]], dtype=torch.float64) for point in (example.start, example.target))
    found = cn.interpolate(
        fields,
        x,
        y,
        readout="identity",
        steps=STEPS,
        method=METHOD,
        tolerance=TOLERANCE,
        least_energy=True,
        refine_to=REFINED,
        seed=seed,
        time_limit=TIME_LIMIT,
        # The certificate is of polynomial fields; the determinant proves more.
        certify=fields.degree > 0,
    )
    if found.status is not cn.SteerStatus.SOLVED:
        raise RuntimeError(f"{example.name}, {example.task}: {found}. Try another --seed.")
    return found


def path(example: Example, found: cn.Interpolation) -> Array:
    """X at 8 times on each interval of the control, shape (times, m)."""
    start = torch.tensor([[float(v) for v in example.start]], dtype=torch.float64)
    method = cn.RungeKutta(METHOD, steps=STEPS * found.substeps * FINE)
    states = cn.ControlledODE(_fields(example), found.control, method).trajectory(start)
    walked: Array = states[:: found.substeps, 0].numpy()
    return walked


def _fields(example: Example) -> cn.ExpressionFields:
    return cn.ExpressionFields(example.fields, example.symbols, dtype=torch.float64)


def _row(example: Example, filled: Frame, found: cn.Interpolation) -> dict[str, Any]:
    move = [there - here for here, there in zip(example.start, example.target, strict=True)]
    names = [str(bracket) for bracket in filled.brackets]
    shares = filled.coordinates(example.symbols, example.start, move)
    return {
        "name": example.name,
        "task": example.task,
        "symbols": [str(symbol) for symbol in example.symbols],
        "fields": [[str(component) for component in V] for V in example.fields],
        "brackets": {str(b): [str(component) for component in b.components] for b in filled.brackets},
        "determinant": str(filled.determinant),
        "displacement": {name: str(share) for name, share in zip(names, shares, strict=True) if share != 0},
        "start": [float(v) for v in example.start],
        "target": [float(v) for v in example.target],
        "status": str(found.status),
        "residual": found.residual,
        "refined_residual": found.refined_residual,
        "substeps": found.substeps,
        "energy": found.energy,
        "least_energy": example.least_energy,
        "certified_rank": found.rank,
        "control": found.control.values.detach().tolist(),
    }


def _picture(frames: list[Frame], rows: list[dict[str, Any]], paths: list[Array]) -> Figure:
    pictured = figure(9.0, 9.4)
    with styled():
        cells = np.ravel(np.asarray(pictured.subfigures(2, 2, wspace=0.05, hspace=0.05)))
        for cell, example, filled, row, walked in zip(cells, EXAMPLES, frames, rows, paths, strict=True):
            grid = cell.add_gridspec(2, 1, height_ratios=(3.4, 1))
            above = cell.add_subplot(grid[0], projection="3d" if example.view == "space" else None)
            _draw_path(above, example, walked)
            cell.suptitle(_title(example, filled), fontsize=10)
            _draw_control(cell.add_subplot(grid[1]), row)
    return pictured


def _title(example: Example, filled: Frame) -> str:
    def text(component: Any) -> str:
        return str(sympy.latex(component, fold_func_brackets=True))

    brackets = [bracket for bracket in filled.brackets if bracket.depth > 1]
    formulas = [f"${b.latex()} = ({', '.join(map(text, b.components))})$" for b in brackets]
    return "\n".join([f"{example.name}: {example.task}", *formulas])


def _draw_path(ax: Axes, example: Example, walked: Array) -> None:
    places = walked[:, : 3 if example.view == "space" else 2]
    # Of a line both sides are seen.
    seen = np.concatenate([places, places * (-0.4, 1)]) if example.view == "line" else places
    show(ax, seen, more=False, margin=0.1)
    names = [f"${sympy.latex(symbol)}$" for symbol in example.symbols]
    ax.set(**dict(zip(("xlabel", "ylabel", "zlabel"), names[: places.shape[1]], strict=False)))
    _VIEWS[example.view](ax, walked)
    # A ring is seen around an end at the same place.
    for end, filled, scale in ((0, False, 2.5), (-1, True, 1.0)):
        draw_points(ax, places[[end]], np.array([[0.0, 0.0, 0.0, 1.0]]), filled=filled, scale=scale)


def _draw_headings(ax: Axes, walked: Array) -> None:
    """The path, forward and backward told apart, and the headings on it."""
    moves = np.diff(walked[:, :2], axis=0)
    along = (moves[:, 0] * np.cos(walked[:-1, 2]) + moves[:, 1] * np.sin(walked[:-1, 2])) > 0
    ax.add_collection(_pieces(walked, colors=[COLOURS[0] if ahead else COLOURS[5] for ahead in along]))
    for colour, name in ((COLOURS[0], "forward"), (COLOURS[5], "backward")):
        ax.plot([], [], color=colour, linewidth=2, label=name)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    _draw_arrowheads(ax, walked)


def _draw_roll(ax: Axes, walked: Array) -> None:
    """The path, coloured by the roll angle, and the headings on it."""
    pieces = _pieces(walked, cmap=SEQUENTIAL)
    pieces.set_array((walked[:-1, 3] + walked[1:, 3]) / 2)
    ax.add_collection(pieces)
    whole = ax.get_figure()
    assert whole is not None
    bar = whole.colorbar(pieces, ax=ax, label="roll angle $\\phi$", shrink=0.8)
    bar.set_ticks([0, math.pi / 4, math.pi / 2], labels=["0", "π/4", "π/2"])
    _draw_arrowheads(ax, walked)


def _pieces(walked: Array, **style: Any) -> LineCollection:
    return LineCollection(list(np.stack([walked[:-1, :2], walked[1:, :2]], 1)), linewidths=2, **style)


def _draw_arrowheads(ax: Axes, walked: Array) -> None:
    """Slim triangles that point along the headings, whichever way the path runs."""
    some = walked[:: APART * FINE]
    size = 0.035 * float(np.ptp(ax.get_ylim()))
    ahead = size * np.stack([np.cos(some[:, 2]), np.sin(some[:, 2])], 1)
    aside = 0.4 * np.stack([-ahead[:, 1], ahead[:, 0]], 1)
    corners = np.stack([ahead, aside - 0.6 * ahead, -aside - 0.6 * ahead], 1) + some[:, None, :2]
    ax.add_collection(PolyCollection(list(corners), facecolors="white", edgecolors="black", linewidths=0.8, zorder=2.5))


def _draw_space(ax: Axes, walked: Array) -> None:
    """The path, and its shadow: the height that is reached is the area that the shadow encloses."""
    start, end = walked[0], walked[-1]
    ax.plot(*walked[:, :2].T, 0 * walked[:, 0], color="#888888", linewidth=1, label="shadow on z = 0")
    ax.plot(*np.stack([start, end]).T, color="#888888", linewidth=1, linestyle=":")
    ax.plot(*walked.T, color=COLOURS[0])
    ax.locator_params(nbins=4)
    ax.legend(loc="upper left")


def _draw_line(ax: Axes, walked: Array) -> None:
    """The path over V_2 = (0, x), and the line on which that vanishes."""
    limits = ax.get_xlim(), ax.get_ylim()
    across, up = np.meshgrid(*(np.linspace(low, high, 11)[1:-1] for low, high in limits))
    ax.quiver(across, up, 0 * across, across, color="#b0b0b0", pivot="mid", scale=9, width=0.005, zorder=0.6)
    ax.axvline(0, color=COLOURS[5], linewidth=1.2, linestyle="--", zorder=0.7, label="$V_2 = 0$")
    ax.plot(*walked.T, color=COLOURS[0], linewidth=2)
    ax.set(xlim=limits[0], ylim=limits[1])
    ax.grid(False)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))


_VIEWS = {"headings": _draw_headings, "roll": _draw_roll, "space": _draw_space, "line": _draw_line}


def _draw_control(ax: Axes, row: dict[str, Any]) -> None:
    values = np.array(row["control"])
    for i, colour in enumerate((COLOURS[1], COLOURS[2])):
        ax.stairs(values[:, i], np.linspace(0, 1, len(values) + 1), baseline=None, color=colour, label=f"$u_{i + 1}$")
    ax.axhline(0, color="#888888", linewidth=0.8, zorder=0.9)
    ax.set(xlabel="t", xlim=(0, 1))
    # Above the axes, where there are no curves.
    ax.legend(loc="lower right", bbox_to_anchor=(1, 0.95), ncols=2)


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("fields", "target − start", "determinant", "residual", "of the ODE", "energy", "least")
    for row in rows:
        move = " + ".join(f"({share}) {name}" for name, share in row["displacement"].items())
        least = "" if row["least_energy"] is None else f"{row['least_energy']:.3f}"
        residuals = (f"{row[name]:.1e}" for name in ("residual", "refined_residual"))
        table.add_row(row["name"], move, row["determinant"], *residuals, f"{row['energy']:.3f}", least)
    return table


if __name__ == "__main__":
    app()
