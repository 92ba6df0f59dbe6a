"""Neumann's series as a backward pass: Propositions 1 to 3 of recurrent back-propagation, measured beside their bounds.

    python -m experiments.neumann

At a rest point z* = f(z*) the way back is w = (I - J^T)^{-1} g, and the series sum_k (J^T)^k g has it as its limit
where the spectral radius of J is below 1. Of z = tanh(W z + x + b), for several radii of W:

- Proposition 1: K + 1 terms of the series are the gradient of back-propagation truncated after K + 1 updates from the
  rest point, to rounding. (The paper's K-step sums have K + 1 terms, its equation 6.) Through all T updates from zero
  it is another number, which goes to the series' as the states come to rest.
- Proposition 2: |sum_{k <= K} J^k - (I - J)^{-1}|_2 <= |(I - J)^{-1}|_2 |J|_2^{K+1}. What is missing is exactly
  (I - J)^{-1} J^{K+1}, its equation 9; where J is not normal |J^{K+1}| is far below |J|^{K+1}, and where |J| > 1 the
  bound grows while the error falls.
- Proposition 3: K + 1 updates w <- J^T w + g from zero are those K + 1 terms; from another start w_0 there is
  (J^T)^{K+1} w_0 more.

Subject: Equilibria
Source: Liao et al. 2018, appendix, section 2, Propositions 1 to 3
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

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

RADII = (0.5, 0.8, 0.95)
TERMS = (0, 1, 2, 4, 8, 16, 32, 64)
UPDATES = (5, 10, 20, 40, 80, 160, 320)
DIM, ROWS = 8, 3
TIGHT = cn.Tolerance(1e-14, 1e-15)


@app.command()
@less(globals(), TERMS=(0, 2, 8), UPDATES=(5, 20, 80))
def neumann(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/neumann"),
    seed: Annotated[int, typer.Option(min=0, help="Of the layers, the inputs and the loss.")] = 0,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder.")] = None,
    as_json: Json = False,
) -> None:
    """Measure the three propositions; write neumann.json and neumann.png."""
    out = begin(out, publish, quick=quick)
    with progress() as bar:
        found = [measure(radius, seed) for radius in bar.track(RADII, description="neumann")]
    content = {"seed": seed, "dim": DIM, "terms": TERMS, "updates": UPDATES, "rows": found}
    leave("neumann", out, publish, content, _picture(found), _table(found), as_json=as_json)


def measure(radius: float, seed: int) -> dict[str, Any]:
    """Errors of the series and of what the propositions say is the same.

    Args:
        radius: spectral radius of W.
        seed: of all that is drawn.

    Returns:
        For each K the operator's error and its bound, and the relative differences in the gradient; for each T that of
        back-propagation through T updates from the full series.
    """
    generator = torch.Generator().manual_seed(seed)
    W, x, weights = (
        torch.randn(*n, dtype=torch.float64, generator=generator) for n in ((DIM, DIM), *(2 * [(ROWS, DIM)]))
    )
    layer = cn.ImplicitRNN(DIM, DIM, parameter_dtype=torch.float64, tolerance=TIGHT)
    with torch.no_grad():
        layer.get_parameter("f.weight_hh").copy_(radius * W / torch.linalg.eigvals(W).abs().max())
    x = 0.3 * x
    rest = layer(x).detach()

    def gradient(value: Tensor) -> Tensor:
        loss = (value * weights).sum()
        return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(layer.parameters()))])

    def implicit(method: Any, start: Tensor | None = None) -> Tensor:
        layer.gradient = cn.Implicit(method, tolerance=TIGHT)
        return gradient(layer(x, start))

    exact = implicit(cn.Dense())
    jacobian = torch.autograd.functional.jacobian(lambda z: layer.f(x[:1], z[None])[0], rest[0])
    inverse = torch.linalg.inv(torch.eye(DIM, dtype=torch.float64) - jacobian)
    rows = []
    for count in TERMS:
        series = implicit(cn.Neumann(count))
        rows.append(
            {
                "K": count,
                "error": _norm(operator(jacobian, count) - inverse),
                "bound": _norm(inverse) * _norm(jacobian) ** (count + 1),
                "gradient": _relative(series, exact),
                "truncated": _relative(gradient(through_time(layer, x, rest, count + 1)), series),
                "updates": _relative(implicit(cn.RBP(terms=count + 1)), series),
                "updates_from_one": _relative(implicit(cn.RBP(z0=1.0, terms=count + 1)), series),
            }
        )
    zero = torch.zeros_like(rest)
    full = [_relative(gradient(through_time(layer, x, zero, steps)), exact) for steps in UPDATES]
    return {"radius": radius, "norm": _norm(jacobian), "rows": rows, "full": full}


def operator(jacobian: Tensor, count: int) -> Tensor:
    """The sum of J^0, .., J^count, column by column, as `cde_nets.solve` sums it."""
    units = torch.eye(len(jacobian), dtype=jacobian.dtype)
    problem = cn.LinearProblem(lambda w: w @ jacobian.T, units)
    found: Tensor = cn.solve(problem, cn.Neumann(count)).value
    return found.T


def through_time(layer: cn.ImplicitRNN, x: Tensor, z: Tensor, steps: int) -> Tensor:
    """Some updates of the layer's map, in torch's own graph."""
    for _ in range(steps):
        z = layer.f(x, z)
    return z


def _norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, 2))


def _relative(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def _picture(found: Sequence[dict[str, Any]]) -> Figure:
    pictured = figure(11.0, 3.8)
    with styled():
        left, middle, right = pictured.subplots(1, 3)
        for row, colour in zip(found, COLOURS, strict=False):
            counts = [one["K"] for one in row["rows"]]
            label = f"radius of W {row['radius']:g}, |J| = {row['norm']:.2f}"
            left.semilogy(counts, [one["error"] for one in row["rows"]], "o-", markersize=4, color=colour, label=label)
            left.semilogy(counts, [one["bound"] for one in row["rows"]], ":", color=colour)
            for name, marker in (("truncated", "o"), ("updates", "x"), ("updates_from_one", "^")):
                # Exactly the same is below every axis that is logarithmic.
                values = [max(one[name], 1e-17) for one in row["rows"]]
                middle.semilogy(counts, values, marker, markersize=5, color=colour, markerfacecolor="none")
            right.loglog(UPDATES, row["full"], "o-", markersize=4, color=colour)
        for marker, words in (("o", "truncated after K + 1"), ("x", "K + 1 updates from 0"), ("^", "from 1")):
            middle.plot([], [], marker, color="#555555", markerfacecolor="none", label=words)
        left.set(xlabel="K", title="Proposition 2: error, and bound (dotted)")
        middle.set(xlabel="K", title="1 and 3: difference from the series")
        right.set(xlabel="updates T from zero", title="1: all of them, beside the full series")
        left.legend(fontsize=7)
        middle.legend(fontsize=7)
    return pictured


def _table(found: Sequence[dict[str, Any]]) -> Table:
    table = Table("radius of W", "|J|_2", "K", "error", "bound", "TBPTT - series", "RBP from 0", "RBP from 1")
    for row in found:
        for one in row["rows"]:
            names = ("error", "bound", "truncated", "updates", "updates_from_one")
            table.add_row(
                f"{row['radius']:g}", f"{row['norm']:.3f}", str(one["K"]), *(f"{one[name]:.1e}" for name in names)
            )
    return table


if __name__ == "__main__":
    app()
