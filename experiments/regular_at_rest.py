"""Keeping I - J regular: the smallest eigenvalue at rest, its bounds from below, and three losses that shall raise it.

    python -m experiments.regular_at_rest

The gradient of a rest point exists where lambda = lambda_min((I - J)^T (I - J)) > 0. The appendix of Liao et al. bounds
it, with A = (I - J)^T (I - J),

    lambda_min(A) >= 1 - |A - I|_inf >= 1 - sqrt(n) |A - I|_F,

and proposes losses. Left: of z = tanh(W z + x) with W scaled up, lambda by Lanczos beside that of a dense solver, both
bounds, and where |J|_2 and the spectral radius pass 1: lambda is positive far beyond, the bounds are not. Right: W at
first so that I - J is nearly singular, and gradient descent on one loss alone:

- max(0, -lambda), as printed: identically zero, as A is positive semidefinite; nothing moves;
- max(0, eps - lambda), `cde_nets.eigenvalue_hinge`, with the derivative v^T dA v of Hellmann and Feynman;
- max(0, margin - bound), `cde_nets.gershgorin_hinge`.

Subject: Equilibria
Source: Liao et al. 2018, appendix, section 1.2
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor

import cde_nets as cn
from cde_nets.plot.style import COLOURS, figure, styled
from experiments.command import Json, Quick, begin, leave, less
from experiments.shown import progress

app = typer.Typer(add_completion=False)

DIM = 12
SCALES = tuple(float(s) for s in np.linspace(0.02, 2.0, 34).round(3))
# Of the descents: iterations, their step, and lambda at the first one.
STEPS, RATE, FIRST = 150, 0.02, 1e-3
WANTED = 0.25
TIGHT = cn.Tolerance(1e-13, 1e-14)

LOSSES: dict[str, Callable[[cn.FixedPointProblem, Tensor], Tensor]] = {
    "max(0, −λ), as printed": lambda problem, z: torch.relu(-cn.smallest_eigenvalue(problem, z).value),
    "max(0, ε − λ)": lambda problem, z: cn.eigenvalue_hinge(problem, z, WANTED),
    "max(0, margin − bound)": lambda problem, z: cn.gershgorin_hinge(problem, z, WANTED),
}


@app.command()
@less(globals(), SCALES=SCALES[::8], STEPS=15)
def regular_at_rest(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/regular_at_rest"),
    seed: Annotated[int, typer.Option(min=0, help="Of W and the input.")] = 0,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder.")] = None,
    as_json: Json = False,
) -> None:
    """Measure lambda and its bounds, and descend; write regular_at_rest.json and regular_at_rest.png."""
    out = begin(out, publish, quick=quick)
    W, x = drawn(seed)
    with progress() as bar:
        scaled = [measure(scale, W, x) for scale in bar.track(SCALES, description="conditions")]
        descents = {name: descend(name, seed) for name in bar.track(LOSSES, description="descents")}
    content = {"seed": seed, "dim": DIM, "wanted": WANTED, "scaled": scaled, "descents": descents}
    leave("regular_at_rest", out, publish, content, _picture(content), _table(content), as_json=as_json)


def drawn(seed: int) -> tuple[Tensor, Tensor]:
    """W of spectral norm 1, shape (DIM, DIM), and an input, shape (1, DIM)."""
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(DIM, DIM, dtype=torch.float64, generator=generator)
    x = 0.1 * torch.randn(1, DIM, dtype=torch.float64, generator=generator)
    return W / torch.linalg.matrix_norm(W, 2), x


def at_rest(W: Tensor, x: Tensor) -> tuple[cn.FixedPointProblem, Tensor]:
    """The problem z = tanh(W z + x), and its rest point, differentiable in W."""
    problem = cn.FixedPointProblem(lambda z, W, x: torch.tanh(z @ W.T + x), torch.zeros_like(x), args=(W, x))
    return problem, cn.solve(problem, cn.Newton(), tolerance=TIGHT).value


def measure(scale: float, W: Tensor, x: Tensor) -> dict[str, float]:
    """What is known of J at the rest point, W times a scale."""
    problem, z = at_rest(scale * W, x)
    jacobian = torch.autograd.functional.jacobian(lambda z: torch.tanh(z @ (scale * W).T + x)[0], z)[:, 0]
    rest = torch.eye(DIM, dtype=torch.float64) - jacobian
    return {
        "scale": scale,
        "smallest": float(cn.smallest_eigenvalue(problem, z).value),
        "dense": float(torch.linalg.eigvalsh(rest.T @ rest)[0]),
        "infinity": float(cn.gershgorin_bound(problem, z)),
        "frobenius": float(cn.gershgorin_bound(problem, z, "frobenius")),
        "norm": float(cn.spectral_norm(problem, z).value),
        "radius": float(cn.spectral_radius(problem, z).value),
    }


def nearly_singular(seed: int) -> Tensor:
    """W of norm 1/2 with one singular value of I - W set to sqrt(FIRST): at z = 0 that is J's."""
    half = drawn(seed)[0] / 2
    left, values, right = torch.linalg.svd(torch.eye(DIM, dtype=torch.float64) - half)
    values[-1] = FIRST**0.5
    made: Tensor = torch.eye(DIM, dtype=torch.float64) - left @ torch.diag(values) @ right
    return made


def descend(name: str, seed: int) -> list[float]:
    """Lambda before each iteration of gradient descent on the loss in W, at the rest point of input 0."""
    W = nearly_singular(seed).requires_grad_()
    x = torch.zeros(1, DIM, dtype=torch.float64)
    path = []
    for _ in range(STEPS):
        problem, z = at_rest(W, x)
        with torch.no_grad():
            path.append(float(cn.smallest_eigenvalue(problem, z).value))
        (slope,) = torch.autograd.grad(LOSSES[name](problem, z).sum(), W)
        with torch.no_grad():
            W -= RATE * slope
    return path


def _picture(content: dict[str, Any]) -> Figure:
    pictured = figure(10.0, 4.0)
    with styled():
        left, right = pictured.subplots(1, 2)
        rows = content["scaled"]
        scales = [row["scale"] for row in rows]
        left.plot(scales, [row["smallest"] for row in rows], color=COLOURS[0], label="λ by Lanczos")
        left.plot(scales, [row["dense"] for row in rows], "x", color="black", markersize=4, label="by a dense solver")
        for name, words, colour in (
            ("infinity", "1 − |A − I|∞", COLOURS[5]),
            ("frobenius", "1 − √n |A − I|F", COLOURS[3]),
        ):
            left.plot(scales, [row[name] for row in rows], "--", color=colour, label=words)
        for name, words, style in (("norm", "|J|₂ = 1", "-."), ("radius", "spectral radius 1", ":")):
            beyond = [row["scale"] for row in rows if row[name] > 1]
            if beyond:
                left.axvline(beyond[0], color="#888888", linestyle=style, linewidth=1, label=words)
        left.set(xlabel="W times", ylim=(-1.5, 1.05), title="λ and its bounds from below")
        left.legend(fontsize=7)
        for (name, path), style in zip(content["descents"].items(), ("-", "-", "--"), strict=True):
            right.plot(path, style, label=name)
        right.axhline(content["wanted"], color="#888888", linestyle=":", linewidth=1)
        right.set(xlabel="iterations", ylabel="λ", title="descent on a loss alone")
        right.legend(fontsize=7)
    return pictured


def _table(content: dict[str, Any]) -> Table:
    table = Table("loss", "λ at first", "λ at last")
    for name, path in content["descents"].items():
        table.add_row(name, f"{path[0]:.3g}", f"{path[-1]:.3g}")
    worst = max(abs(row["smallest"] / row["dense"] - 1) for row in content["scaled"])
    table.caption = f"Lanczos beside a dense solver: relative difference at most {worst:.1e}."
    return table


if __name__ == "__main__":
    app()
