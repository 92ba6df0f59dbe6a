"""How few random quadratic fields certainly generate all polynomial fields, by dimension.

    python -m experiments.few_fields

Each cell draws d fields on R^m with standard normal coefficients several times, and asks `theory.universal` for a proof
that brackets fill the polynomial fields of some degree. One proof is enough for almost all fields: that the rank is
full is an open condition on the coefficients whose complement is an algebraic set. Where nothing is proved the degree
that would have to be filled is beyond what fits in the time, and nothing is said against these fields. One field never
generates anything but itself. The last row are the two explicit fields of `theory.two_fields`, which do at every m.

Subject: What flows can interpolate
Source: Cuchiero, lecture 2, first result, remarks
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rich.table import Table

import theory
from cde_nets.atomic import write_atomically
from cde_nets.plot.style import COLOURS, figure, styled
from cde_nets.texts import read_object
from experiments.cluster import workers
from experiments.command import Json, Quick, begin, leave, less
from experiments.shown import progress

app = typer.Typer(add_completion=False)

DIMS, COUNTS = (2, 3, 4, 5), (1, 2, 3, 4, 5, 6)


@app.command()
@less(globals(), DIMS=(2, 3), COUNTS=(1, 2, 3, 4))
def few_fields(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/few_fields"),
    seed: Annotated[int, typer.Option(min=0, help="Of all draws.")] = 0,
    trials: Annotated[int, typer.Option(min=1, help="Draws for each number of fields; 2 with --quick.")] = 10,
    seconds: Annotated[float, typer.Option(min=0.1, help="For each draw; at most 3 with --quick.")] = 60.0,
    jobs: Annotated[int, typer.Option(help="Processes, -1 for one on each core.")] = 1,
    quick: Quick = False,
    dask: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, whose workers take the draws.")] = None,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder.")] = None,
    as_json: Json = False,
) -> None:
    """Certify random families of few fields; write few_fields.json and few_fields.png."""
    out = begin(out, publish, quick=quick)
    if quick:
        trials, seconds = min(trials, 2), min(seconds, 3.0)
    settings = {"seed": seed, "trials": trials, "seconds": seconds}
    with workers(dask):
        rows = _measured(out, settings, jobs)
    content = settings | {"rows": rows}
    leave("few_fields", out, publish, content, _picture(rows), _table(rows), as_json=as_json)


def _measured(out: Path, settings: dict[str, Any], jobs: int) -> list[dict[str, Any]]:
    """All rows, those of an interrupted run with the same settings among them."""
    seed, trials, seconds = settings["seed"], settings["trials"], settings["seconds"]
    rows = _earlier(out / "few_fields.json", settings)
    done = {(row["dim"], row["count"], row["family"]) for row in rows}
    cells = [(m, d, "random") for m in DIMS for d in COUNTS] + [(m, 2, "explicit") for m in DIMS]
    with progress() as bar:
        for dim, count, family in bar.track([cell for cell in cells if cell not in done], description="few fields"):
            random = family == "random"
            rows.append(measure(dim, count, trials, seed, seconds, jobs) if random else explicit(dim, seed))
            # Kept at once: a run that is stopped goes on from here.
            text = json.dumps(settings | {"rows": rows}, indent=1) + "\n"
            write_atomically(out / "few_fields.json", text.encode())
    return rows


def _earlier(file: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of an interrupted run with the same settings."""
    content = read_object(file) if file.is_file() else {}
    rows: list[dict[str, Any]] = content.pop("rows", [])
    return rows if content == settings else []


def draw(dim: int, count: int, seed: int) -> theory.MonomialProgram:
    """Quadratic fields with standard normal coefficients."""
    exponents = theory.monomial_exponents(dim, 2)
    rng = np.random.default_rng([dim, count, seed])
    return theory.MonomialProgram(exponents, rng.standard_normal((count, dim, len(exponents))))


def measure(dim: int, count: int, trials: int, seed: int, seconds: float, jobs: int) -> dict[str, Any]:
    """How many of the draws are certified, and what the first certificate says."""
    first = theory.universal(draw(dim, count, seed), seed=seed, time_limit=seconds, primes=1)
    found = _row(dim, count, "random", first)
    if not first.proved:
        # Others would take as long, and a proof of one is what counts.
        return found | {"certified": 0, "trials": 1, "low": 0.0, "high": 1.0}
    generic = theory.generic(partial(draw, dim, count), trials, seed=seed, jobs=jobs)
    return found | {"certified": generic.certified, "trials": generic.trials, "low": generic.low, "high": generic.high}


def explicit(dim: int, seed: int) -> dict[str, Any]:
    """The two explicit fields."""
    return _row(dim, 2, "explicit", theory.universal(theory.two_fields(dim), seed=seed))


def _row(dim: int, count: int, family: str, certificate: theory.Certificate) -> dict[str, Any]:
    return {
        "dim": dim,
        "count": count,
        "family": family,
        "proved": certificate.proved,
        "rank": certificate.rank,
        "full_rank": certificate.full_rank,
        "degree": certificate.degree,
        "depth": certificate.depth,
        "sentence": str(certificate),
    }


def _picture(rows: list[dict[str, Any]]) -> Figure:
    pictured = figure(6.8, 4.4)
    with styled():
        ax = pictured.subplots()
        names = [f"{d} random" for d in COUNTS] + ["2 explicit"]
        for row in rows:
            across = DIMS.index(row["dim"])
            down = COUNTS.index(row["count"]) if row["family"] == "random" else len(COUNTS)
            colour = COLOURS[2] if row["proved"] else "#dddddd"
            ax.add_patch(Rectangle((across - 0.48, down - 0.46), 0.96, 0.92, facecolor=colour, edgecolor="none"))
            said, ink = "\n".join(_said(row)), "white" if row["proved"] else "#555555"
            ax.text(across, down, said, ha="center", va="center", fontsize=8, color=ink)
        ax.set_xlim(-0.5, len(DIMS) - 0.5)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_xticks(range(len(DIMS)), [f"m = {m}" for m in DIMS])
        ax.set_yticks(range(len(names)), names)
        ax.tick_params(length=0)
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        ax.set_title("quadratic fields on $R^m$ proved to generate all polynomial fields")
    return pictured


def _said(row: dict[str, Any]) -> list[str]:
    if row["family"] == "explicit":
        return ["combined exactly", f"depth {row['depth']}"]
    if row["count"] == 1:
        return ["never"]
    if row["proved"]:
        return [f"degree {row['degree']} filled", f"depth {row['depth']}"]
    return ["not proved", f"{row['rank']:,} of {row['full_rank']:,}"]


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("m", "fields", "", "draws certified", "95% interval")
    for row in rows:
        random = row["family"] == "random"
        draws = f"{row['certified']} of {row['trials']}" if random else "-"
        interval = f"{row['low']:.2f} to {row['high']:.2f}" if random and row["certified"] else "-"
        table.add_row(str(row["dim"]), f"{row['count']} {row['family']}", ", ".join(_said(row)), draws, interval)
    return table


if __name__ == "__main__":
    app()
