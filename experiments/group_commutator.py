"""The group commutator: forward along two fields, then back along both, ends beside the start by a bracket.

    python -m experiments.group_commutator

For matrices e^(-tA) e^(-tB) e^(tA) e^(tB) x = x + t^2 (AB - BA) x + O(t^3). The factor on the right acts first, so for
V = Ax and W = Bx the flow runs along W, V, -W, -V for a time t each: a control of four intervals. For any smooth fields

    X_1 = x + t^2 [W, V](x) + O(t^3),    [V, W](x) = DW(x) V(x) - DV(x) W(x),

which is the expansion above, as [W, V] = (AB - BA) x. In words: the end lies along the bracket [first, second] of the
fields in the order in which they are driven, and along V, W, -V, -W it is t^2 [V, W](x) = t^2 (BA - AB) x. (Warner,
"Foundations of Differentiable Manifolds and Lie Groups", 1983, proposition 2.25.)

Measured are the slopes, on doubly logarithmic scales, of the motion |X_1 - x|, which is 2, and of the remainder
|X_1 - x - t^2 [W, V](x)|, which is 3. With the other sign what remains has slope 2: whoever writes (AB - BA) x for
[V, W] beside the definition above has slipped.

Subject: Steering
Source: Cuchiero, lecture 2, why Lie brackets
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import sympy
import torch
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table
from scipy.linalg import expm
from torch import Tensor

import cde_nets as cn
import theory
from cde_nets.plot.style import COLOURS, figure, styled
from experiments.command import Json, Quick, begin, leave, less
from experiments.shown import progress

app = typer.Typer(add_completion=False)

Array = npt.NDArray[np.float64]
Family = cn.LinearFields | cn.PolynomialFields

# Below the region that is not yet asymptotic, and where t^3 is far above rounding.
TIMES = tuple(2.0**-k for k in range(6, 13))
POINTS, METHOD = 5, "rk4"
# Steps on each of the four legs; the method's error is measured by twice as many.
STEPS = 4
# Along W, V, -W, -V, where the family holds V before W.
LEGS = ((0.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-1.0, 0.0))
LEG_NAMES = ("W", "V", "−W", "−V")
LOOP_TIME, LOOP_STEPS = 0.4, 40
# Curves: their name in the numbers, their words, what slope they should have.
CURVES = (
    ("motion", "$|X_1 - x|$", 2),
    ("wrong_sign", "$|X_1 - x - t^2\\,[V, W](x)|$, wrong sign", 2),
    ("remainder", "$|X_1 - x - t^2\\,[W, V](x)|$", 3),
)


@dataclass(frozen=True)
class Measured:
    """What a family's loops gave, the largest over all points in the maximum norm, a number for each t.

    Attributes:
        fields: in words.
        motion: |X_1 - x|.
        remainder: |X_1 - x - t^2 [W, V](x)|.
        wrong_sign: |X_1 - x - t^2 [V, W](x)|.
        method_error: |X_1 - X_1 by twice as many steps|.
        expm: |e^(-tA) e^(-tB) e^(tA) e^(tB) x - x - t^2 (AB - BA) x| by scipy's expm; None where not linear.
    """

    fields: str
    motion: list[float]
    remainder: list[float]
    wrong_sign: list[float]
    method_error: list[float]
    expm: list[float] | None


@app.command()
@less(globals(), TIMES=TIMES[:5])
def group_commutator(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/group_commutator"),
    seed: Annotated[int, typer.Option(min=0, help="Of the fields and the points.")] = 0,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder.")] = None,
    as_json: Json = False,
) -> None:
    """Measure the group commutator's slopes; write group_commutator.json and group_commutator.png."""
    out = begin(out, publish, quick=quick)
    families: dict[str, Family] = {"linear fields, m = 3": linear(seed), "quadratic fields, m = 2": quadratic(seed)}
    found = []
    with progress() as bar:
        task = bar.add_task("group commutator", total=len(families))
        for name, fields in families.items():
            x = torch.randn(POINTS, fields.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
            found.append(measure(name, fields, x))
            bar.advance(task)
    start = torch.zeros(1, 2, dtype=torch.float64)
    loop = path(families["quadratic fields, m = 2"], start, LOOP_TIME, LOOP_STEPS)
    along = bracket(families["quadratic fields, m = 2"], start)[0]
    pictured = _picture(found, loop, along)
    rows = [{**vars(row), "slopes": slopes(row)} for row in found]
    drawn = {"t": LOOP_TIME, "start": loop[0].tolist(), "end": loop[-1].tolist(), "bracket_W_V": along.tolist()}
    content = {"seed": seed, "method": METHOD, "steps_a_leg": STEPS, "times": TIMES, "rows": rows, "loop": drawn}
    leave("group_commutator", out, publish, content, pictured, _table(found), as_json=as_json)


def linear(seed: int) -> cn.LinearFields:
    """V = Ax and W = Bx in space, entries N(0, 1/3)."""
    return cn.LinearFields.random(3, 2, seed=seed, dtype=torch.float64)


def quadratic(seed: int) -> cn.PolynomialFields:
    """Two fields of degree 2 on the plane."""
    return cn.PolynomialFields.random(2, 2, 2, seed=seed, dtype=torch.float64)


def measure(name: str, fields: Family, x: Tensor) -> Measured:
    """The motion and what remains of it, for all of TIMES.

    Args:
        name: of the fields, in words.
        fields: V and W, float64.
        x: starts, shape (points, dim), float64.
    """
    predicted = bracket(fields, x)
    rows: dict[str, list[float]] = {"motion": [], "remainder": [], "wrong_sign": [], "method_error": []}
    for t in TIMES:
        moved, finer = (path(fields, x, t, steps)[-1] - x.numpy() for steps in (STEPS, 2 * STEPS))
        for key, vector in (
            ("motion", moved),
            ("remainder", moved - t**2 * predicted),
            ("wrong_sign", moved + t**2 * predicted),
            ("method_error", moved - finer),
        ):
            rows[key].append(float(np.abs(vector).max()))
    return Measured(name, **rows, expm=by_expm(fields, x) if isinstance(fields, cn.LinearFields) else None)


@torch.no_grad()
def path(fields: Family, x: Tensor, t: float, steps: int = STEPS) -> Array:
    """X along W, V, -W, -V, for a time t each, at the ends of the steps.

    Args:
        fields: V and W, float64.
        x: starts, shape (points, dim).
        t: time along each field.
        steps: of the method on each leg.

    Returns:
        Shape (4 steps + 1, points, dim).
    """
    # Each leg takes a quarter of the control's span.
    control = cn.PiecewiseConstantControl(4, 2, values=4 * t * torch.tensor(LEGS, dtype=torch.float64))
    flow = cn.ControlledODE(fields, control, cn.RungeKutta(METHOD, steps=4 * steps))
    states: Array = flow.trajectory(x).numpy()
    return states


def bracket(fields: Family, x: Tensor) -> Array:
    """[W, V](x) by SymPy, computed in rational numbers and rounded once; shape (points, dim)."""
    symbols = sympy.symbols(f"x_1:{fields.dim + 1}")
    V, W = fields.exact().to_sympy(symbols)
    values = theory.evaluate_at(theory.lie_bracket(W, V, symbols), symbols, x.tolist())
    return np.array(values, dtype=np.float64).reshape(x.shape)


def by_expm(fields: cn.LinearFields, x: Tensor) -> list[float]:
    """What remains of scipy's product of matrix exponentials, for all of TIMES."""
    A, B = fields.matrices.numpy()
    one = np.eye(len(A))
    products = [expm(-t * A) @ expm(-t * B) @ expm(t * A) @ expm(t * B) for t in TIMES]
    remain = [product - one - t**2 * (A @ B - B @ A) for t, product in zip(TIMES, products, strict=True)]
    return [float(np.abs(x.numpy() @ left.T).max()) for left in remain]


def slopes(row: Measured) -> dict[str, float]:
    """Least squares of the logarithms over all of TIMES."""
    named = {name: getattr(row, name) for name in ("motion", "wrong_sign", "remainder", "expm")}
    return {
        name: float(np.polyfit(np.log(TIMES), np.log(values), 1)[0])
        for name, values in named.items()
        if values is not None
    }


def _picture(found: list[Measured], loop: Array, along: Array) -> Figure:
    pictured = figure(11.0, 4.4)
    with styled():
        left, *others = pictured.subplots(1, 1 + len(found), width_ratios=(1.25, *[1.0] * len(found)))
        _draw_loop(left, loop[:, 0], along)
        for ax, row in zip(others, found, strict=True):
            _draw_slopes(ax, row)
            ax.sharey(others[0])
        handles, labels = others[0].get_legend_handles_labels()
        pictured.legend(handles, labels, loc="outside lower right", ncols=3, fontsize=8)
    return pictured


def _draw_loop(ax: Axes, loop: Array, along: Array) -> None:
    start, end = loop[0], loop[-1]
    middle, half = loop.mean(0), LOOP_STEPS // 2
    for leg, (name, colour) in enumerate(zip(LEG_NAMES, COLOURS, strict=False)):
        piece = loop[leg * LOOP_STEPS : (leg + 1) * LOOP_STEPS + 1]
        ax.plot(*piece.T, color=colour, linewidth=2)
        arrow = {"arrowstyle": "-|>", "color": colour, "mutation_scale": 16, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", piece[half + 1], piece[half - 1], arrowprops=arrow)
        # Names stand outside of the loop.
        outward = (piece[half] - middle) / np.linalg.norm(piece[half] - middle)
        style: Any = {"ha": "center", "va": "center", "fontsize": 10, "color": colour}
        ax.annotate(name, piece[half], 15 * outward, textcoords="offset points", **style)
    for sign, style, name in ((1, "-", "$t^2\\,[W, V](x)$"), (-1, ":", "$t^2\\,[V, W](x)$, wrong sign")):
        tip = start + sign * LOOP_TIME**2 * along
        ax.plot(*np.stack([start, tip]).T, style, color="black", linewidth=1.4, label=name)
    for point, face, name in ((start, "white", "start x"), (end, "black", "end $X_1$")):
        ax.plot(*point, "o", color="black", markerfacecolor=face, markersize=6, zorder=3, label=name)
    ax.set(xlabel="$x_1$", ylabel="$x_2$", title=f"a loop that does not close, t = {LOOP_TIME:g}")
    ax.margins(0.15)
    # The whole panel is filled, whatever the loop's own shape.
    ax.set_aspect("equal", adjustable="datalim")
    ax.legend(fontsize=8, loc="lower left")


def _draw_slopes(ax: Axes, row: Measured) -> None:
    found = slopes(row)
    for (name, words, _), colour, marker in zip(CURVES, (COLOURS[0], COLOURS[5], COLOURS[2]), "osD", strict=True):
        values = getattr(row, name)
        ax.loglog(TIMES, values, marker=marker, markersize=4, color=colour, label=words)
        above = name == "wrong_sign"
        place: Any = {"ha": "right" if above else "left", "va": "bottom" if above else "top", "fontsize": 8}
        shift = (-4, 4) if above else (4, -4)
        ax.annotate(
            f"slope {found[name]:.3f}", (TIMES[3], values[3]), shift, textcoords="offset points", color=colour, **place
        )
    if row.expm is not None:
        ax.loglog(TIMES, row.expm, "x", color="black", markersize=7, label="the same by matrix exponentials")
    # Where all is zero to the last bit there is nothing to show on a logarithmic axis.
    errors = [error if error > 0 else np.nan for error in row.method_error]
    ax.loglog(TIMES, errors, ".", color="#999999", markersize=4, label="change by twice as many steps")
    ax.set(xlabel="time t along each field", title=row.fields)


def _table(found: list[Measured]) -> Table:
    table = Table("fields", "curve", "slope", "expected", "at the smallest t", "method's error there")
    for row in found:
        measured = slopes(row)
        curves = [*CURVES, *([("expm", "", 3)] if row.expm is not None else [])]
        for name, _, expected in curves:
            values = getattr(row, name)
            error = "" if name == "expm" else f"{row.method_error[-1]:.1e}"
            said = name.replace("_", " ")
            table.add_row(row.fields, said, f"{measured[name]:.4f}", str(expected), f"{values[-1]:.2e}", error)
        table.add_section()
    return table


if __name__ == "__main__":
    app()
