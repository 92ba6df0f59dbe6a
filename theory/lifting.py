"""Containment over the rationals: combinations of brackets found modulo p and checked exactly."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from theory.five import five_fields
from theory.programs.monomial import MonomialProgram
from theory.rowspace import Residues, RowSpace, centred
from theory.words import Word

# {(component, exponents): coefficient}
Field = dict[tuple[int, tuple[int, ...]], Any]


@dataclass(frozen=True)
class Lift:
    """Fields that generate all polynomial fields, written by brackets: an identity over the rationals.

    Attributes:
        words: right-normed: (a, b, .., c) is [V_a, [V_b, .. V_c]], fields counted from 0.
        combinations: a row of fractions for each of `generators(m)`, one for each word.
    """

    words: tuple[Word, ...]
    combinations: tuple[tuple[str, ...], ...]


def generators(m: int) -> MonomialProgram:
    """Fields that generate all polynomial fields: the explicit five; d/dx and x**3 d/dx on the line."""
    if m > 1:
        return five_fields(m)
    return MonomialProgram(np.array([[0], [3]]), np.array([[[1, 0]], [[0, 1]]]))


def lift(program: MonomialProgram, words: Sequence[Word], p: int, deadline: float = math.inf) -> Lift | None:
    """Write the generators as combinations of brackets of some words, if they are; None where that is not found.

    Modulo p one sees which words are needed, then the linear system is solved over the rationals, and what comes out
    is multiplied out and compared, exactly.

    Args:
        program: the fields.
        words: right-normed.
        p: a prime below 2**20, the modulus of the search.
        deadline: of time.monotonic(), after which no bracket is begun.
    """
    scales, fields = _integers(program)
    found = _brackets(fields, words, deadline)
    if found is None:
        return None
    targets = as_dicts(generators(program.dim))
    keys = sorted({key for field in (*found.values(), *targets) for key in field})
    rows = _residues([found[word] for word in words], keys, p)
    wanted = _residues(targets, keys, p)
    needed = [words[k] for k in _support(rows, wanted, p)]
    solved = _solve([found[word] for word in needed], targets, keys, p) if needed else None
    if solved is None or any(
        _combination(row, [found[word] for word in needed]) != target
        for row, target in zip(solved, targets, strict=True)
    ):
        return None
    # Words of the fields themselves, no longer of their integer multiples.
    factors = [math.prod(scales[i] for i in word) for word in needed]
    try:
        texts = tuple(tuple(str(c * f) for c, f in zip(row, factors, strict=True)) for row in solved)
    except ValueError:  # Python writes no integers of more than 4,300 digits
        return None
    return Lift(tuple(needed), texts)


def as_dicts(program: MonomialProgram) -> list[Field]:
    """The fields by their coefficients that are not zero, as Fractions."""
    exponents = [tuple(a) for a in program.exponents.tolist()]
    values = program.coefficients.fractions()
    return [
        {(a, exponents[k]): values[i, a, k] for a, k in np.argwhere(values[i] != 0).tolist()}
        for i in range(program.count)
    ]


def bracket(V: Field, W: Field) -> Field:
    """[V, W] = DW V - DV W, exactly."""
    out: Field = {}
    for one, two, sign in ((V, W, 1), (W, V, -1)):
        for (b, e), v in one.items():
            for (a, f), w in two.items():
                if f[b]:
                    key = a, tuple(g + h - (c == b) for c, (g, h) in enumerate(zip(e, f, strict=True)))
                    out[key] = out.get(key, 0) + sign * v * w * f[b]
    return {key: value for key, value in out.items() if value}


def _integers(program: MonomialProgram) -> tuple[list[int], list[Field]]:
    """Multiples of the fields with integer coefficients, and by how much they were multiplied."""
    fields = as_dicts(program)
    scales = [math.lcm(1, *(value.denominator for value in field.values())) for field in fields]
    return scales, [
        {key: int(value * scale) for key, value in field.items()} for field, scale in zip(fields, scales, strict=True)
    ]


def _brackets(fields: list[Field], words: Sequence[Word], deadline: float) -> dict[Word, Field] | None:
    found: dict[Word, Field] = {(i,): field for i, field in enumerate(fields)}

    def of(word: Word) -> Field:
        if word not in found:
            found[word] = bracket(fields[word[0]], of(word[1:]))
        return found[word]

    for word in words:
        if time.monotonic() >= deadline:
            return None
        of(word)
    return {word: found[word] for word in words}


def _residues(fields: Sequence[Field], keys: list[Any], p: int) -> Residues:
    values = [[int(field.get(key, 0)) % p for key in keys] for field in fields]
    return centred(np.array(values, dtype=np.int64).reshape(len(fields), len(keys)), p)


def _support(rows: Residues, wanted: Residues, p: int) -> list[int]:
    """The numbers of rows that combinations equal to what is wanted need, modulo p; none where there are none."""
    space = RowSpace(rows.shape[1], p)
    kept = space.keep(rows)
    if not space.contains(wanted):
        return []
    # With the identity behind each row, what a row is reduced by says which combination it is.
    traced = RowSpace(rows.shape[1] + len(kept), p)
    traced.add(np.concatenate([rows[kept], np.eye(len(kept))], axis=1))
    rest = traced.residual(np.concatenate([wanted, np.zeros((len(wanted), len(kept)))], axis=1))
    return list(kept[rest[:, rows.shape[1] :].any(axis=0)])


def _solve(fields: list[Field], targets: list[Field], keys: list[Any], p: int) -> list[list[Fraction]] | None:
    """The combinations over the rationals, from as many coefficients as there are fields."""
    from sympy import ZZ
    from sympy.polys.matrices import DomainMatrix
    from sympy.polys.matrices.exceptions import DMNonInvertibleMatrixError

    columns = RowSpace(len(fields), p).keep(_residues(fields, keys, p).T)
    if len(columns) < len(fields):
        return None
    chosen = [keys[k] for k in columns]
    matrix = [[ZZ(field.get(key, 0)) for field in fields] for key in chosen]
    right = [[ZZ(int(target.get(key, 0))) for target in targets] for key in chosen]
    size = len(fields)
    try:
        numerators, denominator = DomainMatrix(matrix, (size, size), ZZ).solve_den(
            DomainMatrix(right, (size, len(targets)), ZZ)
        )
    except DMNonInvertibleMatrixError:
        return None
    values = numerators.to_list()
    return [[Fraction(int(values[k][t]), int(denominator)) for k in range(size)] for t in range(len(targets))]


def _combination(row: list[Fraction], fields: list[Field]) -> Field:
    out: Field = {}
    for c, field in zip(row, fields, strict=True):
        if c:
            for key, value in field.items():
                out[key] = out.get(key, 0) + c * value
    return {key: value for key, value in out.items() if value}
