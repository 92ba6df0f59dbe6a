"""Readers of mathematics: certificates, the checker, fields and points in text."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

import theory
from benchmarks.faults.mutate import damaged, damaged_text
from benchmarks.faults.readers.base import Maker, Reader, WrongError, same
from cde_nets.cli.inputs import read_points, text_of
from theory import checker
from theory.data import from_data
from theory.text import parse_fields

FIELDS = (
    b"# the five\nsymbols: x y\nV1 = y, -x\nV2 = x^2/2 + 3*y, 0.5*(x - y)**3\nV3 = 1, 0\n",
    b"symbols: a, b, c\nA = (a + b + c)^4, 1e-3*a*b, -c/7\nB = a - -b, +c, 2*(a - 3)*(b + 1/3)\n",
    b"\xef\xbb\xbfsymbols x\r\nf = 1\r\ng = x**3 # cubic\r\n",
)
_WORK = 10**9


def certificates() -> list[bytes]:
    """Good ones of every claim and every kind of fields, and one that proves nothing."""
    rng = np.random.default_rng(0)
    points: Any = [[Fraction(1, 3), Fraction(-2)], [Fraction(5, 7), Fraction(1, 2)]]
    program = theory.MonomialProgram(theory.monomial_exponents(2, 2), rng.integers(-5, 6, (3, 2, 6)))
    ridge = theory.RidgeProgram(rng.integers(-3, 4, (3, 2, 2)), rng.integers(-3, 4, (3, 2)), [[0, 1, 1]] * 3)
    image = theory.ConvolutionProgram(
        (1, 2, 2), rng.integers(-3, 4, (3, 1, 1, 3, 3)), None, None, [[1], [2], [3]], [0, 1], [[0, 1, 1]] * 3
    )
    four: Any = [[1, 2, 3, 4], [Fraction(1, 2), -1, 0, 1]]
    return [
        made.to_json().encode()
        for made in (
            theory.check_points(program, points, seed=0, words=True),
            theory.check_points(theory.SphericalProgram(program), points[:1], seed=0),
            theory.check_points(theory.UnionProgram([program, ridge]), points, in_turn=True, words=True, seed=0),
            theory.check_points(theory.RestrictedProgram(ridge, 9), points, seed=0),
            theory.check_points(image, four, seed=0, time_limit=5),
            theory.universal(theory.five_fields(2), seed=0),
            theory.universal(theory.two_fields(3), seed=0),
            theory.check_points([[1, 0]], points, symbols=_symbols(), seed=0),
            theory.check_accessibility([_symbols()[1], 0], [[0, 1]], points[:1], symbols=_symbols(), seed=0).strong,
        )
    ]


def _symbols() -> list[object]:
    import sympy

    return list(sympy.symbols("x y"))


def _certificate(folder: Path) -> Reader:
    good = certificates()

    def read(path: Path, raw: bytes) -> None:
        found = theory.Certificate.from_json(text_of(path))
        said = json.loads(found.to_json())
        same(json.dumps(said), json.dumps(json.loads(raw.decode("utf-8-sig"))), "certificate")
        if not str(found) or found.brackets() is None:
            raise WrongError("a certificate without words")

    def make(rng: Random) -> bytes:
        return damaged_text(rng, rng.choice(good), good)

    return Reader("certificates: `Certificate.from_json`", make, read, named=False)


def _checker(folder: Path) -> Reader:
    good = certificates()[:6]

    def read(path: Path, raw: bytes) -> None:
        certificate = checker.load(path)
        checker.check(certificate, work=_WORK)
        program, points = from_data(certificate["data"])
        # The package's own proof, which shares no line with the checker's.
        if certificate["claim"] == "universal":
            again = theory.universal(program, seed=0, time_limit=3)
        else:
            assert points is not None, "a certificate at points holds them"
            again = theory.check_points(program, points, seed=0, time_limit=3)
        if not again.proved:
            raise WrongError(f"the checker accepts what the package does not prove: {again}")

    def make(rng: Random) -> bytes:
        return damaged_text(rng, rng.choice(good), good)

    return Reader("certificates, by `theory/checker.py`", make, read, named=False)


def _fields(folder: Path) -> Reader:
    def read(path: Path, raw: bytes) -> None:
        import sympy

        program = parse_fields(text_of(path))
        if program.coefficients.shape[-1] <= 60:
            symbols = list(sympy.symbols(f"x_1:{program.dim + 1}"))
            lines = [f"V{i} = {', '.join(map(str, V))}" for i, V in enumerate(program.to_sympy(symbols))]
            again = parse_fields("\n".join([f"symbols: {' '.join(map(str, symbols))}", *lines]))
            same(again.digest(), program.digest(), "fields read again from what SymPy prints")

    return Reader("fields in text: `parse_fields`", lambda rng: damaged(rng, rng.choice(FIELDS), FIELDS), read,
                  named=False)  # fmt: skip


def _points(folder: Path) -> Reader:
    good = (b"1 2/3 -0.5\n# a comment\n1e-3, 4, 5\n", b"0 0 0\n")

    def read(path: Path, raw: bytes) -> None:
        rows = read_points("--points", str(path), 3)
        same({len(row) for row in rows}, {3}, "numbers a line")
        lines = [line.split("#")[0] for line in raw.decode("utf-8-sig").splitlines()]
        same(len(rows), sum(bool(line.replace(",", " ").split()) for line in lines), "lines")

    return Reader("points in text: `read_points`", lambda rng: damaged(rng, rng.choice(good), good), read)


READERS: dict[str, Maker] = {
    "certificate": _certificate,
    "checker": _checker,
    "fields": _fields,
    "points": _points,
}
