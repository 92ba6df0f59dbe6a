"""`cde-nets steer`."""

from __future__ import annotations

import json
import math
import time
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cde_nets.cli.console import emit, errors, notify, reported
from cde_nets.cli.inputs import FAMILIES, fields_of, number_of, read_points
from cde_nets.cli.places import check_folder

if TYPE_CHECKING:
    from rich.console import Console

    from cde_nets.fields import Fields
    from cde_nets.steer import Interpolation


# What is offered where steps turn out to be far from the ODE.
_REFINED = 1e-6
_STEERED = tuple(name for name in FAMILIES if name != "spherical")


class Moving(StrEnum):
    """How a flow is animated."""

    GIF = "gif"
    HTML = "html"


def steer(
    fields: Annotated[str, typer.Argument(help=f"A text file of fields, or drawn with --seed: {', '.join(_STEERED)}.")],
    points: Annotated[
        str, typer.Option(help="N random points and targets in [-1, 1]^m, or a text file with a point a line.")
    ] = "10",
    targets: Annotated[str | None, typer.Option(help="A text file with a target a line, for points of a file.")] = None,
    lam: Annotated[
        float | None, typer.Option(help="Of the readout y = lam (X_1 - x).", show_default="the smallest in reach")
    ] = None,
    identity: Annotated[bool, typer.Option("--identity", help="Ask for X_1 = y instead.")] = False,
    dim: Annotated[int | None, typer.Option(min=1, help="Of a family by name.", show_default="2")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Fields of a family by name.", show_default="5")] = None,
    degree: Annotated[int | None, typer.Option(min=1, help="Of a family by name.", show_default="2")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Intervals of the control.", show_default="enough")] = None,
    refine_to: Annotated[float | None, typer.Option(help="Also reach this residual of the ODE, as 1e-8.")] = None,
    least_energy: Annotated[bool, typer.Option("--least-energy", help="Go on to less energy.")] = False,
    prove: Annotated[
        bool, typer.Option("--prove", help="Prove by interval arithmetic that exact controls are near.")
    ] = False,
    animate: Annotated[Moving | None, typer.Option(help="Also draw the flow as it moves.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**64 - 1, help="Of the family, the points and the search.")] = 0,
    time_limit: Annotated[float, typer.Option(help="Seconds that the search may take, above 0.")] = 60.0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the result and the pictures.", show_default="runs/steer-SEED-TIME")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result, controls included, and nothing else.")] = (
        False
    ),
) -> None:
    """Find controls that carry points to targets, and draw how. Exits with 1 where they are not found.

    Not found is also what is right for the steps and not for the ODE, where --refine-to asked for it, and what --prove
    did not prove.

    Writes result.json with the controls, targets.png (two or three dimensions; the first two of more) and controls.png.

    Examples:
      cde-nets steer polynomial --points 10 --least-energy --animate gif
      cde-nets steer fields.txt --points here.txt --targets there.txt --identity --refine-to 1e-8 --prove
    """
    with reported():
        _refuse_unused(fields, {"--dim": dim, "--count": count, "--degree": degree})
        import torch

        from cde_nets.steer import interpolate
        from cde_nets.steer.task import read_task

        if prove:
            _require_flint()
        family = fields_of(fields, dim or 2, count or 5, degree or 2, seed)
        x, y = _task(points, targets, family.dim, seed)
        if animate is not None and family.dim < 2:
            raise ValueError("--animate draws two or three dimensions; the fields have one.")
        asked: dict[str, Any] = {
            "lam": lam, "readout": "identity" if identity else "difference", "steps": steps, "refine_to": refine_to,
            "seed": seed, "time_limit": time_limit,
        }  # fmt: skip
        # Before there is a folder that would stay empty.
        read_task(family, x, y, **asked)
        folder = out or Path("runs") / f"steer-{seed}-{time.strftime('%Y%m%d-%H%M%S')}"
        check_folder("--out", folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("controls.png", "targets.png", *(f"flow.{kind.value}" for kind in Moving)):
            # Of an earlier result: no picture is to stand beside numbers that are not its own.
            (folder / name).unlink(missing_ok=True)
        torch.set_num_threads(1)  # products are small, and threads that wait for each other slow them down
        import warnings

        with warnings.catch_warnings(record=True) as heard, errors().status("steering", spinner="dots"):
            warnings.simplefilter("always")
            found = interpolate(family, x, y, least_energy=least_energy, **asked)
        for warning in heard:
            notify(f"warning: {warning.message}")
        result = _result(found, x, y, fields, seed)
        # Before the proof, which may take long, and be broken off.
        _write(folder, result)
        if prove:
            from cde_nets.steer import prove_interpolation

            with errors().status("proving", spinner="dots"):
                proof = prove_interpolation(family, x, y, found)
            result["proof"] = {"proved": proof.proved, "radius": proof.radius if proof else None, "says": str(proof)}
            _write(folder, result)
        _draw(folder, family, found, x, y, animate)

    def show(console: Console) -> None:
        lines = [
            result["says"],
            f"{len(x)} points of R^{family.dim}, {family.count} fields, {found.control.steps} intervals of "
            f"{found.substeps} steps; energy {found.energy:.4g}, condition {found.condition:.2g}, residual with steps "
            f"half as long {found.refined_residual:.1e}",
            *([result["proof"]["says"]] if prove else []),
            f"written to {folder}",
        ]
        console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)

    emit(as_json, result, show)
    if not found or (prove and not result["proof"]["proved"]):
        raise typer.Exit(1)


def _refuse_unused(fields: str, given: dict[str, int | None]) -> None:
    """Refuse options that would do nothing."""
    unused = [name for name, value in given.items() if value is not None]
    if Path(fields).is_file() and unused:
        raise ValueError(f"{', '.join(unused)} would do nothing: the file says what the fields are.")
    explicit = [name for name in unused if name != "--dim"]
    if fields in ("five", "two") and explicit:
        raise ValueError(f"{', '.join(explicit)} would do nothing: {fields} fields of degree 2 are explicit.")
    if fields == "spherical":
        raise ValueError(
            "spherical fields leave |x| as it is, and steps leave the spheres by more than targets may be missed by "
            f'here. Expected one of {", ".join(_STEERED)}; in Python, interpolate takes readout="identity" and a '
            "tolerance."
        )
    if fields == "linear" and "--degree" in unused:
        raise ValueError("--degree would do nothing: linear fields are of degree 1.")


def _require_flint() -> None:
    from theory.balls import require_flint

    try:
        require_flint()
    except ImportError as error:
        raise ValueError(f"--prove: {error}") from None


def _task(points: str, targets: str | None, dim: int, seed: int) -> tuple[Any, Any]:
    """Points and targets, shape (points, dim) each."""
    import torch

    number = number_of("--points", points)
    if number is not None:
        if targets is not None:
            raise ValueError("--targets would do nothing: random points have random targets. Name a file by --points.")
        generator = torch.Generator().manual_seed(seed)
        x, y = 2 * torch.rand(2, number, dim, generator=generator, dtype=torch.float64) - 1
        return x, y
    if targets is None:
        if Path(points).is_file():
            raise ValueError("--points is a file, and --targets is missing: name a file with as many targets.")
        raise ValueError(f"--points is {points!r}, expected a number or a text file with a point a line.")
    read = [read_points(*named, dim) for named in (("--points", points), ("--targets", targets))]
    if len(read[0]) != len(read[1]):
        raise ValueError(f"{points} has {len(read[0])} points and {targets} {len(read[1])} targets, expected as many.")
    x, y = (torch.tensor(_floats(*named), dtype=torch.float64) for named in zip((points, targets), read, strict=True))
    return x, y


def _floats(file: str, rows: list[list[Fraction]]) -> list[list[float]]:
    try:
        return [[float(number) for number in row] for row in rows]
    except OverflowError:
        raise ValueError(f"{file}: a number in it is too large for floats, expected less than 1.8e308.") from None


def _result(found: Interpolation, x: Any, y: Any, fields: str, seed: int) -> dict[str, Any]:
    return {
        "solved": bool(found),
        "status": found.status.name,
        # The way out, as this command takes it.
        "says": str(found)
        .replace("ask for refine_to", f"ask for --refine-to {_REFINED:g}")
        .replace("raise time_limit", "raise --time-limit"),
        "fields": fields,
        "seed": seed,
        "readout": found.readout,
        "lam": found.lam,
        "residual": found.residual,
        # JSON has no infinity: None where finer steps blow up.
        "refined_residual": found.refined_residual if math.isfinite(found.refined_residual) else None,
        "energy": found.energy,
        "condition": found.condition if math.isfinite(found.condition) else None,
        "rank": found.rank,
        "full_rank": found.full_rank,
        "method": found.method.name,
        "substeps": found.substeps,
        "points": x.tolist(),
        "targets": y.tolist(),
        "controls": found.control.values.tolist(),
    }


def _write(folder: Path, result: dict[str, Any]) -> None:
    from cde_nets.atomic import write_atomically

    write_atomically(folder / "result.json", (json.dumps(result, indent=1) + "\n").encode())


def _draw(folder: Path, family: Fields, found: Interpolation, x: Any, y: Any, moving: Moving | None) -> None:
    from cde_nets.nn import ControlledODE
    from cde_nets.plot import animate, control_curves, save, targets

    save(control_curves(found.control), folder / "controls.png")
    if family.dim < 2:
        return
    flow = ControlledODE(family, found.control, found.method)
    dims = (0, 1) if family.dim > 3 else None
    lam = None if found.readout == "identity" else found.lam
    save(targets(flow, x, y, lam=lam, dims=dims), folder / "targets.png")
    if moving is not None:
        with errors().status("drawing", spinner="dots"):
            animate(flow, folder / f"flow.{moving.value}", x, y=y, lam=lam, dims=dims)
