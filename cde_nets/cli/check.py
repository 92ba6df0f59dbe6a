"""`cde-nets check`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cde_nets.cli.console import emit, errors, reported
from cde_nets.cli.inputs import FAMILIES, network_named, number_of, program_of, read_points, text_of
from cde_nets.cli.places import check_file
from cde_nets.cli.train import DataDir, load

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor

    from cde_nets.nn import ControlledODE
    from theory import Program


def check(
    fields: Annotated[
        str,
        typer.Argument(
            help="A text file of fields, a run's folder, network.safetensors or a name such as mnist-750, a "
            f"certificate (.json) to be proved again, or drawn with --seed: {', '.join(FAMILIES)}."
        ),
    ],
    points: Annotated[
        str | None,
        typer.Option(
            help="N random points, or a text file with a point a line; of a network, N test images carried to the "
            "stage. Not with --universal.",
            show_default="10",
        ),
    ] = None,
    stage: Annotated[int | None, typer.Option(min=1, help="Of a network.", show_default="the last")] = None,
    data_dir: DataDir = None,
    universal: Annotated[bool, typer.Option("--universal", help="For every N, at all distinct points.")] = False,
    max_degree: Annotated[
        int | None, typer.Option(help="Of --universal: the largest degree to be filled.", show_default="what fits")
    ] = None,
    dim: Annotated[int | None, typer.Option(min=1, help="Of a family by name.", show_default="3")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Fields of a family by name.", show_default="5")] = None,
    degree: Annotated[int | None, typer.Option(min=1, help="Of a family by name.", show_default="2")] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Of the family, the points, the primes and the curves.",
            show_default="0; for a certificate, drawn anew",
        ),
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option(min=0, help="Seconds, after which what was found is reported.")
    ] = None,
    words: Annotated[
        bool, typer.Option("--words", help="Also list explicit brackets that are independent at the points.")
    ] = False,
    latex: Annotated[
        int | None,
        typer.Option(
            min=1, max=6, help="Print brackets up to this depth in LaTeX, and prove nothing; not of a network."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the certificate here, for theory/checker.py.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the certificate and nothing else.")] = False,
) -> None:
    """Prove what flows along these fields can interpolate. Exits with 1 where it is not proved.

    Examples:
      cde-nets check polynomial --dim 3 --count 5 --points 20
      cde-nets check fields.txt --universal --out certificate.json
      cde-nets check certificate.json
      cde-nets check two --dim 3 --points 4 --words
      cde-nets check runs/mnist-0-20260101-120000/network.safetensors --points 20
    """
    with reported():
        import theory

        given = {
            "--points": points is not None, "--universal": universal, "--max-degree": max_degree is not None,
            "--dim": dim is not None, "--count": count is not None, "--degree": degree is not None,
            "--stage": stage is not None, "--words": words, "--latex": latex is not None, "--out": out is not None,
            "--json": as_json, "--time-limit": time_limit is not None,
        }  # fmt: skip
        fields = network_named(fields)
        _refuse_unused(fields, {name for name, used in given.items() if used})
        if out is not None:
            check_file("--out", out)
        x: Any
        if fields.endswith(".json"):
            found = theory.Certificate.from_json(text_of(Path(fields))).verify(seed)
        else:
            seed = seed or 0
            if fields.endswith(".safetensors"):
                from cde_nets.certify import check_flow, exact_flow

                flow, x = _stage(Path(fields), stage, points or "10", data_dir)
                program, prove = exact_flow(flow), partial(check_flow, flow)
            else:
                program = program_of(fields, dim or 3, count or 5, degree or 2, seed)
                x = None if universal or latex is not None else _points(points or "10", program.dim, seed)
                prove = partial(theory.check_points, program)
            if latex is not None:
                typer.echo(_latex(program, latex))
                return
            with _bar() as progress:
                if universal:
                    found = theory.universal(
                        program, max_degree=max_degree, seed=seed, time_limit=time_limit, progress=progress
                    )
                else:
                    found = prove(x, words=words, seed=seed, time_limit=time_limit, progress=progress)
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


def _refuse_unused(fields: str, given: set[str]) -> None:
    """Refuse options that would do nothing."""
    whole = {"--points", "--max-degree", "--dim", "--count", "--degree", "--stage", "--words", "--universal"}
    file = Path(fields).is_file()
    network = fields.endswith(".safetensors")
    unused: dict[str, set[str]] = {}
    if fields.endswith(".json"):
        unused["a certificate says itself what it is about"] = whole | {"--latex", "--time-limit"}
    elif file or network:
        unused["the file says what the fields are"] = {"--dim", "--count", "--degree"}
        if network:
            unused["brackets of a network's fields have thousands of components"] = {"--latex"}
    elif fields in ("five", "two"):
        unused[f"{fields} fields of degree 2 are explicit"] = {"--count", "--degree"}
    elif fields == "linear":
        unused["linear fields are of degree 1"] = {"--degree"}
    if not network:
        unused["it is of a network"] = {"--stage"}
    if "--universal" in given:
        unused["--universal is about all points"] = {"--points", "--words"}
    else:
        unused["it goes with --universal"] = {"--max-degree"}
    if "--latex" in given:
        unused["--latex prints brackets and proves nothing"] = {
            "--points", "--universal", "--max-degree", "--words", "--out", "--json", "--time-limit"
        }  # fmt: skip
    for why, names in unused.items():
        if names & given:
            raise ValueError(f"{', '.join(sorted(names & given))} would do nothing: {why}.")


def _stage(file: Path, stage: int | None, points: str, data_dir: Path | None) -> tuple[ControlledODE, Tensor]:
    """A network's stage, and test images carried to it."""
    import torch

    from cde_nets.train import load_network

    network, _ = load_network(file)
    stages = network.flow_stages()
    number = len(stages) if stage is None else stage
    if number > len(stages):
        raise ValueError(f"--stage is {number}; the network has {len(stages)} stages.")
    count = number_of("--points", points)
    if count is None:
        raise ValueError(f"--points is {points!r}, expected a number of test images.")
    images = torch.from_numpy(load(data_dir, offline=False).test.images[:count])
    with torch.no_grad():
        state = network.start(images.float() / 255)
        for before in stages[: number - 1]:
            state = before(state)
    return stages[number - 1].flow, state


def _points(points: str, dim: int, seed: int) -> Any:
    import numpy as np

    number = number_of("--points", points)
    if number is not None:
        return np.random.default_rng([seed, 1]).standard_normal((number, dim))
    return read_points("--points", points, dim)


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
    console = errors()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("rank", total=None)
        yield lambda rank, full: bar.update(task, completed=rank, total=full)
