"""Universal approximation, by width and by depth: one hidden layer, a deep residual network, a flow.

    python -m experiments.universal_approximation

"Any continuous function on [0, 1]^m can be uniformly approximated by a neural network of sufficient depth and/or width"
(Cybenko 1989, Hornik 1991). How fast, on [0, 1], in the largest error over a fine grid:

- Width, by hand: n rectified units with kinks at k/n draw the polygon through n + 1 points of f, whose error is at most
  max |f''| / (8 n^2).
- Width, frozen: n random tanh units, only the outer weights fitted by least squares.
- Depth, by hand: x^2 = x - sum_s T^s(x) / 4^s, with the tent map T composed with itself (Yarotsky, "Error bounds for
  approximations with deep ReLU networks", Neural Networks 94, 2017). After m residual blocks of two units the error is
  exactly 4^-(m+1): a polygon with 2^m pieces, for which one layer needs 2^m units.
- Depth, frozen fields: the flow dX = sum_i u_i(t) V_i(X) dt in R^3 from (x, 0, 0), solved by Euler's method in M steps,
  a residual network of depth M. The fields are random quadratic ones, cut off smoothly, and frozen; the M d numbers u
  are trained (least squares on 60 points), and the second coordinate of X_1 is f's approximation. Each depth starts
  from the network of half the depth, with steps between its own that do nothing.

Subject: Networks as flows
Source: Cuchiero, lecture 2, universal approximation
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import least_squares
from torch import Tensor, nn

import cde_nets as cn
from cde_nets.plot.style import COLOURS, figure, styled
from experiments.command import Json, Quick
from experiments.lectures import ready, write
from experiments.shown import progress

app = typer.Typer(add_completion=False)

Array = npt.NDArray[np.floating[Any]]

NAME = "universal_approximation"
WIDTHS = (2, 4, 8, 16, 32, 64, 128, 256)
BLOCKS = tuple(range(1, 11))
DEPTHS, QUICK_DEPTHS = (1, 2, 4, 8, 16), (1, 2, 4)
DIM, COUNT, SCALE, RADIUS, POINTS, EVALUATIONS = 3, 5, 0.3, 2.0, 60, 60
# Of |u| beside the residuals: keeps the controls of deep flows short.
RIDGE = 1e-6
GRID = 2001
# |f''| is at most this.
CURVATURE = 4 * np.pi**2


def target(x: Array) -> Array:
    """sin(2 pi x)."""
    values: Array = np.sin(2 * np.pi * x)
    return values


@app.command()
def universal_approximation(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path(
        "runs/universal_approximation"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Of units, fields and controls.")] = 0,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder, and fill its page.")] = None,
    as_json: Json = False,
) -> None:
    """Approximate by width and depth; write universal_approximation.json and universal_approximation.png."""
    out = ready(NAME, out, publish, quick=quick)
    polygons = [{"units": n, "error": largest(target, polygon(target, n))} for n in WIDTHS]
    random = [{"units": n, "error": largest(target, units(n, seed))} for n in WIDTHS]
    tents = [{"blocks": m, "units": 2 * m, "error": largest(np.square, _called(square(m)))} for m in BLOCKS]
    flows = train(seed, QUICK_DEPTHS if quick else DEPTHS)
    content = {"seed": seed, "polygons": polygons, "random_units": random, "tents": tents, "flows": flows}
    slope = float(np.polyfit(np.log(WIDTHS[3:]), np.log([row["error"] for row in polygons[3:]]), 1)[0])
    rows = [
        (f"width: polygon of {WIDTHS[-1]} units, slope {slope:.2f}", str(WIDTHS[-1]), f"{polygons[-1]['error']:.1e}"),
        *(
            (f"width: {row['units']} random tanh units", str(row["units"]), f"{row['error']:.1e}")
            for row in random[2:5]
        ),
        (f"depth: x² by {BLOCKS[-1]} blocks of two units", "-", f"{tents[-1]['error']:.1e}"),
        *((f"depth: flow, M = {row['steps']}", str(row["numbers"]), f"{row['error']:.1e}") for row in flows),
    ]
    write(
        NAME,
        out,
        publish,
        content,
        _picture(content, seed),
        ("network", "trained numbers", "largest error"),
        rows,
        as_json=as_json,
    )


def largest(f: Callable[[Array], Array], g: Callable[[Array], Array]) -> float:
    """The largest |f - g| on a grid of [0, 1] that has many points between any two kinks."""
    x = np.linspace(0, 1, GRID)
    return float(np.abs(f(x) - g(x)).max())


def polygon(f: Callable[[Array], Array], n: int) -> Callable[[Array], Array]:
    """One hidden layer of n rectified units through f at k/n: f(0) + sum_k c_k max(0, x - k/n)."""
    knots = np.arange(n) / n
    slopes = n * np.diff(f(np.arange(n + 1) / n))
    weights = np.diff(slopes, prepend=0.0)
    start = f(np.zeros(1))[0]
    return lambda x: start + np.maximum(0, x[:, None] - knots) @ weights


def units(n: int, seed: int) -> Callable[[Array], Array]:
    """One hidden layer of n tanh units with random slopes and kinks, the outer weights by least squares."""
    rng = np.random.default_rng(seed)
    slopes, kinks = rng.uniform(-10, 10, n), rng.uniform(0, 1, n)

    def layer(x: Array) -> Array:
        return np.column_stack([np.tanh(slopes * (x[:, None] - kinks)), np.ones(len(x))])

    x = np.linspace(0, 1, 400)
    weights = np.linalg.lstsq(layer(x), target(x), rcond=1e-12)[0]
    return lambda x: layer(x) @ weights


class Tent(nn.Module):
    """The branch of a residual block for x^2: from (g, sum) to (T(g) - g, -T(g) / 4^s).

    Args:
        s: which block it is, from 1.
    """

    def __init__(self, s: int) -> None:
        super().__init__()
        self.s = s

    def forward(self, state: Tensor) -> Tensor:
        """Shape (batch, 2) to the same."""
        g = state[:, 0]
        tent = 2 * torch.relu(g) - 4 * torch.relu(g - 0.5)
        return torch.stack([tent - g, -tent / 4**self.s], 1)


def square(blocks: int) -> nn.Sequential:
    """The residual network whose second coordinate goes from x to nearly x^2, from (x, x)."""
    return nn.Sequential(*[cn.ResidualBlock(Tent(s)) for s in range(1, blocks + 1)])


def _called(network: nn.Module) -> Callable[[Array], Array]:
    def call(x: Array) -> Array:
        end: Array = network(torch.from_numpy(np.stack([x, x], 1)))[:, 1].numpy()
        return end

    return call


def flow(seed: int, values: Tensor) -> cn.ControlledODE:
    """Frozen quadratic fields on R^3 under a control of so many steps, by Euler's method.

    Args:
        seed: of the fields.
        values: u, shape (steps, count), float64.
    """
    # Bounded: at long steps quadratic ones would leave every bounded set.
    fields = cn.Cutoff(cn.PolynomialFields.random(DIM, COUNT, 2, seed=seed, dtype=torch.float64), RADIUS)
    control = cn.PiecewiseConstantControl(len(values), COUNT, values=values)
    return cn.ControlledODE(fields, control, "euler", throw=False)


def lifted(x: Array) -> Tensor:
    """(x, 0, 0), shape (points, 3)."""
    return nn.functional.pad(torch.from_numpy(x)[:, None], (0, DIM - 1))


def train(seed: int, depths: tuple[int, ...]) -> list[dict[str, Any]]:
    """Flows of rising depth, each from the one before: steps, trained numbers, largest error, controls."""
    generator = torch.Generator().manual_seed(seed)
    values = SCALE * torch.randn(depths[0], COUNT, dtype=torch.float64, generator=generator)
    found: list[dict[str, Any]] = []
    with progress() as bar:
        for steps in bar.track(depths, description="flows"):
            values = fit(seed, deepened(values, steps) if found else values)
            error = largest(target, approximation(seed, values))
            found.append({"steps": steps, "numbers": values.numel(), "error": error, "values": values.tolist()})
    return found


def deepened(values: Tensor, steps: int) -> Tensor:
    """Controls of more steps for the same network: a step becomes a shorter one of greater force, and steps of none.

    Args:
        values: shape (steps before, count).
        steps: a multiple of those before.
    """
    times = steps // len(values)
    made = torch.zeros(len(values), times, COUNT, dtype=values.dtype)
    made[:, 0] = times * values
    return made.flatten(0, 1)


def approximation(seed: int, values: Tensor) -> Callable[[Array], Array]:
    """The second coordinate of X_1."""
    made = flow(seed, values)

    def call(x: Array) -> Array:
        with torch.no_grad():
            end: Array = made(lifted(x))[:, 1].numpy()
        return end

    return call


def fit(seed: int, start: Tensor) -> Tensor:
    """Controls of the least squares on equally spaced points, from a start of the same shape."""
    x = np.linspace(0, 1, POINTS)
    made, states, weight = flow(seed, start), lifted(x), RIDGE / len(start) ** 0.5

    def end(values: Tensor) -> Tensor:
        second: Tensor = torch.func.functional_call(made, {"control.values": values}, (states,))[:, 1]
        return second

    def residual(u: Array) -> Array:
        with torch.no_grad():
            difference = end(torch.from_numpy(u).reshape(start.shape)).numpy() - target(x)
        return np.concatenate([difference, weight * u])

    def jacobian(u: Array) -> Array:
        rows = torch.func.jacrev(end)(torch.from_numpy(u).reshape(start.shape))
        return np.concatenate([rows.reshape(POINTS, -1).numpy(), weight * np.eye(start.numel())])

    solved = least_squares(residual, start.flatten().numpy(), jacobian, method="trf", max_nfev=EVALUATIONS)
    return torch.from_numpy(solved.x).reshape(start.shape)


def _picture(content: dict[str, Any], seed: int) -> Figure:
    pictured = figure(11.0, 3.8)
    with styled():
        left, middle, right = pictured.subplots(1, 3, width_ratios=(1, 1, 1.15))
        n = np.array(WIDTHS)
        left.loglog(n, CURVATURE / (8 * n**2), ":", color="black", label="bound, $\\max|f''|/(8n^2)$")
        for name, words, colour in (
            ("polygons", "rectified units", COLOURS[0]),
            ("random_units", "random tanh units", COLOURS[1]),
        ):
            left.loglog(n, [row["error"] for row in content[name]], "o-", markersize=4, color=colour, label=words)
        left.set(xlabel="units n of one layer", title="width: largest error, sin 2πx", ylim=(1e-11, 30))
        left.legend(fontsize=8, loc="lower left")
        blocks = np.array(BLOCKS)
        middle.semilogy(2 * blocks, 4.0 ** -(blocks + 1), ":", color="black", label="$4^{-(m+1)}$")
        middle.semilogy(
            2 * blocks,
            [row["error"] for row in content["tents"]],
            "o",
            color=COLOURS[2],
            markersize=4,
            label="m blocks of two units",
        )
        middle.semilogy(
            2 * blocks, 1 / (4 * (2 * blocks) ** 2), color=COLOURS[0], label="one layer, polygon through x²"
        )
        middle.set_xticks(2 * blocks[1::2])
        middle.set(xlabel="units", title="depth: largest error, x²")
        middle.legend(fontsize=8, loc="lower left")
        _draw_flows(right, content["flows"], seed)
    return pictured


def _draw_flows(ax: Axes, flows: list[dict[str, Any]], seed: int) -> None:
    x = np.linspace(0, 1, 400)
    for row, colour in zip(flows, (COLOURS[5], COLOURS[1], COLOURS[4], COLOURS[2], COLOURS[0]), strict=False):
        values = torch.tensor(row["values"], dtype=torch.float64)
        error = np.abs(approximation(seed, values)(x) - target(x))
        ax.semilogy(x, error, color=colour, linewidth=1.2, label=f"M = {row['steps']}, {row['numbers']} numbers")
    ax.set(xlabel="x", title="flows of depth M: error, sin 2πx", ylim=(1e-8, 100))
    ax.legend(fontsize=8, loc="upper center", ncols=2)


if __name__ == "__main__":
    app()
