"""Regression by squares: the closed form, and what gradient descent makes of it.

    python -m experiments.regression

The mean of (y_i - x_i.w)^2 / 2 over n samples has its minimum where H w = c, H = X^T X / n, c = X^T y / n: the normal
equations. Gradient descent with a step eta knows all its iterates beforehand,

    w_k - w* = (I - eta H)^k (w_0 - w*),

so that along an eigenvector of H the error falls by 1 - eta s a step, s its eigenvalue: the condition of H decides.
Here the same polynomials are fitted in powers of t, and in Legendre's basis, which is nearly orthonormal on the
samples: the fit is the same, the descent is not.

Where there are more features than samples the minimum is no single point. From w_0 = 0 every step stays in the span of
the samples, and descent goes to the interpolant of least norm, w = X^T (X X^T)^{-1} y (Moore and Penrose's inverse);
from another start what is orthogonal to the samples stays as it was.

Subject: Descent and backpropagation
Source: lecture Neural network optimization, machine learning problems
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.polynomial import legendre

from cde_nets.plot.style import COLOURS, figure, styled
from experiments.command import Json, Quick, less
from experiments.lectures import ready, write

app = typer.Typer(add_completion=False)

Array = npt.NDArray[np.floating[Any]]

NAME = "regression"
SAMPLES, NOISE = 30, 0.15
FITTED = (1, 3, 9)
# Of the descents, and of the picture: how many iterations, and how many of them are kept.
DEGREE, STEPS, KEPT = 5, 10000, 80
WIDE_SAMPLES, WIDE_FEATURES = 8, 24
BASES = {"Legendre's basis": legendre.legvander, "powers of t": np.polynomial.polynomial.polyvander}


@app.command()
@less(globals(), STEPS=200)
def regression(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/regression"),
    seed: Annotated[int, typer.Option(min=0, help="Of samples and starts.")] = 0,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder, and fill its page.")] = None,
    as_json: Json = False,
) -> None:
    """Fit by both ways; write regression.json and regression.png."""
    out = ready(NAME, out, publish, quick=quick)
    t, y = draw(seed)
    fits = {str(degree): closed(features("Legendre's basis", t, degree), y).tolist() for degree in FITTED}
    descents = {name: measure(features(name, t, DEGREE), y) for name in BASES}
    wide = {name: underdetermined(seed, start) for name, start in (("from zero", 0.0), ("from elsewhere", 1.0))}
    content = {"seed": seed, "t": t.tolist(), "y": y.tolist(), "fits": fits, "descents": descents, "wide": wide}
    rows = [
        (name, f"{found['condition']:.3g}", f"{found['errors'][-1]:.1e}", f"{found['from_formula']:.1e}")
        for name, found in descents.items()
    ]
    rows += [
        (f"{WIDE_FEATURES} features, {name}", "", f"{found['errors'][-1]:.1e}", "") for name, found in wide.items()
    ]
    columns = ("features", "condition of H", f"distance after {STEPS} steps", "largest distance from the formula")
    write(NAME, out, publish, content, _picture(content), columns, rows, as_json=as_json)


def draw(seed: int) -> tuple[Array, Array]:
    """Times in [-1, 1] and a noisy sine, both of shape (samples,)."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.uniform(-1, 1, SAMPLES))
    return t, np.sin(np.pi * t) + NOISE * rng.standard_normal(SAMPLES)


def features(basis: str, t: Array, degree: int) -> Array:
    """Polynomials up to a degree, each with a root mean square of one over the samples, (samples, degree + 1)."""
    found: Array = BASES[basis](t, degree)
    scaled: Array = found / np.sqrt((found**2).mean(0))
    return scaled


def closed(X: Array, y: Array) -> Array:
    """W of the least squares, by the normal equations."""
    found: Array = np.linalg.solve(X.T @ X, X.T @ y)
    return found


def descend(X: Array, y: Array, w: Array, steps: int) -> Array:
    """w_0, .., w_steps by gradient descent with eta = 1 / |H|, shape (steps + 1, features)."""
    n, path = len(X), [w]
    eta = n / np.linalg.norm(X, 2) ** 2
    for _ in range(steps):
        path.append(path[-1] - eta * X.T @ (X @ path[-1] - y) / n)
    return np.array(path)


def formula(X: Array, y: Array, w: Array, steps: list[int]) -> Array:
    """w_k at some k, from the eigenvalues of H, shape (len(steps), features); H must be regular."""
    values, vectors = np.linalg.eigh(X.T @ X)
    best = closed(X, y)
    along = vectors.T @ (w - best)
    found: Array = best + (along * (1 - values / values[-1]) ** np.array(steps)[:, None]) @ vectors.T
    return found


def measure(X: Array, y: Array) -> dict[str, Any]:
    """A descent from zero: its distance from the closed form over the iterations, and from the formula for w_k."""
    path, best, kept = descend(X, y, np.zeros(X.shape[1]), STEPS), closed(X, y), _kept()
    expected = formula(X, y, path[0], kept)
    return {
        "k": kept,
        "errors": np.linalg.norm(path[kept] - best, axis=1).tolist(),
        "expected": np.linalg.norm(expected - best, axis=1).tolist(),
        "from_formula": float(np.abs(path[kept] - expected).max()),
        "condition": float(np.linalg.cond(X) ** 2),
    }


def underdetermined(seed: int, scale: float) -> dict[str, Any]:
    """More features than samples, from w_0 ~ N(0, scale^2): distance from the least norm's interpolant, residual."""
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((WIDE_SAMPLES, WIDE_FEATURES)), rng.standard_normal(WIDE_SAMPLES)
    start = scale * rng.standard_normal(WIDE_FEATURES)
    path, kept = descend(X, y, start, STEPS), _kept()
    least = np.linalg.pinv(X) @ y
    orthogonal = start - np.linalg.pinv(X) @ (X @ start)
    return {
        "k": kept,
        "errors": np.linalg.norm(path[kept] - least, axis=1).tolist(),
        "residuals": np.linalg.norm(path[kept] @ X.T - y, axis=1).tolist(),
        "orthogonal": float(np.linalg.norm(orthogonal)),
    }


def _kept() -> list[int]:
    return sorted({0, *(int(k) for k in np.geomspace(1, STEPS, KEPT).round())})


def _picture(content: dict[str, Any]) -> Figure:
    pictured = figure(11.0, 3.8)
    with styled():
        left, middle, right = pictured.subplots(1, 3)
        _draw_fits(left, content)
        for (name, found), colour in zip(content["descents"].items(), (COLOURS[0], COLOURS[5]), strict=True):
            k, errors = np.array(found["k"]), np.array(found["errors"])
            middle.loglog(k[1:], np.array(found["expected"])[1:], color=colour, linewidth=1.2, label=name)
            middle.loglog(k[1::4], errors[1::4], "o", color=colour, markersize=4)
        middle.plot([], [], "o", color="#555555", markersize=4, label="measured")
        middle.set(xlabel="iteration k", title=f"distance $|w_k - w^*|$, degree {DEGREE}", ylim=(1e-16, 10))
        middle.legend(fontsize=8, loc="lower left")
        for (name, found), colour in zip(content["wide"].items(), (COLOURS[2], COLOURS[1]), strict=True):
            right.loglog(found["k"][1:], found["errors"][1:], color=colour, label=name)
            right.loglog(found["k"][1:], found["residuals"][1:], "--", color=colour)
        for style, words in (("-", "to least norm"), ("--", "residual")):
            right.plot([], [], style, color="#555555", label=words)
        right.set(xlabel="iteration k", title=f"{WIDE_SAMPLES} samples, {WIDE_FEATURES} features", ylim=(1e-16, 30))
        right.legend(fontsize=8, loc="lower left")
    return pictured


def _draw_fits(ax: Axes, content: dict[str, Any]) -> None:
    t, y = np.array(content["t"]), np.array(content["y"])
    fine = np.linspace(t[0], t[-1], 300)
    ax.plot(t, y, "o", color="black", markersize=3, label="samples")
    for degree, colour in zip(FITTED, (COLOURS[1], COLOURS[0], COLOURS[2]), strict=True):
        scales = np.sqrt((legendre.legvander(t, degree) ** 2).mean(0))
        curve = legendre.legvander(fine, degree) / scales @ np.array(content["fits"][str(degree)])
        ax.plot(fine, curve, color=colour, label=f"degree {degree}")
    ax.set(xlabel="t", ylabel="y", title="least squares, in closed form")
    ax.legend(fontsize=8)


if __name__ == "__main__":
    app()
