"""How errors fall with the step: of every Runge-Kutta method, and of the continuous adjoint.

    python -m experiments.convergence

Left: every explicit method on a flow whose control is piecewise linear, against scipy's DOP853 piece by piece; the
slope of the last halvings is printed beside the order. Right: the gradient of the continuous adjoint (`Backsolve`)
against the exact gradient of the same steps (`Discrete`): an error of the way the gradient is computed, which the exact
modes do not have at any step.

Subject: Networks as flows
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from matplotlib.axes import Axes
from rich.table import Table
from scipy.integrate import solve_ivp
from torch import Tensor

import cde_nets as cn
from cde_nets.plot import orders
from cde_nets.plot.convergence import slope
from cde_nets.plot.style import figure, styled
from cde_nets.solver.flow.tableau import TABLEAUS
from experiments.command import Json, Quick, begin, leave, less
from experiments.shown import progress

app = typer.Typer(add_completion=False)

PIECES = 4
# Where the errors are above rounding and below the region that is not yet asymptotic.
STEPS = {1: (128, 256, 512, 1024), 2: (64, 128, 256, 512), 3: (32, 64, 128, 256), 4: (16, 32, 64, 128)}
FINE = (16, 32, 64, 128)
# Of the step of the adjoints, from that of the control.
HALVINGS = 6
ADJOINTS = ("euler", "midpoint", "bosh3", "rk4")


@app.command()
@less(globals(), STEPS={1: (128, 256), 2: (64, 128), 3: (32, 64), 4: (16, 32)}, FINE=(16, 32), HALVINGS=3)
def convergence(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/convergence"),
    seed: Annotated[int, typer.Option(min=0, help="Of the fields, the control and the points.")] = 1,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    as_json: Json = False,
) -> None:
    """Measure convergence slopes and the continuous adjoint's error; write convergence.json and convergence.png."""
    out = begin(out, publish, quick=quick)
    torch.set_num_threads(threads)
    fields, control, x = _system(seed)
    truth = _reference(fields, control, x)
    rows: list[dict[str, Any]] = []
    with progress() as bar:
        task = bar.add_task("convergence", total=len(TABLEAUS) + len(ADJOINTS))
        for name, tableau in TABLEAUS.items():
            steps = STEPS.get(tableau.order, FINE)
            errors = [_error(fields, control, x, truth, name, n) for n in steps]
            rows.append(_row("flow", name, tableau.order, steps, errors))
            bar.advance(task)
        for name in ADJOINTS:
            steps = tuple(PIECES * 2**k for k in range(HALVINGS + 1))
            errors = [_backsolve_error(fields, control, x, name, n) for n in steps]
            rows.append(_row("backsolve", name, TABLEAUS[name].order, steps, errors))
            bar.advance(task)
    pictured = figure(9.0, 4.0)
    with styled():
        left, right = pictured.subplots(1, 2)
        _draw(left, [row for row in rows if row["of"] == "flow"], "error of the state at the end")
        _draw(right, [row for row in rows if row["of"] == "backsolve"], "relative error of the control's gradient")
        left.set_title("explicit methods: order in brackets")
        right.set_title("continuous adjoint against the exact gradient")
    content = {"seed": seed, "rows": rows}
    leave("convergence", out, publish, content, pictured, _table(rows), as_json=as_json)


def _system(seed: int) -> tuple[cn.PolynomialFields, cn.PiecewiseLinearControl, Tensor]:
    fields = cn.PolynomialFields.random(3, 4, 2, seed=seed, dtype=torch.float64)
    control = cn.PiecewiseLinearControl.random(PIECES, 4, scale=1.4, seed=seed + 1, dtype=torch.float64)
    x = 0.5 * torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 2))
    return fields, control, x


def _reference(fields: cn.PolynomialFields, control: cn.PiecewiseLinearControl, x: Tensor) -> Tensor:
    """Scipy's DOP853, started anew at each knot."""
    shape = x.shape

    def velocity(t: float, y: Any) -> Any:
        u = control.at(torch.tensor(t, dtype=torch.float64)).detach()
        return fields.velocity(torch.from_numpy(y).reshape(shape), u).numpy().ravel()

    y = x.numpy().ravel()
    for piece in range(PIECES):
        span = (piece / PIECES, (piece + 1) / PIECES)
        y = solve_ivp(velocity, span, y, "DOP853", rtol=1e-13, atol=1e-14).y[:, -1]
    return torch.from_numpy(y).reshape(shape)


def _error(fields: Any, control: Any, x: Tensor, truth: Tensor, name: str, steps: int) -> float:
    with torch.no_grad():
        problem = cn.InitialValueProblem.controlled(fields, control, x)
        return float((cn.solve(problem, cn.RungeKutta(name, steps=steps)).value - truth).abs().max())


def _backsolve_error(fields: Any, control: Any, x: Tensor, name: str, steps: int) -> float:
    problem = cn.InitialValueProblem.controlled(fields, control, x)
    found = []
    for gradient in (cn.Discrete(), cn.Backsolve()):
        end = cn.solve(problem, cn.RungeKutta(name, steps=steps), gradient=gradient).value
        found.append(torch.autograd.grad(end.square().sum(), control.values)[0])
    exact, inexact = found
    return float((exact - inexact).norm() / exact.norm())


def _row(of: str, name: str, order: int, steps: tuple[int, ...], errors: list[float]) -> dict[str, Any]:
    fitted = slope([1 / n for n in steps], errors, name=name)
    return {"of": of, "method": name, "order": order, "slope": fitted, "steps": list(steps), "errors": errors}


def _draw(ax: Axes, rows: list[dict[str, Any]], label: str) -> None:
    measured = {row["method"]: ([1 / n for n in row["steps"]], row["errors"]) for row in rows}
    # A method looks the same in both pictures.
    orders(measured, {row["method"]: row["order"] for row in rows}, ax, among=list(TABLEAUS))
    ax.set_ylabel(label)


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("of", "method", "order", "measured slope", "smallest error")
    for row in rows:
        smallest = min(e for e in row["errors"] if not math.isnan(e))
        table.add_row(row["of"], row["method"], str(row["order"]), f"{row['slope']:.3f}", f"{smallest:.1e}")
    return table


if __name__ == "__main__":
    app()
