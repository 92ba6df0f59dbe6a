"""`cde-nets check`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cde_nets.cli.console import emit, errors, reported
from cde_nets.cli.train import DataDir, load

if TYPE_CHECKING:
    from rich.console import Console

    from theory import Program

FAMILIES = ("polynomial", "ridge", "linear", "spherical", "five", "two")


def check(
    fields: Annotated[
        str,
        typer.Argument(
            help=f"A text file of fields, network.safetensors of a run, or drawn with --seed: {', '.join(FAMILIES)}."
        ),
    ],
    points: Annotated[
        str,
        typer.Option(
            help="N random points, or a text file with a point a line; of a network, N test images carried to the "
            "stage. Not with --universal."
        ),
    ] = "10",
    stage: Annotated[int | None, typer.Option(min=1, help="Of a network. Default: the last.")] = None,
    data_dir: DataDir = None,
    universal: Annotated[bool, typer.Option("--universal", help="For every N, at all distinct points.")] = False,
    dim: Annotated[int, typer.Option(min=1, help="Of a family by name.")] = 3,
    count: Annotated[int, typer.Option(min=1, help="Of the fields of a family by name.")] = 5,
    degree: Annotated[int, typer.Option(min=1, help="Of the fields of a family by name.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Of the family, the points, the primes and the curves.")] = 0,
    time_limit: Annotated[float | None, typer.Option(help="Seconds, after which what was found is reported.")] = None,
    words: Annotated[
        bool, typer.Option("--words", help="Also list explicit brackets that are independent at the points.")
    ] = False,
    latex: Annotated[
        int | None, typer.Option(min=1, max=6, help="Print brackets up to this depth in LaTeX, and prove nothing.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the certificate here, for theory/checker.py.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the certificate and nothing else.")] = False,
) -> None:
    """Prove what flows along these fields can interpolate. Exits with 1 where it is not proved.

    Example:
      cde-nets check polynomial --dim 3 --count 5 --points 20
      cde-nets check fields.txt --universal
      cde-nets check two --dim 3 --points 4 --words
      cde-nets check runs/mnist-0-20260101-120000/network.safetensors --points 20
    """
    with reported():
        import theory

        if words and (universal or latex is not None):
            raise ValueError("--words lists brackets at points: it goes with neither --universal nor --latex.")
        x: Any
        if fields.endswith(".safetensors"):
            program, x = _stage(Path(fields), stage, points, data_dir)
        elif stage is not None:
            raise ValueError(f"--stage {stage} is of a network, and {fields!r} is none.")
        else:
            program = _program(fields, dim, count, degree, seed)
            x = None if universal or latex is not None else _points(points, program.dim, seed)
        if latex is not None:
            typer.echo(_latex(program, latex))
            return
        with _bar() as progress:
            if universal:
                found = theory.universal(program, seed=seed, time_limit=time_limit, progress=progress)
            else:
                found = theory.check_points(
                    program, x, words=words, seed=seed, time_limit=time_limit, progress=progress
                )
        if out is not None:
            from cde_nets.atomic import write_atomically

            write_atomically(out, found.to_json().encode())

    def show(console: Console) -> None:
        console.print(found.subject, markup=False, highlight=False, soft_wrap=True)
        console.print(str(found), markup=False, highlight=False, soft_wrap=True)
        if words and found.proved:
            console.print(found.note or "\n".join(found.brackets()), markup=False, highlight=False, soft_wrap=True)

    emit(as_json, json.loads(found.to_json()), show)
    if not found.proved:
        raise typer.Exit(1)


def _stage(file: Path, stage: int | None, points: str, data_dir: Path | None) -> tuple[Program, Any]:
    """The fields of a network's stage, and test images carried to it."""
    import torch

    from cde_nets.certify import exact_flow
    from cde_nets.train import load_network

    network, _ = load_network(file)
    stages = network.flow_stages()
    number = len(stages) if stage is None else stage
    if number > len(stages):
        raise ValueError(f"--stage is {number}; the network has {len(stages)} stages.")
    if not points.isdigit():
        raise ValueError(f"--points is {points!r}, expected a number of test images.")
    images = torch.from_numpy(load(data_dir, offline=False).test.images[: int(points)])
    with torch.no_grad():
        state = network.lift(images.float() / 255)
        for before in stages[: number - 1]:
            state = before(state)
    return exact_flow(stages[number - 1].flow), state.double().numpy()


def _program(fields: str, dim: int, count: int, degree: int, seed: int) -> Program:
    from cde_nets.options import suggest
    from theory import five_fields, two_fields
    from theory.text import parse_fields

    if Path(fields).is_file():
        return parse_fields(Path(fields).read_text(encoding="utf-8"))
    if fields == "five":
        return five_fields(dim)
    if fields == "two":
        return two_fields(dim)
    if fields not in FAMILIES:
        raise ValueError(f"{fields!r} is neither a file nor a family{suggest(fields, FAMILIES)}")
    from cde_nets.fields import LinearFields, PolynomialFields, RidgeFields, SphericalFields

    if fields == "linear":
        return LinearFields.random(dim, count, seed=seed).exact()
    if fields == "ridge":
        return RidgeFields.random(dim, count, degree, seed=seed).exact()
    drawn = PolynomialFields.random(dim, count, degree, seed=seed)
    return (SphericalFields(drawn) if fields == "spherical" else drawn).exact()


def _points(points: str, dim: int, seed: int) -> Any:
    import numpy as np

    if points.isdigit():
        return np.random.default_rng([seed, 1]).standard_normal((int(points), dim))
    path = Path(points)
    if not path.is_file():
        raise ValueError(f"--points is {points!r}, expected a number or a text file with a point a line.")
    from fractions import Fraction

    rows = [line.split("#")[0].replace(",", " ").split() for line in path.read_text(encoding="utf-8").splitlines()]
    try:
        read = [[Fraction(number) for number in row] for row in rows if row]
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{points}: expected a point a line, its numbers as 0.5, -3 or 1/3.") from None
    if any(len(row) != dim for row in read):
        raise ValueError(f"{points}: expected {dim} numbers a line; got {sorted({len(row) for row in read})}.")
    return read


def _latex(program: Program, depth: int) -> str:
    import sympy

    from theory.brackets import lie_algebra

    symbols = list(sympy.symbols(f"x_1:{program.dim + 1}"))
    return "\n".join(
        f"{bracket.latex()} &= \\left({', '.join(sympy.latex(part) for part in bracket.components)}\\right) \\\\"
        for bracket in lie_algebra(program.to_sympy(symbols), symbols, depth)
    )


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("rank"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("rank", total=None)
        yield lambda rank, full: bar.update(task, completed=rank, total=full)
