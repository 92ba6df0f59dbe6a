"""Twenty points carried to twenty targets by one flow: the picture, and its animation.

    python -m experiments.twenty_points

Forty quadratic fields on R^10, points and targets uniform in [-1, 1]^10, y = lambda (X_1 - x) with lambda = 3; the
pictures show the first two coordinates. The controls are made short, and the steps fine until the ODE itself
interpolates. One control moves all points, each as it should: brackets of the fields span (R^10)^20 there, as
`theory.check_points` proves.

Subject: Steering
Source: Cuchiero, lecture 2, main result
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from matplotlib.figure import Figure
from rich.console import Console
from torch import Tensor

import cde_nets as cn
import theory
from cde_nets.atomic import write_atomically
from cde_nets.cli.console import errors
from cde_nets.plot import animate, control_map, targets
from cde_nets.plot.style import figure, styled
from experiments.command import Json, Quick, begin, leave

app = typer.Typer(add_completion=False)

DIM, COUNT, DEGREE, LAM = 10, 40, 2, 3.0
# The coordinates that are drawn.
SEEN = (0, 1)


@app.command()
def twenty_points(
    points: Annotated[int, typer.Option(min=1, help="How many; at most 4 with --quick.")] = 20,
    out: Annotated[Path, typer.Option(help="Folder of the pictures and the numbers.")] = Path("runs/twenty_points"),
    seed: Annotated[int, typer.Option(min=0, help="Of fields, points, targets and the search.")] = 0,
    time_limit: Annotated[float, typer.Option(min=0, help="Seconds that the search may take.")] = 600.0,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy all to this docs folder.")] = None,
    as_json: Json = False,
) -> None:
    """Steer twenty points; write twenty_points.png, .gif and .json."""
    out = begin(out, publish, quick=quick)
    torch.set_num_threads(1)
    console = errors()
    points = min(points, 4) if quick else points
    fields, x, y = task(points, seed)
    with console.status("steering"):
        found = cn.interpolate(
            fields, x, y, lam=LAM, least_energy=True, refine_to=1e-8, seed=seed, time_limit=time_limit
        )
    if not found:
        raise typer.Exit(_say(console, f"{found}"))
    proof = theory.check_points(fields, x.numpy(), seed=seed)
    flow = cn.ControlledODE(fields, found.control, found.method)
    pictured = picture(flow, found, x, y)
    numbers: dict[str, Any] = {
        "seed": seed,
        "points": x.tolist(),
        "targets": y.tolist(),
        "lam": found.lam,
        "status": found.status.name,
        "residual": found.residual,
        "refined_residual": found.refined_residual,
        "energy": found.energy,
        "condition": found.condition,
        "method": found.method.name,
        "substeps": found.substeps,
        "controls": found.control.values.tolist(),
        "certificate": str(proof),
    }
    moving = out / "twenty_points.gif"
    with console.status("drawing"):
        animate(flow, moving, x, y=y, lam=LAM, dims=SEEN)
    if publish is not None:
        write_atomically(publish / "images" / moving.name, moving.read_bytes())
    words = f"energy {found.energy:.4g}, residual with steps half as long {found.refined_residual:.1e}"
    leave("twenty_points", out, publish, numbers, pictured, f"{found}\n{words}\n{proof}", as_json=as_json)


def task(points: int, seed: int) -> tuple[cn.PolynomialFields, Tensor, Tensor]:
    """Fields, points and targets."""
    fields = cn.PolynomialFields.random(DIM, COUNT, DEGREE, seed=seed, dtype=torch.float64)
    x, y = 2 * torch.rand(2, points, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1
    return fields, x, y


def picture(flow: cn.ControlledODE, found: cn.Interpolation, x: Tensor, y: Tensor) -> Figure:
    """The paths to the targets, and the control below as colours."""
    with styled():
        made = figure(7.2, 8.4)
        above, below = made.subplots(2, 1, height_ratios=(3, 1))
        targets(flow, x, y, above, lam=found.lam, dims=SEEN)
        control_map(found.control, below)
        below.set_title(f"{found.control.values.numel()} numbers, energy {found.energy:.3g}")
    return made


def _say(console: Console, text: str) -> int:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    return 1


if __name__ == "__main__":
    app()
