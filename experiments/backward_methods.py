"""Every backward method of an equilibrium on every kind of problem, beside dense implicit differentiation.

    python -m experiments.backward_methods

The rest point z* = f(x, z*) is found by Newton's method, the loss is <w, z*> with a random w, and the gradient in all
parameters of f is compared with (I - J^T)^-1 w by a dense matrix: the relative error in the 2-norm, the products with
J^T, the status of the linear problem and its residual. Exact methods should show rounding, truncated ones what they
leave out, and what cannot work should say so in its status:

- a contraction: tanh(W z + x + b), |W|_2 = 0.7;
- a rotation: the eigenvalues of J are complex, of modulus 0.95;
- not normal: spectral radius 0.5, |J|_2 = 5, so that terms of the series grow first;
- beyond the unit circle: modulus 1.5, where the series diverge and the rest point exists all the same;
- nearly singular: an eigenvalue of J at 1 - 1e-8;
- singular: an eigenvalue of J at 1, at rest at 0 for x = 0 only, so that no gradient exists;
- a graph: gated recurrent units on a ring, all nodes one state.

The same in float32 where the problem is well posed. Methods and their sources: docs/equilibrium.md.

Subject: Equilibria
Source: lecture Recurrent back propagation, implicit RNN; Liao et al. 2018
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor, nn

import cde_nets as cn
from cde_nets.plot.style import figure, styled
from experiments.command import Json, Quick, begin, leave, less
from experiments.shown import progress

app = typer.Typer(add_completion=False)

ROWS, DIM = 4, 6
# What all methods may spend.
MOST = 2000
# Relative to the cotangent; in single precision rounding leaves more than 1e-5 where the map is far from normal.
TIGHT = {torch.float64: cn.Tolerance(1e-13, 1e-14), torch.float32: cn.Tolerance(3e-5, 1e-6)}
SINGLE = ("contraction", "rotation", "not normal", "beyond", "graph")


@dataclass(frozen=True)
class Found:
    """One method on one problem.

    Attributes:
        problem: its name.
        method: its name.
        dtype: "float64" or "float32".
        error: of the gradient in all parameters, relative to the dense one; None where that does not exist, or the
            method's own is not finite.
        status: of the linear problem, or of the forward solve where there is none: of the first row that failed, else
            of the first.
        residual: the largest of the rows, as reported; None where the method reports none.
        products: with J^T; None where there is no linear problem.
    """

    problem: str
    method: str
    dtype: str
    error: float | None
    status: str
    residual: float | None
    products: int | None


@dataclass
class Case:
    """A problem: a map, its input, where to begin, and whether its rows see each other."""

    f: nn.Module
    x: Tensor
    z0: Tensor
    coupled: bool = False

    def layer(self, forward: cn.Method, backward: cn.Method | cn.Gradient, max_steps: int) -> cn.EquilibriumLayer:
        """The equilibrium layer; failures are words, not errors."""
        return cn.EquilibriumLayer(
            self.f,
            forward,
            backward,
            coupled=self.coupled,
            tolerance=TIGHT[self.z0.dtype],
            max_steps=max_steps,
            throw=False,
        )


class Affine(nn.Module):
    """f(x, z) = W z + x."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Shape (rows, dim)."""
        return torch.nn.functional.linear(z, self.weight) + x


def normal(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def similar(eigenvalues: list[float], seed: int) -> Tensor:
    """A symmetric matrix with these eigenvalues."""
    turn = torch.linalg.qr(normal(len(eigenvalues), len(eigenvalues), seed=seed))[0]
    made: Tensor = turn @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ turn.T
    return made


def turning(radius: float, seed: int) -> Tensor:
    """Three planes, each turned by an angle of its own and scaled by the radius, in a random basis."""
    blocks = [
        torch.tensor([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]], dtype=torch.float64)
        for a in (0.4, 1.3, 2.6)
    ]
    turn = torch.linalg.qr(normal(DIM, DIM, seed=seed))[0]
    made: Tensor = radius * turn @ torch.block_diag(*blocks) @ turn.T
    return made


def sheared(seed: int) -> Tensor:
    """Eigenvalues +-0.5, |W|_2 = 5."""
    triangle = torch.diag(torch.tensor([0.5, -0.5, 0.5, -0.5, 0.5, -0.5], dtype=torch.float64))
    upper = torch.triu(torch.ones_like(triangle), 1)
    low, high = 0.0, 10.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if torch.linalg.matrix_norm(triangle + middle * upper, 2) < 5 else (low, middle)
    turn = torch.linalg.qr(normal(DIM, DIM, seed=seed))[0]
    made: Tensor = turn @ (triangle + low * upper) @ turn.T
    return made


def affine(weight: Tensor, dtype: torch.dtype, seed: int, size: float = 1.0) -> Case:
    """The map z = W z + x."""
    x = (size * normal(ROWS, DIM, seed=seed + 1)).to(dtype)
    return Case(Affine(weight.to(dtype)), x, torch.zeros_like(x))


def contraction(dtype: torch.dtype, seed: int) -> Case:
    """The map z = tanh(W z + U x + b)."""
    cell = cn.TanhCell(DIM, DIM, norm=0.7, seed=seed, dtype=dtype)
    x = normal(ROWS, DIM, seed=seed + 1).to(dtype)
    return Case(cell, x, torch.zeros_like(x))


def graph(dtype: torch.dtype, seed: int) -> Case:
    """Gated units on a ring of eight nodes, each hearing both its neighbours."""
    here = torch.arange(8)
    edges = torch.stack([torch.cat([here, here]), torch.cat([(here + 1) % 8, (here - 1) % 8])])
    cell = cn.GraphGRUCell(3, seed=seed, dtype=dtype)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.mul_(0.5)
    return Case(cell, edges, normal(8, 3, seed=seed + 1).to(dtype), coupled=True)


PROBLEMS: dict[str, Callable[[torch.dtype, int], Case]] = {
    "contraction": contraction,
    "rotation": lambda dtype, seed: affine(turning(0.95, seed), dtype, seed),
    "not normal": lambda dtype, seed: affine(sheared(seed), dtype, seed),
    "beyond": lambda dtype, seed: affine(turning(1.5, seed), dtype, seed),
    "nearly singular": lambda dtype, seed: affine(similar([1 - 1e-8, 0.5, 0.3, -0.2, -0.5, 0.1], seed), dtype, seed),
    "singular": lambda dtype, seed: affine(similar([1.0, 0.5, 0.3, -0.2, -0.5, 0.1], seed), dtype, seed, 0.0),
    "graph": graph,
}
# The words of the table, and the method. Exact ones first.
METHODS: dict[str, Callable[[int, torch.Generator], Any]] = {
    "dense LU": lambda _, __: cn.Dense(),
    "GMRES": lambda _, __: cn.GMRES(),
    "BiCGStab": lambda _, __: cn.BiCGStab(),
    "CG-RBP": lambda _, __: cn.CG(),
    "RBP": lambda _, __: cn.RBP(),
    "RBP, z0 = 1": lambda _, __: cn.RBP(z0=1.0),
    "Neumann": lambda _, __: cn.Neumann(),
    "BPTT": lambda _, __: cn.Unrolled(),
    "Neumann-10": lambda _, __: cn.Neumann(10),
    "RBP-11": lambda _, __: cn.RBP(terms=11),
    "RBP-11, z0 = 1": lambda _, __: cn.RBP(z0=1.0, terms=11),
    "TBPTT-11": lambda _, __: cn.Truncated(11),
    "ARTBP uniform": lambda _, generator: cn.RandomlyTruncated(40, generator=generator),
    "ARTBP Poisson": lambda _, generator: cn.RandomlyTruncated(40, "poisson", 10.0, generator),
    "one step": lambda _, __: cn.OneStep(),
}


def dense(case: Case, w: Tensor) -> list[Tensor] | None:
    """The gradient by a dense matrix in float64, the whole batch one state; None where I - J is singular."""
    x = case.x.double() if case.x.is_floating_point() else case.x
    case = Case(case.f.double(), x, case.z0.double(), case.coupled)
    with torch.no_grad():
        z = case.layer(cn.Newton(), cn.Dense(), MOST)(x, case.z0)

    def image(z: Tensor) -> Tensor:
        value: Tensor = case.f(x, z.reshape(case.z0.shape))
        return value.reshape(-1)

    jacobian = torch.autograd.functional.jacobian(image, z.reshape(-1)).detach()
    matrix = torch.eye(len(jacobian), dtype=torch.float64) - jacobian.T
    if torch.linalg.svdvals(matrix)[-1] < 1e-12:
        return None
    value = (image(z.reshape(-1)) * torch.linalg.solve(matrix, w.double().reshape(-1))).sum()
    return list(torch.autograd.grad(value, list(case.f.parameters())))


def measure(problem: str, method: str, dtype: torch.dtype, seed: int) -> Found:
    """One method on one problem."""
    case = PROBLEMS[problem](dtype, seed)
    backward = METHODS[method](MOST, torch.Generator().manual_seed(seed))
    unrolled = isinstance(backward, cn.Unrolled)
    if not isinstance(backward, cn.Gradient):
        backward = cn.Implicit(backward, max_steps=MOST)
    # Back-propagation through time is through an iteration; every other method starts at Newton's rest point.
    w = normal(*case.z0.shape, seed=seed + 2).to(dtype)
    layer = case.layer(cn.Picard() if unrolled else cn.Newton(), backward, MOST)
    with warnings.catch_warnings():
        # Statuses say it here.
        warnings.simplefilter("ignore", cn.ConvergenceWarning)
        solution = layer.solve(case.x, case.z0)
        mine = torch.autograd.grad((solution.value * w).sum(), list(case.f.parameters()))
    status, statistics, products = solution.status, solution.statistics, None
    report = solution.backward
    if report is not None and report.status is not None and report.statistics is not None:
        status, statistics, products = report.status, report.statistics, report.statistics.products
    exact = dense(PROBLEMS[problem](dtype, seed), w)
    error = None
    if exact is not None:
        off = [float((m.double() - e).norm()) for m, e in zip(mine, exact, strict=True)]
        error = math.hypot(*off) / math.hypot(*(float(e.norm()) for e in exact))
        error = error if math.isfinite(error) else None
    words = [cn.Status(code).name.lower() for code in status.tolist()]
    residual = statistics.residual
    return Found(
        problem,
        method,
        str(dtype).removeprefix("torch."),
        error,
        next((word for word in words if not cn.Status[word.upper()].succeeded), words[0]),
        None if residual is None or not bool(residual.isfinite().all()) else float(residual.max()),
        products,
    )


@app.command()
@less(globals(), MOST=200, SINGLE=SINGLE[:1])
def backward_methods(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/backward_methods"),
    seed: Annotated[int, typer.Option(min=0, help="Of the problems.")] = 0,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder.")] = None,
    as_json: Json = False,
) -> None:
    """Compare all backward methods with dense linear algebra; write backward_methods.json and backward_methods.png."""
    out = begin(out, publish, quick=quick)
    jobs = [(p, m, torch.float64) for p in PROBLEMS for m in METHODS]
    jobs += [(p, m, torch.float32) for p in SINGLE for m in METHODS]
    found = []
    with progress() as bar:
        task = bar.add_task("backward methods", total=len(jobs))
        for job in jobs:
            found.append(measure(*job, seed))
            bar.advance(task)
    pictured = picture(found)
    tables = [table([row for row in found if row.dtype == dtype], dtype) for dtype in ("float64", "float32")]
    content = {"seed": seed, "rows": [vars(row) for row in found]}
    leave("backward_methods", out, publish, content, pictured, *tables, as_json=as_json)


LETTERS = {"converged": "", "done": "", "max_steps": "m", "diverged": "d", "breakdown": "b"}


def _cell(row: Found) -> str:
    mark = LETTERS[row.status]
    return ("-" if row.error is None else f"{row.error:.0e}") + f" {mark}" * bool(mark)


def table(rows: list[Found], dtype: str) -> Table:
    """Errors and statuses, a column for each problem."""
    problems = [p for p in PROBLEMS if any(row.problem == p for row in rows)]
    made = Table("method", *problems, title=f"relative error of the gradient, {dtype}")
    for method in METHODS:
        cells = {row.problem: row for row in rows if row.method == method}
        made.add_row(method, *(_cell(cells[p]) for p in problems))
    made.caption = "a row ended as: m max_steps, d diverged, b breakdown, and gave no gradient"
    return made


def picture(found: list[Found]) -> Figure:
    """The tables in colour."""
    with styled():
        made = figure(10.0, 5.0)
        parts = {"float64": list(PROBLEMS), "float32": list(SINGLE)}
        axes = made.subplots(1, 2, sharey=True, width_ratios=[len(p) for p in parts.values()])
        for ax, (dtype, problems) in zip(axes, parts.items(), strict=True):
            image = _heat(ax, [row for row in found if row.dtype == dtype], problems, dtype)
        made.colorbar(image, ax=list(axes), label="relative error of the gradient", fraction=0.03).ax.set_yticks(
            [-15, -10, -5, 0], ["$10^{-15}$", "$10^{-10}$", "$10^{-5}$", "1"]
        )
        return made


def _heat(ax: Axes, rows: list[Found], problems: list[str], dtype: str) -> Any:
    by = {(row.method, row.problem): row for row in rows}
    values = np.full((len(METHODS), len(problems)), np.nan)
    for i, method in enumerate(METHODS):
        for j, problem in enumerate(problems):
            row = by[method, problem]
            if row.error is not None:
                values[i, j] = math.log10(max(row.error, 1e-16))
            dark = row.error is not None and row.error < 1e-8
            ax.text(j, i, _cell(row), ha="center", va="center", fontsize=7, color="white" if dark else "black")
    image = ax.imshow(values, cmap="cividis", vmin=-16, vmax=1, aspect="auto")
    ax.set_xticks(range(len(problems)), [p.replace(" ", "\n") for p in problems])
    ax.set_yticks(range(len(METHODS)), list(METHODS))
    ax.set_title(dtype)
    ax.tick_params(length=0)
    ax.tick_params(axis="x", labelsize=7)
    ax.grid(visible=False)
    for side in ax.spines.values():
        side.set_visible(False)
    return image


if __name__ == "__main__":
    app()
