"""Derivatives of implicit functions: a circle, a square root by iteration, and a rest point beside its differences.

    python -m experiments.implicit_function

F(x, y) = 0 makes y a function of x wherever F_y is not 0, with the derivative y' = -F_x / F_y; of many numbers,
dy/dx = -(D_y F)^{-1} D_x F. No solution's steps need be differentiated, only the equation at its end. By
`cde_nets.sensitivity`, each beside something else:

- the circle x^2 + y^2 = 1: y' = -x / y by hand. At y = 0 there is none, and an error says so;
- square roots by currying, the rest point of T(u) = (u + x / u) / 2: du/dx = 1 / (2 sqrt(x)). There dT/du = 0, so that
  the derivative is that of T's last step alone, whatever came before;
- z = tanh(W z + x): dz/dx, as in `z = f(a, z)`, beside central differences of the solved rest point. Those err by h^2
  while h is large and by rounding over h while it is small; at their best a third of the digits are lost.

Subject: Equilibria
Source: lecture Recurrent back propagation, implicit function differentiation, "thinking" and currying
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor

import cde_nets as cn
from cde_nets.plot.style import COLOURS, figure, styled
from experiments.command import Json, Quick, begin, leave, less

app = typer.Typer(add_completion=False)

# Points of the circle, as angles, and the numbers whose roots are taken.
ANGLES = tuple(float(angle) for angle in np.linspace(0.15, 0.85, 9) * np.pi)
RADICANDS = (0.01, 0.1, 0.5, 1.0, 2.0, 10.0, 100.0)
STEPS = tuple(10.0**-k for k in np.arange(1, 11.5, 0.5))
DIM, NORM = 12, 0.9
TIGHT = cn.Tolerance(1e-14, 1e-15)


@app.command()
@less(globals(), ANGLES=ANGLES[::4], RADICANDS=RADICANDS[::3], STEPS=STEPS[::5])
def implicit_function(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/implicit_function"),
    seed: Annotated[int, typer.Option(min=0, help="Of the layer, its input and the direction.")] = 0,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder.")] = None,
    as_json: Json = False,
) -> None:
    """Differentiate implicit functions; write implicit_function.json and implicit_function.png."""
    out = begin(out, publish, quick=quick)
    content = {
        "seed": seed,
        "circle": [on_the_circle(angle) for angle in ANGLES],
        "top_of_the_axis": without_derivative(),
        "roots": [root(radicand) for radicand in RADICANDS],
        "layer": beside_differences(seed),
    }
    leave("implicit_function", out, publish, content, _picture(content), _table(content), as_json=as_json)


def circle(x: Tensor, y: float) -> cn.FixedPointProblem:
    """The problem of y as a function of x on the unit circle, from a start y."""
    start = torch.tensor([y], dtype=torch.float64)
    return cn.FixedPointProblem.root(lambda y, x: x * x + y * y - 1, start, args=(x,))


def on_the_circle(angle: float) -> dict[str, float]:
    """The derivative there, and -x / y."""
    x = torch.tensor(np.cos(angle), dtype=torch.float64)
    problem = circle(x, 1.2 * np.sin(angle))
    y = cn.solve(problem, cn.Newton(), tolerance=TIGHT).value
    found = float(cn.sensitivity(problem, y, x))
    return {"x": float(x), "y": float(y), "derivative": found, "by_hand": -float(x) / float(y)}


def without_derivative() -> str:
    """What is said at (1, 0), where y is no function of x."""
    x = torch.tensor(1.0, dtype=torch.float64)
    try:
        cn.sensitivity(circle(x, 0.0), torch.zeros(1, dtype=torch.float64), x)
    except cn.ConvergenceError as error:
        return str(error)
    raise AssertionError("dy/dx was found at y = 0")


def root(radicand: float) -> dict[str, float]:
    """The square root as the rest point of (u + x / u) / 2, and its derivative."""
    x = torch.tensor(radicand, dtype=torch.float64)
    problem = cn.FixedPointProblem(lambda u, x: (u + x / u) / 2, torch.ones(1, dtype=torch.float64), args=(x,))
    u = cn.solve(problem, cn.Picard(), tolerance=TIGHT).value
    found = float(cn.sensitivity(problem, u, x))
    return {"x": radicand, "root": float(u), "derivative": found, "by_hand": 0.5 / radicand**0.5}


def beside_differences(seed: int) -> dict[str, Any]:
    """dz/dx along a direction by the theorem, and the relative distance of central differences from it."""
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(DIM, DIM, dtype=torch.float64, generator=generator)
    W = NORM * W / torch.linalg.matrix_norm(W, 2)
    x, along = torch.randn(2, DIM, dtype=torch.float64, generator=generator)

    def problem(x: Tensor) -> cn.FixedPointProblem:
        return cn.FixedPointProblem(
            lambda z, W, x: torch.tanh(z @ W.T + x), torch.zeros(1, DIM, dtype=torch.float64), args=(W, x)
        )

    def rest(x: Tensor) -> Tensor:
        found: Tensor = cn.solve(problem(x), cn.Newton(), tolerance=TIGHT).value
        return found[0]

    exact = cn.sensitivity(problem(x), rest(x)[None], x)[0] @ along
    differences = [(rest(x + h * along) - rest(x - h * along)) / (2 * h) for h in STEPS]
    errors = [float((found - exact).norm() / exact.norm()) for found in differences]
    return {"steps": STEPS, "errors": errors}


def _picture(content: dict[str, Any]) -> Figure:
    pictured = figure(11.0, 3.8)
    with styled():
        left, middle, right = pictured.subplots(1, 3)
        _draw_circle(left, content["circle"])
        roots = content["roots"]
        x = np.geomspace(min(RADICANDS), max(RADICANDS), 100)
        middle.loglog(x, 0.5 / np.sqrt(x), color="#888888", label=r"$1 / (2 \sqrt{x})$")
        middle.loglog([one["x"] for one in roots], [one["derivative"] for one in roots], "o", label="of the rest point")
        middle.set(xlabel="x", title="du/dx of u = (u + x/u) / 2")
        middle.legend()
        layer = content["layer"]
        right.loglog(layer["steps"], layer["errors"], "o-", markersize=4)
        right.set(xlabel="h", title="central differences beside dz/dx")
    return pictured


def _draw_circle(ax: Axes, points: list[dict[str, float]]) -> None:
    angle = np.linspace(0, np.pi, 200)
    ax.plot(np.cos(angle), np.sin(angle), color="#888888", linewidth=1)
    for one in points:
        # As long on the picture whatever the slope.
        reach = 0.25 / np.hypot(1, one["derivative"])
        across = np.array([-reach, reach])
        ax.plot(one["x"] + across, one["y"] + one["derivative"] * across, color=COLOURS[0])
        ax.plot(one["x"], one["y"], "o", color=COLOURS[0], markersize=4)
    ax.set(xlabel="x", ylabel="y", title="tangents of $x^2 + y^2 = 1$", aspect="equal")


def _table(content: dict[str, Any]) -> Table:
    table = Table("function", "values", "largest difference", "from")
    for name, key, words in (("y on the circle", "circle", "-x / y"), ("square root", "roots", "1 / (2 sqrt(x))")):
        rows = content[key]
        worst = max(abs(one["derivative"] - one["by_hand"]) / max(1.0, abs(one["by_hand"])) for one in rows)
        table.add_row(name, str(len(rows)), f"{worst:.1e}", words)
    best = min(content["layer"]["errors"])
    table.add_row("z = tanh(W z + x)", str(DIM), f"{best:.1e}", "the best of all central differences")
    return table


if __name__ == "__main__":
    app()
