"""The N-point condition: ours beside explicit brackets in SymPy and in FLINT, on the same fields and points.

    python -m benchmarks.certificates

Five random quadratic fields with small integer coefficients at random integer points. The peers expand all brackets of
Lyndon words up to the depth at which the rank is full, evaluate them, and take one rank: SymPy's expressions with
DomainMatrix over the rationals, and FLINT's sparse polynomials and matrices modulo a prime (python-flint). Prints
seconds and ratios (peer / ours), and what ours takes where the peers take too long; then universality.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import sympy
import typer
from rich.console import Console
from rich.table import Table
from sympy.polys.matrices import DomainMatrix

import theory
from benchmarks.page import put
from experiments.pages import check
from theory.brackets import lie_algebra
from theory.primes import random_prime
from theory.words import lyndon_words, standard_factors

app = typer.Typer(add_completion=False)

COUNT = 5
BESIDE = ((2, 10), (4, 10))
ALONE = ((10, 10), (10, 100), (20, 100), (20, 250))
UNIVERSAL = ((2, 2), (3, 5), (3, 2), (4, 5), (5, 10))


@app.command()
def certificates(
    repeats: Annotated[int, typer.Option(min=1, help="Timings of ours; the median counts. Peers run once.")] = 5,
    largest: Annotated[int, typer.Option(help="The largest m N of ours alone; 5000 takes a minute.")] = 2000,
    publish: Annotated[Path | None, typer.Option(help="Fill speed.md of this docs folder, too.")] = None,
) -> None:
    """Time certificates beside explicit brackets, with one BLAS thread if OPENBLAS_NUM_THREADS=1."""
    if publish:
        check(publish / "speed.md", "certificates")
        check(publish / "speed.md", "universality")
    console = Console()
    table = Table("(m, N), m N", "ours, s", "FLINT, s", "ratio", "SymPy, s", "ratio", title="five quadratic fields")
    peers: list[tuple[str, Callable[..., int]]] = [("SymPy", _sympy_rank)]
    if importlib.util.find_spec("flint") is None:
        console.print("FLINT is left out: pip install python-flint", highlight=False)
    else:
        peers.insert(0, ("FLINT", _flint_rank))
    for dim, number in BESIDE:
        program, points = _draw(dim, number)
        ours = _median(repeats, partial(theory.check_points, program, points, seed=0))
        depth = len(theory.growth_vector(program, points, 8, seed=0).ranks)
        cells = {"FLINT": ["-", "-"]}
        for name, peer in peers:
            rank, seconds = _once(peer, program, points, depth)
            assert rank == dim * number, "the peers must find what ours proves"
            cells[name] = [f"{seconds:.3f}", f"{seconds / ours:.0f}"]
        table.add_row(f"({dim}, {number}), {dim * number}", f"{ours:.4f}", *cells["FLINT"], *cells["SymPy"])
        console.print(f"({dim}, {number}): brackets to depth {depth}", highlight=False)
    for dim, number in ALONE:
        if dim * number <= largest:
            program, points = _draw(dim, number)
            once = 1 if dim * number > 1000 else repeats
            ours = _median(once, partial(theory.check_points, program, points, seed=0))
            table.add_row(f"({dim}, {number}), {dim * number}", f"{ours:.3f}", "-", "-", "-", "-")
    console.print(table)
    if publish:
        put(table, publish, "certificates", f"Medians of {repeats}; the peers ran once.")
    table = Table("(m, d)", "ours, s", "fills degree", "dimension", title="universality, quadratic fields")
    for dim, count in UNIVERSAL:
        program, _ = _draw(dim, 1, count)
        found = theory.universal(program, seed=0)
        assert found.proved
        seconds = _median(repeats, partial(theory.universal, program, seed=0))
        table.add_row(f"({dim}, {count})", f"{seconds:.3f}", str(found.degree), str(found.full_rank))
    console.print(table)
    if publish:
        put(table, publish, "universality", f"Medians of {repeats}.")


def _draw(dim: int, number: int, count: int = COUNT) -> tuple[theory.MonomialProgram, Any]:
    rng = np.random.default_rng(dim * 1000 + number)
    exponents = theory.monomial_exponents(dim, 2)
    coefficients = rng.integers(-9, 10, (count, dim, len(exponents)))
    return theory.MonomialProgram(exponents, coefficients), rng.integers(-999, 1000, (number, dim))


def _median(repeats: int, run: Callable[[], Any]) -> float:
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        certificate = run()
        seconds.append(time.perf_counter() - start)
        assert certificate.proved
    return statistics.median(seconds)


def _once(rank: Callable[..., int], *arguments: Any) -> tuple[int, float]:
    start = time.perf_counter()
    found = rank(*arguments)
    return found, time.perf_counter() - start


def _sympy_rank(program: theory.MonomialProgram, points: Any, depth: int) -> int:
    symbols = sympy.symbols(f"x_1:{program.dim + 1}")
    brackets = lie_algebra(program.to_sympy(symbols), symbols, depth)
    evaluate = sympy.lambdify(symbols, [list(b.components) for b in brackets], "math")
    values = [evaluate(*(int(v) for v in x)) for x in points]
    rows = [[value for at in values for value in at[k]] for k in range(len(brackets))]
    matrix = DomainMatrix([[sympy.QQ(value) for value in row] for row in rows], (len(rows), len(rows[0])), sympy.QQ)
    return int(matrix.rank())


def _flint_rank(program: theory.MonomialProgram, points: Any, depth: int) -> int:
    import flint

    p, m = random_prime(np.random.default_rng(0)), program.dim
    context = flint.nmod_mpoly_ctx.get([f"x{k}" for k in range(m)], modulus=p)
    coefficients = program.coefficients.residues(p)
    letters = [
        [
            context.from_dict({tuple(a): int(c) for a, c in zip(program.exponents.tolist(), row, strict=True) if c})
            for row in field
        ]
        for field in coefficients
    ]
    found: dict[tuple[int, ...], list[Any]] = {(i,): field for i, field in enumerate(letters)}
    for length in range(2, depth + 1):
        for word in lyndon_words(len(letters), length):
            V, W = (found[part] for part in standard_factors(word))
            found[word] = [
                sum((w.derivative(b) * V[b] - v.derivative(b) * W[b] for b in range(m)), context.constant(0))
                for v, w in zip(V, W, strict=True)
            ]
    rows = [[int(part(*(int(v) for v in x))) for x in points for part in field] for field in found.values()]
    return int(flint.nmod_mat(len(rows), len(rows[0]), [value for row in rows for value in row], p).rank())


if __name__ == "__main__":
    app()
