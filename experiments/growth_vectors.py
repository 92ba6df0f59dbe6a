"""Rank against bracket depth at N points of R^m: growth vectors, and what stops them.

    python -m experiments.growth_vectors

Every rank is `theory.growth_vector`'s: a lower bound, proved modulo a prime. Beside it stand the upper bounds of
`theory.bounds`, which are known without computing. Where the two meet the rank is known, and is said as a number. Where
they do not, other seeds are tried, and what remains is published as "at least". Work grows as 3**depth. The ridge case
(seven cubic fields at ten times fifty numbers) is full at depth 4; it wants the most random directions, and takes some
ten seconds.

Subject: What flows can interpolate
Source: Cuchiero, lecture 2, universal N-point interpolation
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from matplotlib.figure import Figure
from rich.table import Table

import cde_nets as cn
import theory
from cde_nets.plot import growth_bars, growth_legend
from cde_nets.plot.style import figure, styled
from experiments.command import Json, Quick, begin, leave, less
from experiments.shown import progress
from theory.bounds import by_depth

app = typer.Typer(add_completion=False)

# Seeds that are tried where a rank is below its upper bound.
RETRIES = 3


@dataclass(frozen=True)
class Case:
    """A random family at random points.

    Attributes:
        family: "quadratic", "ridge", "linear" or "spherical".
        dim: m.
        points: N.
        count: d.
        depth: the largest depth asked for.
    """

    family: str
    dim: int
    points: int
    count: int = 5
    depth: int = 6

    @property
    def title(self) -> str:
        """As the panel says it."""
        words = {
            "quadratic": "quadratic fields",
            "ridge": "ridge fields, cubic σ",
            "linear": "linear fields",
            "spherical": "fields tangent to spheres",
        }
        return f"{self.count} {words[self.family]}\nm = {self.dim}, N = {self.points}"


CASES = (
    Case("quadratic", 4, 10),
    Case("quadratic", 10, 10),
    Case("quadratic", 2, 50, depth=9),
    Case("ridge", 10, 50, count=7, depth=4),
    Case("linear", 3, 6),
    Case("spherical", 3, 6),
)


@app.command()
@less(globals(), CASES=(Case("quadratic", 4, 10), *CASES[4:]))
def growth_vectors(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/growth_vectors"),
    seed: Annotated[int, typer.Option(min=0, help="Of fields, points, primes and directions.")] = 0,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    as_json: Json = False,
) -> None:
    """Measure ranks by depth; write growth_vectors.json and growth_vectors.png."""
    out = begin(out, publish, quick=quick)
    torch.set_num_threads(threads)
    found: list[theory.Growth] = []
    rows: list[dict[str, Any]] = []
    with progress() as bar:
        task = bar.add_task("growth vectors", total=len(CASES))
        for case in CASES:
            vector, primes = measure(case, seed)
            found.append(vector)
            rows.append(_row(case, vector, primes))
            bar.advance(task)
    pictured = _picture(found)
    content = {"seed": seed, "cases": rows}
    leave("growth_vectors", out, publish, content, pictured, _table(rows), as_json=as_json)


def measure(case: Case, seed: int) -> tuple[theory.Growth, list[int]]:
    """The growth vector of a case, by the best of several seeds where one leaves a rank open, and all their primes."""
    program = _fields(case, seed).exact()
    points = np.random.default_rng([seed, 1]).standard_normal((case.points, case.dim))
    full = case.dim * case.points
    most = full - case.points if case.family == "spherical" else full
    ranks: list[int] = []
    primes, draws = [], 0
    for attempt in range(1 + RETRIES):
        found = theory.growth_vector(program, points, case.depth, seed=seed + 1000 * attempt)
        # A vector ends where it is full: it stays full.
        vector = [*found.ranks, *[most] * (len(ranks) - len(found.ranks))]
        ranks = [max(pair) for pair in zip(vector, [*ranks, *[0] * len(vector)], strict=False)]
        if most in ranks:
            ranks = ranks[: ranks.index(most) + 1]
        primes.append(found.prime)
        draws += found.draws
        bounds = tuple(by_depth(program, case.points, depth) for depth in range(1, len(ranks) + 1))
        best = replace(found, ranks=tuple(ranks), bounds=bounds, draws=draws)
        if all(best.known):
            break
    return best, primes


def _row(case: Case, found: theory.Growth, primes: list[int]) -> dict[str, Any]:
    return {
        "title": case.title,
        "family": case.family,
        "dim": case.dim,
        "points": case.points,
        "count": case.count,
        "full_rank": case.dim * case.points,
        "ranks": list(found.ranks),
        "upper_bounds": [bound.rank for bound in found.bounds],
        "limits": [bound.limit.value for bound in found.bounds],
        "known": list(found.known),
        "primes": primes,
        "draws": found.draws,
    }


def _fields(case: Case, seed: int) -> Any:
    if case.family == "ridge":
        return cn.RidgeFields.random(case.dim, case.count, 3, seed=seed)
    if case.family == "linear":
        return cn.LinearFields.random(case.dim, case.count, seed=seed)
    drawn = cn.PolynomialFields.random(case.dim, case.count, 2, seed=seed)
    return cn.SphericalFields(drawn) if case.family == "spherical" else drawn


def _picture(found: list[theory.Growth]) -> Figure:
    pictured, across = figure(9.0, 5.6), math.ceil(len(found) / 2)
    with styled():
        panels = pictured.subplots(2, across, squeeze=False).ravel()
        for number, (ax, case, vector) in enumerate(zip(panels, CASES, found, strict=False)):
            growth_bars(vector, ax, legend=False)
            ax.set_title(case.title)
            if number % across:
                ax.set_ylabel("")
        for ax in panels[len(found) :]:
            ax.set_axis_off()
        pictured.legend(
            handles=growth_legend(found),
            loc="outside lower center",
            ncols=3,
            title="what the rank is equal to",
            frameon=False,
        )
    return pictured


def _said(rank: int, known: bool) -> str:
    return f"{rank}" if known else f"≥{rank}"


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("fields", "(m, N)", "rank by depth 1, 2, ..", "of", "modulo", "draws")
    for row in rows:
        ranks = ", ".join(_said(rank, known) for rank, known in zip(row["ranks"], row["known"], strict=True))
        name, size = row["title"].split("\n")[0], f"({row['dim']}, {row['points']})"
        primes = ", ".join(str(prime) for prime in row["primes"])
        table.add_row(name, size, ranks, str(row["full_rank"]), primes, str(row["draws"]))
    return table


if __name__ == "__main__":
    app()
