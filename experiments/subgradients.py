"""Subgradients of the hinge loss: descent where there is no gradient.

    python -m experiments.subgradients

f(w) = mean_i max(0, 1 - y_i x_i.w) is convex and has kinks. g is a subgradient at w if f(v) >= f(w) + g.(v - w) for all
v: the line lies below. At a kink there are many, and w_{t+1} = w_t - alpha_t g_t may take any. A step may lead upwards,
so that the best value so far is what counts. With |g| <= G and R = |w_0 - w*|

    min_{t < K} f(w_t) - f* <= (R^2 + G^2 sum alpha_t^2) / (2 sum alpha_t),

which a constant step alpha = R / (G sqrt(K)) makes R G / sqrt(K), and alpha_t = R / (G sqrt(t + 1)) the same up to a
logarithm. A constant step alone stops at a distance: the bound then goes to G^2 alpha / 2. (Shor, "Minimization Methods
for Non-differentiable Functions", 1985; Boyd, Xiao, Mutapcic, "Subgradient methods", 2003.) On many samples the gap is
far below the bound, as their kinks make f almost smooth until its minimum is near; three samples are enough for half
of the bound.

The minimum is that of a linear program, by scipy: f* and w* are exact to its tolerance of 1e-7 or better.

Subject: Descent and backpropagation
Source: lecture Neural network optimization, sub-gradient descent
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import linprog

from cde_nets.plot.style import COLOURS, figure, styled
from experiments.command import Json, Quick, less
from experiments.lectures import ready, write

app = typer.Typer(add_completion=False)

Array = npt.NDArray[np.float64]

NAME = "subgradients"
SAMPLES, FEATURES, FLIPPED = 100, 4, 0.1
STEPS = 20000
HORIZONS = tuple(2**k for k in range(4, 15))
# K = j^2 + j where a step can be bad.
BAD = tuple(2**k for k in range(2, 8))
# Constant steps, in units of R / G.
CONSTANT = (0.1, 0.01)


@dataclass(frozen=True)
class Hinge:
    """The mean hinge loss.

    Attributes:
        Z: y_i x_i, shape (samples, features).
        best: w*, shape (features,).
        least: f*.
        slope: G, which no subgradient on the way is longer than.
    """

    Z: Array
    best: Array
    least: float
    slope: float

    @property
    def distance(self) -> float:
        """R, from w_0 = 0."""
        return float(np.linalg.norm(self.best))

    def value(self, w: Array) -> float:
        """F(w)."""
        return float(np.maximum(0, 1 - self.Z @ w).mean())

    def subgradient(self, w: Array) -> Array:
        """One of them: at a kink that of the flat side."""
        return -self.Z.T @ (self.Z @ w < 1) / len(self.Z)


@app.command()
@less(globals(), STEPS=500, HORIZONS=(16, 64, 256), BAD=(4, 8, 16))
def subgradients(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/subgradients"),
    seed: Annotated[int, typer.Option(min=0, help="Of the samples.")] = 0,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder, and fill its page.")] = None,
    as_json: Json = False,
) -> None:
    """Descend along subgradients; write subgradients.json and subgradients.png."""
    out = ready(NAME, out, publish, quick=quick)
    hinge = draw(seed)
    unit = hinge.distance / hinge.slope
    falling = follow(hinge, unit / np.sqrt(np.arange(1, STEPS + 1)))
    constant = {f"{part:g}": follow(hinge, np.full(STEPS, part * unit)) for part in CONSTANT}
    horizons = [horizon(hinge, K) for K in HORIZONS]
    worst = [bad(j) for j in BAD]
    sizes, best = ([row[name] for row in worst] for name in ("K", "gap"))
    slope = float(np.polyfit(np.log(sizes), np.log(best), 1)[0])
    kept = sorted({int(t) for t in np.geomspace(1, STEPS, 400).round()})
    content: dict[str, Any] = {
        "seed": seed,
        "least": hinge.least,
        "R": hinge.distance,
        "G": hinge.slope,
        "t": kept,
        "falling": _kept(falling, kept),
        "constant": {name: _kept(found, kept) for name, found in constant.items()},
        "horizons": horizons,
        "bad": worst,
        "bad_slope": slope,
    }
    rows = [
        ("three bad samples, α = R/(G √K): slope in K", f"{slope:.3f}", "-0.5"),
        *(_row(f"three bad samples, K = {row['K']:,}", row["gap"], row["bound"]) for row in worst[-1:]),
        *(_row(f"α = R/(G √K), K = {row['K']}", row["gap"], row["bound"]) for row in horizons[::5]),
        _row(f"α = R/(G √t), best of {STEPS}", falling.best[-1], falling.bounds[-1]),
        *(
            _row(f"α = {name} R/G, best of {STEPS}", found.best[-1], found.bounds[-1])
            for name, found in constant.items()
        ),
    ]
    write(NAME, out, publish, content, _picture(content), ("steps", "best gap", "bound"), rows, as_json=as_json)


@dataclass(frozen=True)
class Followed:
    """A run; a number for each w_0, .., w_{K-1}.

    Attributes:
        gaps: f(w_t) - f*.
        best: the least of them so far.
        bounds: of the least.
    """

    gaps: Array
    best: Array
    bounds: Array


def draw(seed: int) -> Hinge:
    """Two classes told apart by a direction, some labels flipped, the last feature 1; and the minimum."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((SAMPLES, FEATURES))
    X[:, -1] = 1
    flips = np.where(rng.random(SAMPLES) < FLIPPED, -1, 1)
    y = flips * np.where(X @ np.linspace(1, -1, FEATURES) > 0, 1, -1)
    return minimised(X * y[:, None])


def minimised(Z: Array) -> Hinge:
    """The minimum of mean s_i with s_i >= 1 - z_i.w, s_i >= 0, by linear programming.

    Args:
        Z: y_i x_i, shape (samples, features).
    """
    n, m = Z.shape
    cost = np.concatenate([np.zeros(m), np.full(n, 1 / n)])
    bounds = [(None, None)] * m + [(0, None)] * n
    found = linprog(cost, A_ub=np.hstack([-Z, -np.eye(n)]), b_ub=-np.ones(n), bounds=bounds, method="highs")
    least = float(np.maximum(0, 1 - Z @ found.x[:m]).mean())
    # A subgradient is the mean of some -z_i.
    return Hinge(Z, found.x[:m], least, float(np.linalg.norm(Z, axis=1).mean()))


def follow(hinge: Hinge, alphas: Array) -> Followed:
    """Subgradient descent from 0.

    Args:
        hinge: the loss.
        alphas: the steps, shape (K,).
    """
    w, values = np.zeros(hinge.Z.shape[1]), np.empty(len(alphas))
    for t, alpha in enumerate(alphas):
        values[t] = hinge.value(w)
        w = w - alpha * hinge.subgradient(w)
    gaps = values - hinge.least
    bounds = (hinge.distance**2 + hinge.slope**2 * np.cumsum(alphas**2)) / (2 * np.cumsum(alphas))
    return Followed(gaps, np.minimum.accumulate(gaps), bounds)


def horizon(hinge: Hinge, K: int) -> dict[str, float]:
    """The best of K steps of the constant length that is right for K."""
    found = follow(hinge, np.full(K, hinge.distance / (hinge.slope * np.sqrt(K))))
    return {"K": K, "gap": float(found.best[-1]), "bound": float(found.bounds[-1])}


def bad(j: int) -> dict[str, float]:
    """Three samples on the line, 1, 1 and -1, with K = j^2 + j: as |w - 1| / 3 beside 1, whose kink the steps straddle.

    The step R / sqrt(K) goes into R just about j + 1/2 times.
    """
    hinge = replace(minimised(np.array([[1.0], [1.0], [-1.0]])), slope=1 / 3)
    return horizon(hinge, j * j + j)


def _kept(found: Followed, kept: Sequence[int]) -> dict[str, list[float]]:
    return {name: [float(values[t - 1]) for t in kept] for name, values in vars(found).items()}


def _row(name: str, gap: float, bound: float) -> tuple[str, str, str]:
    return name, f"{gap:.2e}", f"{bound:.2e}"


def _picture(content: dict[str, Any]) -> Figure:
    pictured = figure(11.0, 3.8)
    with styled():
        left, middle, right = pictured.subplots(1, 3)
        _draw_kink(left)
        falling, t = content["falling"], content["t"]
        middle.loglog(t, falling["gaps"], color=COLOURS[4], linewidth=0.6, label="R/(G √t)")
        middle.loglog(t, falling["best"], color=COLOURS[0], label="R/(G √t), best so far")
        for (name, found), colour in zip(content["constant"].items(), (COLOURS[5], COLOURS[1]), strict=True):
            middle.loglog(t, found["best"], color=colour, label=f"{name} R/G, best so far")
        middle.loglog(t, falling["bounds"], color="black", linewidth=1.2, linestyle=":", label="bound of the first")
        middle.set(xlabel="iteration t", title="gap $f(w_t) - f^*$ by step length", ylim=(1e-10, 10))
        middle.legend(fontsize=8, loc="lower left")
        K = [row["K"] for row in content["horizons"]]
        unit = content["R"] * content["G"]
        gaps = np.array([row["gap"] for row in content["horizons"]]) / unit
        right.loglog(K, 1 / np.sqrt(K), ":", color="black", label="bound, $1/\\sqrt{K}$")
        worst = np.array([[row["K"], row["gap"] * 3] for row in content["bad"]])
        right.loglog(*worst.T, "x", color=COLOURS[5], label=f"three bad samples, slope −{-content['bad_slope']:.2f}")
        right.loglog(K, gaps, "o-", markersize=4, color=COLOURS[0], label="the 100 samples")
        right.set(xlabel="iterations K", title="best gap in units of RG, step R/(G √K)", ylim=(1e-10, 1))
        right.legend(loc="lower left")
    return pictured


def _draw_kink(ax: Axes) -> None:
    """max(0, 1 - w): all slopes from -1 to 0 lie below it at the kink."""
    w = np.linspace(-0.6, 2.6, 200)
    for slope in (-0.75, -0.5, -0.25):
        ax.plot(w, slope * (w - 1), color=COLOURS[1], linewidth=1)
    ax.plot([], [], color=COLOURS[1], linewidth=1, label="some subgradients at 1")
    ax.plot(w, np.maximum(0, 1 - w), color=COLOURS[0], linewidth=2.2, label="max(0, 1 − w)")
    ax.plot(1, 0, "o", color="black", markersize=5, zorder=3)
    ax.set(xlabel="w", title="lines below the hinge", ylim=(-1, 1.7))
    ax.legend(loc="upper right")


if __name__ == "__main__":
    app()
