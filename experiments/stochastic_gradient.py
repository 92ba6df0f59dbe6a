"""Stochastic gradients: the noise of mini-batches, and how far from the minimum constant steps stay.

    python -m experiments.stochastic_gradient

Least squares, the mean over n samples of l_i(w) = (y_i - x_i.w)^2 / 2, by w_{t+1} = w_t - eta g_B(w_t) with the mean
g_B of the gradients of B samples. Three statements, each measured beside its exact value:

- g_B has the right mean, and the variance tr C / B with C the covariance of one sample's gradient; of B different
  samples (drawn without replacement) it is (n - B) / (n - 1) of that, and so zero for B = n.
- With a constant step w_t does not come to rest: it keeps a spread S = E (w - w*)(w - w*)^T about the minimum. As
  each batch is drawn independently of w, and E (w - w*) is zero in the end, S solves a linear equation,

      H S + S H = eta (H S H + (K(S) - H S H) / B + C / B),   H = E x x^T,   K(S) = E (x.S x) x x^T,

  in which C / B is the noise at the minimum and K that of the curvature. So a shorter step and a larger batch leave
  less of it. (Mandt, Hoffman, Blei, "Stochastic gradient descent as approximate Bayesian inference", JMLR 18, 2017,
  have the equation for small eta.)
- With steps that fall as 1/t it goes to the minimum, its square distance as 1/t (Robbins, Monro, "A stochastic
  approximation method", 1951).

Subject: Descent and backpropagation
Source: lecture Neural network optimization, stochastic gradient descent
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cde_nets.plot.style import COLOURS, figure, styled
from experiments.command import Json, Quick, less
from experiments.lectures import ready, write

app = typer.Typer(add_completion=False)

Array = npt.NDArray[np.floating[Any]]

NAME = "stochastic_gradient"
SAMPLES, NOISE = 64, 0.8
BATCHES, DRAWS = (1, 2, 4, 8, 16, 32, 64), 4000
ETAS = tuple(2.0**-k for k in range(7, 1, -1))
SPREAD_BATCHES = (1, 4, 16)
CHAINS, TIMES = 400, 8.0
# eta_t = FALLING / (t + OFFSET): FALLING above half of the inverse least curvature, OFFSET for a stable start.
FALLING, OFFSET, STEPS = 2.0, 10.0, 2000
# Of the picture: steps of 1/2 and 1/16 times these many iterates.
CLOUDS, SHOWN = (0.25, 0.03125), 400


@dataclass(frozen=True)
class Problem:
    """Least squares.

    Attributes:
        X: shape (samples, 2).
        y: shape (samples,).
    """

    X: Array
    y: Array

    @property
    def minimiser(self) -> Array:
        """w*."""
        best: Array = np.linalg.lstsq(self.X, self.y, rcond=None)[0]
        return best

    @property
    def hessian(self) -> Array:
        """H."""
        return self.X.T @ self.X / len(self.X)

    @property
    def noise(self) -> Array:
        """C at the minimum, where the mean gradient is zero."""
        gradients = self.X * (self.X @ self.minimiser - self.y)[:, None]
        return gradients.T @ gradients / len(self.X)


@app.command()
@less(globals(), BATCHES=(1, 4, 16), ETAS=(0.25, 0.125), DRAWS=500, CHAINS=50, STEPS=300)
def stochastic_gradient(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/stochastic_gradient"),
    seed: Annotated[int, typer.Option(min=0, help="Of the samples and the batches.")] = 0,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder, and fill its page.")] = None,
    as_json: Json = False,
) -> None:
    """Measure mini-batch noise; write stochastic_gradient.json and stochastic_gradient.png."""
    out = ready(NAME, out, publish, quick=quick)
    problem = draw(seed)
    variances = [variance(problem, batch, seed) for batch in BATCHES]
    spreads = [spread(problem, eta, batch, seed) for batch in SPREAD_BATCHES for eta in ETAS]
    falling = decreasing(problem, seed)
    content = {"seed": seed, "variances": variances, "spreads": spreads, "falling": falling}
    ratios = [row["measured"] / row["exact"] for row in spreads]
    slope = float(np.polyfit(np.log(BATCHES), np.log([row["measured"] for row in variances]), 1)[0])
    first = [row for row in spreads if row["batch"] == 1]
    rows = [
        ("variance of the gradient against the batch: slope", f"{slope:.3f}", "-1"),
        *(
            (f"mean square spread, batch 1, step {r['eta']:g}", f"{r['measured']:.4f}", f"{r['exact']:.4f}")
            for r in first
        ),
        ("spreads, measured / exact: least, largest", f"{min(ratios):.3f}, {max(ratios):.3f}", "1, 1"),
        ("steps 2/t: slope of the mean square distance", f"{falling['slope']:.3f}", "-1"),
    ]
    write(
        NAME,
        out,
        publish,
        content,
        _picture(problem, variances, spreads, seed),
        ("what", "measured", "exact"),
        rows,
        as_json=as_json,
    )


def draw(seed: int) -> Problem:
    """Correlated features, a true w = (1, -1/2) and noise."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((SAMPLES, 2)) @ np.array([[1.0, 0.5], [0.0, 0.8]])
    return Problem(X, X @ np.array([1.0, -0.5]) + NOISE * rng.standard_normal(SAMPLES))


def variance(problem: Problem, batch: int, seed: int) -> dict[str, float]:
    """E |g_B - g|^2 at the minimum, by many draws with and without replacement, and exactly."""
    rng, n = np.random.default_rng([seed, batch]), len(problem.X)
    gradients = problem.X * (problem.X @ problem.minimiser - problem.y)[:, None]
    ways = {
        "measured": rng.integers(n, size=(DRAWS, batch)),
        "measured_without": rng.permuted(np.tile(np.arange(n), (DRAWS, 1)), axis=1)[:, :batch],
    }
    found = {name: float((gradients[chosen].mean(1) ** 2).sum(1).mean()) for name, chosen in ways.items()}
    exact = float(np.trace(problem.noise)) / batch
    return {"batch": batch, **found, "exact": exact, "exact_without": exact * (n - batch) / (n - 1)}


def stationary(problem: Problem, eta: float, batch: int) -> Array:
    """S, shape (2, 2), from its linear equation."""
    X, H, C = problem.X, problem.hessian, problem.noise
    one = np.eye(len(H))
    # Of vec(S): K is the mean of the Kronecker products of x x^T with itself.
    pairs = np.einsum("na,nb->nab", X, X).reshape(len(X), -1)
    K = pairs.T @ pairs / len(X)
    HH = np.kron(H, H)
    left = np.kron(H, one) + np.kron(one, H) - eta * (HH + (K - HH) / batch)
    found: Array = np.linalg.solve(left, eta * C.ravel() / batch).reshape(H.shape)
    return found


def chains(problem: Problem, etas: Array, batch: int, count: int, seed: int) -> Array:
    """W after each step of many independent chains from the minimum, shape (steps, chains, 2).

    Args:
        problem: least squares.
        etas: the step sizes in their order, shape (steps,).
        batch: samples a step, with replacement.
        count: chains.
        seed: of the batches.
    """
    rng = np.random.default_rng(seed)
    w = np.tile(problem.minimiser, (count, 1))
    path = np.empty((len(etas), count, 2))
    for t, eta in enumerate(etas):
        chosen = rng.integers(len(problem.X), size=(count, batch))
        x, y = problem.X[chosen], problem.y[chosen]
        left = (x @ w[:, :, None])[..., 0] - y
        w = w - eta * (left[:, None, :] @ x)[:, 0] / batch
        path[t] = w
    return path


def spread(problem: Problem, eta: float, batch: int, seed: int) -> dict[str, float]:
    """E |w - w*|^2 in the end, by many chains over time, and exactly."""
    # In units of the slowest time of the mean.
    steps = int(TIMES / (eta * np.linalg.eigvalsh(problem.hessian)[0]))
    path = chains(problem, np.full(steps, eta), batch, CHAINS, seed)[steps // 2 :]
    measured = float(((path - problem.minimiser) ** 2).sum(2).mean())
    return {"eta": eta, "batch": batch, "measured": measured, "exact": float(np.trace(stationary(problem, eta, batch)))}


def decreasing(problem: Problem, seed: int) -> dict[str, Any]:
    """E |w_t - w*|^2 with steps that fall as 1/t, and its slope in t + OFFSET over the last decade."""
    etas = FALLING / (np.arange(STEPS) + OFFSET)
    path = chains(problem, etas, 1, CHAINS, seed)
    distances = ((path - problem.minimiser) ** 2).sum(2).mean(1)
    late = np.arange(STEPS // 10, STEPS)
    slope = float(np.polyfit(np.log(late + OFFSET), np.log(distances[late]), 1)[0])
    kept = sorted({int(t) for t in np.geomspace(1, STEPS, 60).round()})
    return {"t": kept, "distances": [float(distances[t - 1]) for t in kept], "slope": slope}


def _picture(problem: Problem, variances: list[dict[str, float]], spreads: list[dict[str, float]], seed: int) -> Figure:
    pictured = figure(11.0, 3.9)
    with styled():
        left, middle, right = pictured.subplots(1, 3)
        _draw_variances(left, variances)
        for batch, colour, marker in zip(SPREAD_BATCHES, (COLOURS[5], COLOURS[1], COLOURS[2]), "osD", strict=True):
            own = [row for row in spreads if row["batch"] == batch]
            middle.loglog(ETAS, [row["exact"] for row in own], color=colour, label=f"batch {batch}")
            middle.loglog(ETAS, [row["measured"] for row in own], marker, color=colour, markersize=5)
        middle.plot([], [], "o", color="#555555", markersize=5, label="measured")
        middle.set(xlabel="step η", title="mean square distance $E|w - w^*|^2$ kept")
        middle.legend(loc="upper left")
        _draw_clouds(right, problem, seed)
    return pictured


def _draw_variances(ax: Axes, variances: list[dict[str, float]]) -> None:
    for name, words, colour, marker in (
        ("", "with replacement", COLOURS[0], "o"),
        ("_without", "without", COLOURS[1], "s"),
    ):
        # All samples at once have no noise, and no place on a logarithmic axis.
        seen = [row for row in variances if row[f"exact{name}"] > 0]
        sizes = [row["batch"] for row in seen]
        ax.loglog(sizes, [row[f"exact{name}"] for row in seen], color=colour, label=words)
        ax.loglog(sizes, [row[f"measured{name}"] for row in seen], marker, color=colour, markersize=5)
    ax.plot([], [], "o", color="#555555", markersize=5, label="measured")
    ax.set(xlabel=f"batch B of {SAMPLES} samples", title="variance of the gradient")
    ax.set_xticks(BATCHES, [str(batch) for batch in BATCHES])
    ax.minorticks_off()
    ax.legend(loc="lower left")


def _draw_clouds(ax: Axes, problem: Problem, seed: int) -> None:
    """Iterates of single samples with two steps, and the ellipses that S predicts, of two standard deviations."""
    circle = 2 * np.exp(1j * np.linspace(0, 2 * np.pi, 200))
    ring = np.stack([circle.real, circle.imag])
    for eta, colour in zip(CLOUDS, (COLOURS[5], COLOURS[0]), strict=True):
        # One iterate of each chain, long after its start.
        steps = int(TIMES / (eta * np.linalg.eigvalsh(problem.hessian)[0]))
        cloud = chains(problem, np.full(steps, eta), 1, SHOWN, seed + 1)[-1] - problem.minimiser
        ax.plot(*cloud.T, ".", color=colour, markersize=3, alpha=0.5)
        ellipse = np.linalg.cholesky(stationary(problem, eta, 1)) @ ring
        ax.plot(*ellipse, color=colour, linewidth=1.4, label=f"η = 1/{round(1 / eta)}")
    ax.plot(0, 0, "*", color="black", markersize=9)
    ax.set(xlabel="$w_1 - w_1^*$", ylabel="$w_2 - w_2^*$", title="where batches of one end, and 2σ of S")
    ax.set_aspect("equal", adjustable="datalim")
    ax.legend(loc="upper right")


if __name__ == "__main__":
    app()
