"""The rank of brackets in floats against the exact rank: too low on one pair of pictures, too high on the other.

    python -m experiments.float_rank

Fields are held by their coefficients of monomials, and V acts on a field W by the matrix of W -> [V, W] = DW V - DV W.
Brackets of depth n are the [V_i, W], W of depth n - 1; of more than 150 at one depth, 150 are chosen at random. The
float matrix holds a row for each bracket, its values at all points: made in float64 from beginning to end and given to
numpy.linalg.matrix_rank, as it is and with rows of length one. The very same brackets of the very same numbers, floats
being dyadic rationals, are computed exactly. Two cases:

- five random quadratic fields on the plane at 50 points around (1, 1), depth 8. Modulo a prime the rank is full, which
  proves it full; floats see less, and the less the closer the points are to each other. (At points of spread 1 they are
  right: it is the points' condition that decides, and nothing in the float rank says which is the case.)
- V_1 = A x and V_2 = A^2 x commute: in integers every bracket is 0, and the rank is 2. The entries of A have 22 bits,
  so that float64 holds A^2 exactly and the fields commute as they stand in floats; products of three matrices are
  rounded, and brackets of the noise grow with |A|, above any tolerance that knows only the largest singular value.
  A times 2**k is the same family in another unit of time, and rounded alike; the rank that floats see depends on it.

Subject: What flows can interpolate
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from cde_nets.plot import singular_values
from cde_nets.plot.style import COLOURS, figure, look, styled
from experiments.command import Json, Quick, begin, leave, less
from experiments.shown import progress
from theory import exact_array, monomial_exponents
from theory.primes import random_prime
from theory.rowspace import RowSpace, centred

app = typer.Typer(add_completion=False)

Array = npt.NDArray[Any]
Pairs = list[list[tuple[int, int]]]

DEPTH, WIDTH, POINTS, FIELDS = 8, 150, 50, 5
SPREADS = (1.0, 0.5, 0.25, 0.125, 0.1, 0.0625, 0.03125)
SPREAD = 0.1
# Entries of A are integers below 2**BITS times 2**-unit; units of the sweep, and the one that is pictured.
BITS, DIM, COMMUTING_DEPTH, COMMUTING_POINTS = 21, 3, 7, 6
UNITS = (24, 23, 22, 21, 20, 19, 18, 17, 16)
UNIT = 18
# Of the ranks in floats as of the singular values that they are counted from.
COLOUR = {"exact": COLOURS[7], "plain": look(0)["color"], "unit": look(1)["color"]}
NAMES = {"exact": "exact", "plain": "float64, rows as they are", "unit": "float64, rows of length one"}


@dataclass(frozen=True)
class Ranks:
    """Ranks of the same brackets by depth 1, 2, ..

    Attributes:
        exact: over the rationals.
        plain: numpy's matrix_rank of the float64 matrix.
        unit: the same, rows divided by their lengths.
        singular_values: of the last depth's matrix, largest first and divided by the largest: as it is, rows of
            length one.
        tolerance: matrix_rank's, divided by the largest singular value: max(shape) eps.
        full_rank: m N.
        prime: the modulus.
    """

    exact: list[int]
    plain: list[int]
    unit: list[int]
    singular_values: dict[str, list[float]]
    tolerance: float
    full_rank: int
    prime: int


@app.command()
@less(globals(), SPREADS=(1.0, SPREAD), UNITS=(24, UNIT), WIDTH=60)
def float_rank(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/float_rank"),
    seed: Annotated[int, typer.Option(min=0, help="Of fields, points, the choice of brackets and the prime.")] = 0,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder.")] = None,
    as_json: Json = False,
) -> None:
    """Compare float ranks with exact ones; write float_rank.json and float_rank.png."""
    out = begin(out, publish, quick=quick)
    found: dict[str, dict[float, Ranks]] = {"generic": {}, "commuting": {}}
    with progress() as bar:
        task = bar.add_task("float rank", total=len(SPREADS) + len(UNITS))
        for spread in SPREADS:
            found["generic"][spread] = generic(spread, seed)
            bar.advance(task)
        for unit in UNITS:
            found["commuting"][unit] = commuting(unit, seed)
            bar.advance(task)
    pictured = _picture(found, _norm(seed))
    rows = [
        {"case": case, "spread" if case == "generic" else "unit": at, **_numbers(ranks)}
        for case, sweep in found.items()
        for at, ranks in sweep.items()
    ]
    content = {"seed": seed, "rows": rows}
    leave("float_rank", out, publish, content, pictured, _table(found), as_json=as_json)


def generic(spread: float, seed: int) -> Ranks:
    """Quadratic fields on the plane, every coefficient N(0, 1), at points (1, 1) + spread N(0, I)."""
    rng = np.random.default_rng([seed, 0])
    fields = rng.standard_normal((FIELDS, 2, 6))
    points = 1 + spread * rng.standard_normal((POINTS, 2))
    p = random_prime(rng)
    exponents = monomial_exponents(2, DEPTH + 1)
    pairs = choose(FIELDS, DEPTH, rng)
    floats = brackets(widen(fields, exponents), fields, exponents, pairs)
    residues = exact_array(fields).residues(p)
    modular = brackets(widen(residues, exponents), residues, exponents, pairs, p)
    return compare(floats, modular, points, exponents, p)


def commuting(unit: int, seed: int) -> Ranks:
    """A x and A**2 x, the entries of A integers of 22 bits with their sign, times 2**-unit."""
    rng = np.random.default_rng([seed, 1])
    a = _matrix(seed)
    points = rng.standard_normal((COMMUTING_POINTS, DIM))
    p = random_prime(rng)
    exponents = monomial_exponents(DIM, 1)
    pairs = choose(2, COMMUTING_DEPTH, rng)
    # Of a times a power of two the fields, and with them every bracket, are powers of two times these.
    integers = np.zeros((2, DIM, DIM + 1), dtype=object)
    integers[:, :, 1:] = a, a.dot(a)
    fields = integers.astype(np.float64)
    assert (fields == integers).all(), "float64 must hold A and its square exactly"
    fields *= np.array([2.0**-unit, 4.0**-unit])[:, None, None]
    floats = brackets(widen(fields, exponents), fields, exponents, pairs)
    exact = brackets(widen(integers, exponents), integers, exponents, pairs)
    assert not any(level.any() for level in exact[1:]), "the fields must commute exactly"
    return compare(floats, [(level % p).astype(np.int64) for level in exact], points, exponents, p)


def choose(count: int, depth: int, rng: np.random.Generator) -> Pairs:
    """Which brackets are taken at depth 2, 3, ..: pairs (i, j) for the bracket of V_i with number j one depth below."""
    chosen: Pairs = []
    below = count
    for n in range(2, depth + 1):
        pairs = [(i, j) for i in range(count) for j in range(below) if n > 2 or i < j]
        if len(pairs) > WIDTH:
            pairs = [pairs[k] for k in sorted(rng.choice(len(pairs), WIDTH, replace=False))]
        chosen.append(pairs)
        below = len(pairs)
    return chosen


def widen(fields: Array, exponents: Array) -> Array:
    """Coefficients (d, m, few monomials) among those of more monomials, which begin with the same ones."""
    out = np.zeros((*fields.shape[:2], len(exponents)), dtype=fields.dtype)
    out[:, :, : fields.shape[2]] = fields
    return out


def adjoint(field: Array, exponents: Array) -> Array:
    """The matrix of W -> DW V - DV W on coefficients (m * monomials); what has too high a degree is dropped."""
    m, size = len(field), len(exponents)
    place = {tuple(row): k for k, row in enumerate(exponents.tolist())}
    matrix = np.zeros((m, size, m, size), dtype=field.dtype)
    for b, row in enumerate(exponents):
        for a in range(field.shape[1]):
            for i in range(m):
                lowered = row + exponents[a]
                lowered[i] -= 1
                k = place.get(tuple(lowered.tolist()))
                if k is None:
                    continue
                for j in range(m):
                    # d(x^b)/dx_i V_i e_j, and minus (dV_j/dx_i) x^b where W is x^b e_i.
                    matrix[j, k, j, b] += int(row[i]) * field[i, a]
                    matrix[j, k, i, b] -= int(exponents[a, i]) * field[j, a]
    return matrix.reshape(m * size, m * size)


def brackets(first: Array, fields: Array, exponents: Array, pairs: Pairs, modulus: int | None = None) -> list[Array]:
    """Coefficients of the fields and of their brackets, by depth: in float64, in integers, or modulo a prime."""
    matrices = [adjoint(field, exponents) for field in fields]
    levels = [first.reshape(len(first), -1)]
    for chosen in pairs:
        level = np.stack([matrices[i].dot(levels[-1][j]) for i, j in chosen])
        levels.append(level if modulus is None else level % modulus)
    return levels


def evaluate(level: Array, points: Array, exponents: Array, modulus: int | None = None) -> Array:
    """Values of fields, given by coefficients, at points: a row a field, of length N m."""
    m = exponents.shape[1]
    monomials = np.ones((len(exponents), len(points)), dtype=points.dtype)
    for i in range(m):
        for power in range(int(exponents[:, i].max())):
            factor = np.where(exponents[:, i, None] > power, points[:, i], 1)
            monomials = monomials * factor if modulus is None else monomials * factor % modulus
    values = (level.reshape(-1, len(exponents)) @ monomials).reshape(len(level), m, -1).transpose(0, 2, 1)
    rows: Array = values.reshape(len(level), -1)
    return rows if modulus is None else rows % modulus


def compare(floats: list[Array], modular: list[Array], points: Array, exponents: Array, p: int) -> Ranks:
    """The ranks by depth, of brackets in floats and modulo p."""
    residues = exact_array(points).residues(p)
    space = RowSpace(points.size, p)
    exact, plain, unit, matrix, scaled = [], [], [], np.zeros((0, points.size)), np.zeros((0, points.size))
    for ours, theirs in zip(floats, modular, strict=True):
        matrix = np.concatenate([matrix, evaluate(ours, points, exponents)])
        lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
        scaled = matrix / np.where(lengths > 0, lengths, 1)
        space.add(centred(evaluate(theirs, residues, exponents, p), p))
        exact.append(space.rank)
        plain.append(int(np.linalg.matrix_rank(matrix)))
        unit.append(int(np.linalg.matrix_rank(scaled)))
    values = {name: np.linalg.svd(rows, compute_uv=False) for name, rows in (("plain", matrix), ("unit", scaled))}
    shares = {name: (sigma / sigma[0]).tolist() for name, sigma in values.items()}
    tolerance = max(matrix.shape) * float(np.finfo(np.float64).eps)
    return Ranks(exact, plain, unit, shares, tolerance, points.size, p)


def _matrix(seed: int) -> Array:
    """A in integers, Python's own: no product of theirs is ever rounded."""
    rng = np.random.default_rng([seed, 2])
    return rng.integers(-(2**BITS), 2**BITS, (DIM, DIM), endpoint=True).astype(object)


def _norm(seed: int) -> float:
    return float(np.linalg.norm(_matrix(seed).astype(np.float64), 2))


def _numbers(ranks: Ranks) -> dict[str, Any]:
    kept = {name: [float(f"{value:.3g}") for value in values] for name, values in ranks.singular_values.items()}
    return {**vars(ranks), "singular_values": kept}


def _picture(found: dict[str, dict[float, Ranks]], norm: float) -> Figure:
    pictured = figure(10.0, 5.8)
    with styled():
        panels = pictured.subplots(2, 3)
        for row, (case, at) in zip(panels, (("generic", SPREAD), ("commuting", UNIT)), strict=True):
            ranks = found[case][at]
            values = {NAMES[name]: sigma for name, sigma in ranks.singular_values.items()}
            singular_values(values, row[0], tolerance=ranks.tolerance, exact_rank=ranks.exact[-1], legend=False)
            depths = range(1, len(ranks.exact) + 1)
            _draw_ranks(row[1], depths, [ranks])
            row[1].set(xlabel="bracket depth", ylabel="rank", xticks=depths)
        (_, sweep), (_, units) = found.items()
        _draw_ranks(panels[0, 2], list(sweep), list(sweep.values()))
        panels[0, 2].set(xscale="log", xlabel="spread of the points", ylabel="rank at depth 8")
        panels[0, 2].axvline(SPREAD, color="#999999", linewidth=0.8, linestyle=":")
        norms = [norm * 2.0**-unit for unit in units]
        _draw_ranks(panels[1, 2], norms, list(units.values()))
        panels[1, 2].set(xscale="log", xlabel="norm of A", ylabel=f"rank at depth {COMMUTING_DEPTH}")
        panels[1, 2].axvline(norm * 2.0**-UNIT, color="#999999", linewidth=0.8, linestyle=":")
        for ax in panels[0, 1:]:
            ax.set_ylim(0, 108)
        for ax in panels[1, 1:]:
            ax.set(ylim=(0, 10), yticks=range(0, 11, 2))
        panels[0, 0].set_title(f"{FIELDS} quadratic fields, m = 2, N = {POINTS}")
        panels[1, 0].set_title("commuting fields Ax and A²x, m = 3")
        panels[0, 1].set_title(f"points of spread {SPREAD:g} around (1, 1)")
        panels[1, 1].set_title(f"A of norm {norm * 2.0**-UNIT:.1f}")
        panels[0, 2].set_title("the same points, drawn together")
        panels[1, 2].set_title("the same flow in other units of time")
        handles, labels = panels[0, 1].get_legend_handles_labels()
        pictured.legend(handles, labels, loc="outside lower center", ncols=3)
    return pictured


def _draw_ranks(ax: Axes, x: Sequence[float], ranks: Sequence[Ranks]) -> None:
    """Against depth where the ranks are of one matrix, else the last ranks of many."""
    for name, label in NAMES.items():
        found = [getattr(r, name) for r in ranks]
        y = found[0] if len(found) == 1 else [one[-1] for one in found]
        ax.plot(x, y, "o-", markersize=4, color=COLOUR[name], label=label, linewidth=2.2 if name == "exact" else 1.4)


def _table(found: dict[str, dict[float, Ranks]]) -> Table:
    table = Table("fields", "at", "depth", "exact", "float64", "rows of length one", "m N", "modulo")
    for case, sweep in found.items():
        for at, r in sweep.items():
            where = f"spread {at:g}" if case == "generic" else f"A / 2**{at}"
            ends = (str(ranks[-1]) for ranks in (r.exact, r.plain, r.unit))
            table.add_row(case, where, str(len(r.exact)), *ends, str(r.full_rank), str(r.prime))
        table.add_section()
    return table


if __name__ == "__main__":
    app()
