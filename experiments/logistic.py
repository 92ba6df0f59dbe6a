"""Logistic against squared loss for classification: what points far on their right side do.

    python -m experiments.logistic

Labels y = -1 or 1, scores x.w, and of the margin m = y x.w the losses

    logistic   log(1 + exp(-m)),        squared   (y - x.w)^2 = (1 - m)^2,  as y^2 = 1.

The squared loss punishes a margin of 10, though that is as right as can be, as much as one of -8. So points that lie
far on their own side pull its line over; to the logistic loss they are worth nothing (Bishop, "Pattern Recognition and
Machine Learning", 2006, section 4.1.3 and figure 4.4). Far points with the wrong label mislead both: there the logistic
loss grows linearly, the squared one with the square.

Squared loss is solved in closed form, logistic loss by Newton's method on its gradient, `cde_nets.solve`.

Subject: Descent and backpropagation
Source: lecture Neural network optimization, machine learning problems
"""

from __future__ import annotations

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

NAME = "logistic"
SAMPLES, TEST, APART, SPREAD = 100, 4000, 1.2, 0.75
OUTLIERS, PLACE, BREADTH = 12, (1.0, -0.6), 0.25
DISTANCES = tuple(float(r) for r in range(0, 21, 2))
PICTURED = 10.0
KINDS = {"far and right": 1.0, "far and mislabelled": -1.0}
TOLERANCE = cn.Tolerance(1e-12, 1e-12)


@app.command()
@less(globals(), DISTANCES=(0.0, 10.0, 20.0), TEST=500)
def logistic(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/logistic"),
    seed: Annotated[int, typer.Option(min=0, help="Of the points.")] = 0,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder, and fill its page.")] = None,
    as_json: Json = False,
) -> None:
    """Fit both losses beside outliers; write logistic.json and logistic.png."""
    out = ready(NAME, out, publish, quick=quick)
    found = {kind: [measure(seed, sign, distance) for distance in DISTANCES] for kind, sign in KINDS.items()}
    content = {"seed": seed, "outliers": OUTLIERS, "distances": DISTANCES, "rows": found}
    rows = [
        (f"{kind}, distance {row['distance']:g}", *(f"{100 * row[loss]['accuracy']:.1f} %" for loss in FITS))
        for kind, measured in found.items()
        for row in (measured[0], measured[len(measured) // 2], measured[-1])
    ]
    write(NAME, out, publish, content, _picture(seed, found), (f"{OUTLIERS} outliers", *FITS), rows, as_json=as_json)


def draw(seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Two round clouds about (-1.2, 0) and (1.2, 0), with a feature that is one: shape (count, 3), and labels."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count, dtype=torch.float64) % 2 * 2 - 1
    noise = SPREAD * torch.randn(count, 2, dtype=torch.float64, generator=generator)
    points = noise + torch.stack([APART * y, 0 * y], 1)
    return torch.cat([points, torch.ones(count, 1, dtype=torch.float64)], 1), y


def with_outliers(seed: int, sign: float, distance: float) -> tuple[Tensor, Tensor]:
    """The training points and a small cloud far on the side of label 1, labelled `sign`."""
    x, y = draw(seed, SAMPLES)
    generator = torch.Generator().manual_seed(seed + 1)
    direction = torch.tensor(PLACE, dtype=torch.float64)
    centre = torch.tensor([APART, 0.0], dtype=torch.float64) + distance * direction / direction.norm()
    far = centre + BREADTH * torch.randn(OUTLIERS, 2, dtype=torch.float64, generator=generator)
    far = torch.cat([far, torch.ones(OUTLIERS, 1, dtype=torch.float64)], 1)
    return torch.cat([x, far]), torch.cat([y, torch.full((OUTLIERS,), sign, dtype=torch.float64)])


def by_squares(x: Tensor, y: Tensor) -> Tensor:
    """W of the least mean of (y - x.w)^2, shape (features,)."""
    found: Tensor = torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
    return found


def by_logistic(x: Tensor, y: Tensor) -> Tensor:
    """W of the least mean of log(1 + exp(-y x.w)); the points must not be separable, or there is none."""

    def loss(w: Tensor) -> Tensor:
        return torch.nn.functional.softplus(-y * (x @ w)).mean()

    # From least squares, scaled down: full Newton steps from far out would leap.
    root = cn.FixedPointProblem.root(torch.func.grad(loss), by_squares(x, y))
    best: Tensor = cn.solve(root, cn.Newton(), tolerance=TOLERANCE).value
    return best


FITS = {"logistic": by_logistic, "squared": by_squares}


def measure(seed: int, sign: float, distance: float) -> dict[str, Any]:
    """Both fits, and their accuracy on fresh points of the two clouds."""
    x, y = with_outliers(seed, sign, distance)
    fresh, labels = draw(seed + 2, TEST)
    row: dict[str, Any] = {"distance": distance}
    for name, fit in FITS.items():
        w = fit(x, y)
        row[name] = {"w": w.tolist(), "accuracy": float(((fresh @ w > 0) == (labels > 0)).double().mean())}
    return row


def _picture(seed: int, found: dict[str, list[dict[str, Any]]]) -> Figure:
    pictured = figure(11.0, 3.8)
    with styled():
        left, middle, right = pictured.subplots(1, 3, width_ratios=(1, 1.3, 1))
        _draw_losses(left)
        _draw_lines(middle, seed, found)
        for kind, style in zip(found, ("-", ":"), strict=True):
            for name, colour in zip(FITS, (COLOURS[0], COLOURS[5]), strict=True):
                values = [100 * row[name]["accuracy"] for row in found[kind]]
                right.plot(DISTANCES, values, "o" + style, markersize=3, color=colour, label=f"{name}, {kind}")
        right.set(xlabel="distance of the outliers", ylabel="%", title="accuracy on fresh points", ylim=(55, 100))
        right.legend(fontsize=8, loc="lower left")
    return pictured


def _draw_losses(ax: Axes) -> None:
    m = np.linspace(-3, 5, 200)
    ax.plot(m, np.logaddexp(0, -m), color=COLOURS[0], label="logistic")
    ax.plot(m, (1 - m) ** 2, color=COLOURS[5], label="squared")
    ax.plot(m, m < 0, color="#888888", linewidth=1, label="wrong or right")
    ax.axvspan(1, 5, color=COLOURS[5], alpha=0.08, linewidth=0)
    ax.text(3.7, 1.6, "right, and yet\npunished", ha="center", fontsize=8, color=COLOURS[5])
    ax.set(xlabel="margin m = y x·w", title="loss", ylim=(0, 9), xlim=(-3, 5))
    ax.legend(loc="upper center", bbox_to_anchor=(0.52, 1.0))


def _draw_lines(ax: Axes, seed: int, found: dict[str, list[dict[str, Any]]]) -> None:
    kind = next(iter(KINDS))
    x, y = with_outliers(seed, KINDS[kind], PICTURED)
    for label, colour, marker in ((-1, COLOURS[3], "o"), (1, COLOURS[2], "s")):
        ax.plot(*x[y == label, :2].T, marker, color=colour, markersize=3, alpha=0.8)
    for distance, style in ((DISTANCES[0], ":"), (PICTURED, "-")):
        row = found[kind][DISTANCES.index(distance)]
        for name, colour in zip(FITS, (COLOURS[0], COLOURS[5]), strict=True):
            a, b, c = row[name]["w"]
            # The line may be upright: it is drawn along the second coordinate.
            up = np.linspace(-8, 4, 2)
            words = name if style == "-" else f"{name}, outliers near"
            ax.plot(-(b * up + c) / a, up, style, color=colour, linewidth=1.4, label=words)
    ax.set(xlabel="$x_1$", ylabel="$x_2$", title="twelve points far on their right side", xlim=(-4, 12), ylim=(-8, 4))
    ax.legend(fontsize=8, loc="upper right")


if __name__ == "__main__":
    app()
