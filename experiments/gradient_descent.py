"""Gradient descent under its bound of order 1/k, and what longer steps do.

    python -m experiments.gradient_descent

For convex f whose gradient has the Lipschitz constant L, and a step eta <= 1/L, x_{k+1} = x_k - eta grad f(x_k) obeys

    f(x_k) - f* <= |x_0 - x*|^2 / (2 eta k),

the lecture's theorem (Beck, Teboulle, "A fast iterative shrinkage-thresholding algorithm", SIAM J. Imaging Sci. 2,
2009, theorem 3.1). It is drawn over runs on a quadratic and on logistic regression. Of all bounds that know only L and
|x_0 - x*| the best one at eta = 1/L is L |x_0 - x*|^2 / (4 k + 2): Huber's function with its kink at
|x_0 - x*| / (2 k + 1) attains it after k steps (Drori, Teboulle, "Performance of first-order methods for smooth convex
minimization", Math. Program. 145, 2014), so that the lecture's bound gives away a factor of 2 + 1/k and no more.

With 1/L < eta < 2/L descent still converges, without this bound: on a quadratic the error along the curvature s is
multiplied by 1 - eta s at every step. With eta > 2/L that of the largest curvature grows, and the iterates leave.

Gradient descent is Euler's method on the gradient flow x' = -grad f(x), and runs here as that, by `cde_nets.solve`.

Subject: Descent and backpropagation
Source: Cuchiero, lecture 2, classical convergence result
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import cde_nets as cn
from cde_nets.plot.style import COLOURS, figure, styled
from experiments.command import Json, Quick, less
from experiments.lectures import ready, write

app = typer.Typer(add_completion=False)

NAME = "gradient_descent"
STEPS = 1000
# Steps in units of 1/L, and for how many iterates those that may diverge are followed.
RATES, FOLLOWED = (0.5, 1.0, 1.9, 2.0, 2.1), 120
# Of those, the ones whose paths are drawn.
PICTURED = (0.5, 1.9, 2.1)
SHORT = (0.25, 0.5, 1.0)
DIM, CONDITION = 40, 1e4
SAMPLES, FEATURES = 200, 6
# The iterations at which Huber's worst function is made.
WORST = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
PLANE, PLANE_START, DRAWN = (1.0, 0.12), (-2.6, 1.6), 9


@dataclass(frozen=True)
class Objective:
    """A convex function whose gradient is Lipschitz.

    Attributes:
        name: in words.
        value: f of x, shape (dim,).
        smoothness: L.
        start: x_0, shape (dim,), float64.
        minimiser: x*, shape (dim,).
    """

    name: str
    value: Callable[[Tensor], Tensor]
    smoothness: float
    start: Tensor
    minimiser: Tensor

    @property
    def distance(self) -> float:
        """|x_0 - x*|^2."""
        return float((self.start - self.minimiser).square().sum())


@app.command()
@less(globals(), STEPS=60, WORST=(1, 4, 30))
def gradient_descent(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/gradient_descent"),
    seed: Annotated[int, typer.Option(min=0, help="Of the samples.")] = 0,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder, and fill its page.")] = None,
    as_json: Json = False,
) -> None:
    """Draw the bound over runs; write gradient_descent.json and gradient_descent.png."""
    out = ready(NAME, out, publish, quick=quick)
    runs = [measure(objective, rate) for objective in (quadratic(), logistic(seed)) for rate in SHORT]
    worst = [worst_case(k) for k in WORST]
    longer = [follow(rate) for rate in RATES]
    content = {"seed": seed, "steps": STEPS, "runs": runs, "worst_case": worst, "rates": longer}
    columns = ("function", "step · L", "gap / bound, largest", f"gap after {STEPS} steps", "bound there")
    rows = [
        (run["objective"], f"{run['rate']:g}", *(f"{run[name]:.3g}" for name in ("largest", "last", "bound")))
        for run in runs
    ]
    huber = worst[-1]
    numbers = (f"{huber[name]:.3g}" for name in ("ratio", "gap", "bound"))
    rows.append((f"Huber, worst at k = {huber['k']}", "1", *numbers))
    write(NAME, out, publish, content, _picture(runs, worst, longer), columns, rows, as_json=as_json)


def quadratic() -> Objective:
    """1/2 sum_i s_i x_i^2 with curvatures from 1 down to 1e-4, from x_0 = (1, .., 1)."""
    curvatures = torch.logspace(0, -1, DIM, base=CONDITION, dtype=torch.float64)
    one = torch.ones(DIM, dtype=torch.float64)
    return Objective("quadratic", lambda x: (curvatures * x.square()).sum() / 2, 1.0, one, 0 * one)


def logistic(seed: int) -> Objective:
    """The mean of log(1 + exp(-y_i w.x_i)), with labels drawn by a model's odds; L = |X^T X|_2 / (4 samples)."""
    X, y = samples(seed)

    def loss(w: Tensor) -> Tensor:
        return torch.nn.functional.softplus(-y * (X @ w)).mean()

    start = torch.zeros(FEATURES, dtype=torch.float64)
    root = cn.FixedPointProblem.root(torch.func.grad(loss), start)
    best = cn.solve(root, cn.Newton(), tolerance=cn.Tolerance(1e-14, 1e-14)).value
    smoothness = float(torch.linalg.matrix_norm(X, 2)) ** 2 / (4 * SAMPLES)
    return Objective("logistic regression", loss, smoothness, start, best)


def samples(seed: int) -> tuple[Tensor, Tensor]:
    """Features of unequal scale, shape (samples, features), and labels -1 or 1."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.logspace(0, -1, FEATURES, dtype=torch.float64)
    X = scales * torch.randn(SAMPLES, FEATURES, dtype=torch.float64, generator=generator)
    odds = torch.rand(SAMPLES, dtype=torch.float64, generator=generator)
    return X, 2 * (odds < torch.sigmoid(3 * X.sum(1))).to(torch.float64) - 1


def huber(kink: float) -> Objective:
    """x^2/2 up to the kink, linear beyond, from x_0 = 1: L = 1."""
    start = torch.ones(1, dtype=torch.float64)
    value = torch.nn.HuberLoss(reduction="sum", delta=kink)
    return Objective("Huber", lambda x: value(x, torch.zeros_like(x)), 1.0, start, 0 * start)


def descend(objective: Objective, eta: float, steps: int) -> Tensor:
    """x_0, .., x_steps by Euler's method on the gradient flow, shape (steps + 1, dim)."""
    gradient = torch.func.grad(objective.value)
    # A time of one for each step: then the step ends are whole numbers, and the times to save at.
    flow = cn.InitialValueProblem(lambda _, x: -eta * gradient(x), objective.start, 0.0, float(steps))
    path: Tensor = cn.solve(flow, cn.RungeKutta("euler", steps=steps), save_at=range(steps + 1)).value
    return path


def gaps(objective: Objective, path: Tensor) -> list[float]:
    """F(x_k) - f*; below rounding it may be negative."""
    least = objective.value(objective.minimiser)
    values: list[float] = (torch.func.vmap(objective.value)(path) - least).tolist()
    return values


def measure(objective: Objective, rate: float) -> dict[str, Any]:
    """A run with eta = rate / L under the bound."""
    eta = rate / objective.smoothness
    found = gaps(objective, descend(objective, eta, STEPS))[1:]
    bounds = [objective.distance / (2 * eta * k) for k in range(1, STEPS + 1)]
    kept = sorted({int(k) for k in np.geomspace(1, STEPS, 60).round()})
    return {
        "objective": objective.name,
        "rate": rate,
        "smoothness": objective.smoothness,
        "distance_squared": objective.distance,
        "k": kept,
        "gaps": [found[k - 1] for k in kept],
        "bounds": [bounds[k - 1] for k in kept],
        "largest": max(gap / limit for gap, limit in zip(found, bounds, strict=True)),
        "last": found[-1],
        "bound": bounds[-1],
    }


def worst_case(k: int) -> dict[str, float]:
    """The gap after k steps of 1/L on Huber's function with its kink at 1 / (2 k + 1), beside both bounds."""
    objective = huber(1 / (2 * k + 1))
    gap = gaps(objective, descend(objective, 1.0, k))[-1]
    return {"k": k, "gap": gap, "bound": 1 / (2 * k), "best_bound": 1 / (4 * k + 2), "ratio": 2 * k * gap}


def plane() -> Objective:
    """A quadratic of two curvatures, 1 and 0.12."""
    curvatures = torch.tensor(PLANE, dtype=torch.float64)
    start = torch.tensor(PLANE_START, dtype=torch.float64)
    return Objective("plane", lambda x: (curvatures * x.square()).sum() / 2, 1.0, start, 0 * start)


def follow(rate: float) -> dict[str, Any]:
    """A run in the plane with eta = rate / L, and the factor between its last two distances from the minimiser."""
    objective = plane()
    path = descend(objective, rate, FOLLOWED)
    away = path.norm(dim=1)
    return {
        "rate": rate,
        "gaps": gaps(objective, path),
        "factor": float(away[-1] / away[-2]),
        "path": path[: DRAWN + 1].tolist(),
    }


def _picture(runs: list[dict[str, Any]], worst: list[dict[str, float]], longer: list[dict[str, Any]]) -> Figure:
    pictured = figure(11.0, 3.9)
    with styled():
        left, middle, right = pictured.subplots(1, 3)
        _draw_bound(left, runs, worst)
        for run, colour in zip(longer, (COLOURS[4], COLOURS[0], COLOURS[2], "#888888", COLOURS[5]), strict=True):
            style: Any = {"color": colour, "label": f"η = {run['rate']:g}/L"}
            middle.semilogy(run["gaps"], **style)
            if run["rate"] in PICTURED:
                right.plot(*np.array(run["path"]).T, "o-", markersize=3, linewidth=1, **style)
        middle.set(xlabel="iteration k", ylabel="$f(x_k) - f^*$", title="a quadratic in the plane", ylim=(1e-14, 1e19))
        middle.legend(loc="upper left", ncols=2)
        _draw_level_lines(right)
    return pictured


def _draw_bound(ax: Axes, runs: list[dict[str, Any]], worst: list[dict[str, float]]) -> None:
    """All in units of L |x_0 - x*|^2 / 2, so that there is one bound for all functions."""
    for run, colour in zip((run for run in runs if run["rate"] == 1), (COLOURS[0], COLOURS[2]), strict=True):
        unit = run["smoothness"] * run["distance_squared"] / 2
        ax.loglog(run["k"], np.array(run["gaps"]) / unit, color=colour, label=run["objective"])
    k = np.geomspace(1, STEPS, 50)
    ax.loglog(k, 1 / k, color="black", linewidth=1.2, label="bound, 1/k")
    ax.loglog(k, 1 / (2 * k + 1), ":", color="black", linewidth=1.2, label="best bound, 1/(2k + 1)")
    at = [row["k"] for row in worst]
    ax.loglog(
        at, [2 * row["gap"] for row in worst], "x", color=COLOURS[5], markersize=6, label="Huber, worst at each k"
    )
    ax.set(xlabel="iteration k", title="gap in units of $L\\,|x_0 - x^*|^2/2$, η = 1/L", ylim=(1e-6, 2))
    ax.legend(fontsize=8, loc="lower left")


def _draw_level_lines(ax: Axes) -> None:
    x, y = np.meshgrid(np.linspace(-7, 7, 141), np.linspace(-0.7, 2.0, 101))
    levels = 0.04 * 2.2 ** np.arange(9)
    ax.contour(x, y, (PLANE[0] * x**2 + PLANE[1] * y**2) / 2, levels, colors="#cccccc", linewidths=0.7, zorder=0.8)
    ax.plot(*PLANE_START, "o", color="black", markerfacecolor="white", markersize=6, zorder=3)
    ax.plot(0, 0, "*", color="black", markersize=9, zorder=3)
    ax.set(xlabel="$x_1$", ylabel="$x_2$", title="its first iterates", xlim=(-7, 7), ylim=(-0.7, 2.0))
    ax.grid(visible=False)
    ax.legend(fontsize=8, loc="lower right")


if __name__ == "__main__":
    app()
