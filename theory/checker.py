"""Prove a certificate again from its JSON, with Python and numpy alone: `python checker.py certificate.json`.

It imports nothing of the package that made the certificate, and trusts nothing in the file but the data: fields,
points, and which random numbers to use. What it checks is elementary. For an N-point claim, the Taylor coefficients
of Psi(t) V_j(X(t)) along X' = sum_i u_i V_i(X), Psi' = -Psi D(sum_i u_i V_i)(X) are combinations of iterated brackets
at the points; for a universal claim, brackets are formed coefficient by coefficient, each with a bound of its degree.
Both are computed modulo a prime, where a rank can only fall: a full rank is a proof over the rationals.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np


def residue(text: str, p: int) -> int:
    """A fraction modulo p; a ValueError where p divides its denominator."""
    value = Fraction(text)
    return value.numerator * pow(value.denominator, -1, p) % p


def residues(texts: Any, p: int) -> Any:
    """Nested lists of fractions as an array of residues."""
    return np.array(
        [residues(part, p) for part in texts] if isinstance(texts, list) else residue(texts, p), dtype=np.int64
    )


def is_prime(n: int) -> bool:
    """By trial division: n is below 2**20."""
    return n > 1 and all(n % q for q in range(2, math.isqrt(n) + 1))


def rank(rows: Any, p: int) -> int:
    """The rank modulo p, by Gauss."""
    rows, found = rows % p, 0
    for column in range(rows.shape[1]):
        candidates = np.flatnonzero(rows[found:, column])
        if not len(candidates):
            continue
        chosen = found + candidates[0]
        rows[[found, chosen]] = rows[[chosen, found]]
        rows[found] = rows[found] * pow(int(rows[found, column]), -1, p) % p
        below = rows[found + 1 :]
        below[:] = (below - below[:, column, None] * rows[found]) % p
        found += 1
        if found == len(rows):
            break
    return found


def times(a: Any, b: Any, p: int) -> Any:
    """The product of power series in the first axis, cut off at their length."""
    out = np.zeros(np.broadcast_shapes(a.shape, b.shape), dtype=np.int64)
    for n in range(len(a)):
        for k in range(n + 1):
            out[n] = (out[n] + a[k] * b[n - k]) % p
    return out


def matrices(a: Any, b: Any, n: int, p: int) -> Any:
    """Coefficient n of the product of two series of matrices."""
    return sum(np.matmul(a[k], b[n - k]) % p for k in range(n + 1)) % p


def tangent(exponents: Any, coefficients: Any, p: int) -> tuple[Any, Any]:
    """|x|^2 V - <x, V> x: it spans at x what V minus its radial part does, as |x|^2 is constant along such fields."""
    d, m, _ = coefficients.shape
    terms: list[dict[tuple[int, ...], Any]] = []
    for i, a in itertools.product(range(d), range(m)):
        field: dict[tuple[int, ...], int] = {}
        for k, e in enumerate(exponents.tolist()):
            for b in range(m):
                square = tuple(v + 2 * (c == b) for c, v in enumerate(e))
                mixed = tuple(v + (c == a) + (c == b) for c, v in enumerate(e))
                field[square] = (field.get(square, 0) + int(coefficients[i, a, k])) % p
                field[mixed] = (field.get(mixed, 0) - int(coefficients[i, b, k])) % p
        terms.append(field)
    monomials = sorted({e for field in terms for e in field})
    out = np.array([[field.get(e, 0) for e in monomials] for field in terms], dtype=np.int64)
    return np.array(monomials, dtype=np.int64), out.reshape(d, m, -1)


def rows_along(exponents: Any, c: Any, x: Any, u: Any, orders: int, p: int) -> Any:
    """The rows of one curve: coefficients 0..orders-1 of Psi V_j(X), stacked over the points, shape (.., N m)."""
    count, m = x.shape
    degree = int(exponents.max(initial=0))
    X = np.zeros((orders + 1, count, m), dtype=np.int64)
    X[0] = x
    u = np.concatenate([u, np.zeros((max(0, orders + 1 - len(u)), u.shape[1]), dtype=np.int64)])[: orders + 1]

    def evaluate(monomials: Any, coefficients: Any) -> Any:
        """Polynomials along the curve as it is known so far, shape (orders + 1, N, ..)."""
        powers = [np.zeros_like(X), X]
        powers[0][0] = 1
        for _ in range(2, degree + 1):
            powers.append(times(powers[-1], X, p))
        out = np.zeros((orders + 1, count, *coefficients.shape[:-1]), dtype=np.int64)
        for k, e in enumerate(monomials.tolist()):
            phi = powers[0][:, :, 0]
            for b, power in enumerate(e):
                if power:
                    phi = times(phi, powers[power][:, :, b], p)
            out = (out + phi[(..., *[None] * (out.ndim - 2))] * coefficients[..., k]) % p
        return out

    for n in range(orders):
        V = evaluate(exponents, c)
        velocity = sum(np.einsum("i,nia->na", u[k], V[n - k]) % p for k in range(n + 1)) % p
        X[n + 1] = velocity * pow(n + 1, -1, p) % p
    V = evaluate(exponents, c)
    slopes = np.zeros((orders + 1, count, *c.shape[:2], m), dtype=np.int64)
    for b in range(m):
        lowered = exponents.copy()
        lowered[:, b] = np.maximum(lowered[:, b] - 1, 0)
        slopes[..., b] = evaluate(lowered, c * exponents[:, b] % p)
    A = np.zeros((orders + 1, count, m, m), dtype=np.int64)
    for n in range(orders + 1):
        A[n] = sum(np.einsum("i,niab->nab", u[k], slopes[n - k]) % p for k in range(n + 1)) % p
    psi = np.zeros((orders + 1, count, m, m), dtype=np.int64)
    psi[0] = np.eye(m, dtype=np.int64)
    for n in range(orders):
        psi[n + 1] = -matrices(psi, A, n, p) * pow(n + 1, -1, p) % p
    columns = V.transpose(0, 1, 3, 2)
    W = np.stack([matrices(psi, columns, n, p) for n in range(orders)])
    return W.transpose(0, 3, 1, 2).reshape(-1, count * m)


def bracket(V: dict[Any, int], W: dict[Any, int], p: int) -> dict[Any, int]:
    """DW V - DV W of polynomial fields: {(component, exponents): coefficient}."""
    out: dict[Any, int] = {}
    for one, two, sign in ((V, W, 1), (W, V, -1)):
        for (b, e), v in one.items():
            for (a, f), w in two.items():
                if f[b]:
                    key = a, tuple(g + h - (c == b) for c, (g, h) in enumerate(zip(e, f, strict=True)))
                    out[key] = (out.get(key, 0) + sign * v * w * f[b]) % p
    return {key: value for key, value in out.items() if value}


def fills(fields: list[dict[Any, int]], degrees: list[int], m: int, degree: int, p: int) -> bool:
    """Whether brackets of degree at most `degree` span all polynomial fields of it."""
    keys = [(a, e) for e in itertools.product(range(degree + 1), repeat=m) if sum(e) <= degree for a in range(m)]
    # A basis of the fields of degree at most g, for every g: {leading key: field}.
    bases: list[dict[Any, dict[Any, int]]] = [{} for _ in range(degree + 1)]
    order = {key: k for k, key in enumerate(keys)}

    def insert(field: dict[Any, int], basis: dict[Any, dict[Any, int]]) -> dict[Any, int] | None:
        field = dict(field)
        while field:
            lead = min(field, key=order.__getitem__)
            if lead not in basis:
                scale = pow(field[lead], -1, p)
                basis[lead] = {key: value * scale % p for key, value in field.items()}
                return basis[lead]
            scale = field[lead]
            for key, value in basis[lead].items():
                left = (field.get(key, 0) - scale * value) % p
                field.pop(key, None)
                if left:
                    field[key] = left
        return None

    waiting = [(g, V) for g, V in zip(degrees, fields, strict=True) if g <= degree]
    while waiting:
        waiting.sort(key=lambda item: item[0])
        level, field = waiting.pop(0)
        new = insert(field, bases[level])
        if new is None:
            continue
        for higher in range(level + 1, degree + 1):
            insert(new, bases[higher])
        if len(bases[degree]) == len(keys):
            return True
        for g, V in zip(degrees, fields, strict=True):
            if 0 <= level + g - 1 <= degree:
                waiting.append((level + g - 1, bracket(V, new, p)))
    return len(bases[degree]) == len(keys)


def check(certificate: dict[str, Any]) -> str:
    """Prove a certificate again.

    Raises:
        ValueError: it does not hold, or the file does not say enough.
    """
    data = certificate["data"]
    if not certificate["proved"]:
        raise ValueError("the certificate says 'not proved': there is nothing to check")
    if data is None:
        raise ValueError("the certificate holds no data")
    run = certificate["runs"][-1]
    p = run["prime"]
    if not is_prime(p) or p >= 2**20:
        raise ValueError(f"{p} is no prime below 2**20")
    exponents = np.array(data["exponents"], dtype=np.int64)
    c = residues(data["coefficients"], p)
    d, m, _ = c.shape
    if certificate["claim"] == "universal":
        if data["sphere"]:
            raise ValueError("fields on spheres are never universal in the whole space")
        sizes = exponents.sum(axis=1)
        exact = data["coefficients"]
        degrees = [
            max([int(g) for k, g in enumerate(sizes) if any(Fraction(row[k]) for row in exact[i])] or [0])
            for i in range(d)
        ]
        fields = [
            {(a, tuple(e)): int(c[i, a, k]) for k, e in enumerate(exponents.tolist()) for a in range(m) if c[i, a, k]}
            for i in range(d)
        ]
        degree = certificate["degree"]
        if degree < (3 if m == 1 else 2):
            raise ValueError(f"filling the fields of degree {degree} is not enough")
        if not fills(fields, degrees, m, degree, p):
            raise ValueError(f"brackets do not fill the fields of degree {degree} modulo {p}")
        return f"checked: brackets fill the polynomial fields of degree {degree} on R^{m}"
    points = [tuple(Fraction(v) for v in x) for x in data["points"]]
    if len(set(points)) < len(points):
        raise ValueError("two points are the same")
    x = residues(data["points"], p)
    full = m * len(x)
    if data["sphere"]:
        if not ((x * x % p).sum(axis=1) % p).all():
            raise ValueError(f"a point has |x|^2 = 0 modulo {p}")
        exponents, c = tangent(exponents, c, p)
        full = (m - 1) * len(x)
    rows = [rows_along(exponents, c, x, np.array(u, dtype=np.int64), run["depth"], p) for u in run["curves"]]
    found = rank(np.concatenate(rows), p)
    if run["depth"] >= p or found != full:
        raise ValueError(f"the rank is {found} of {full} modulo {p}")
    return f"checked: rank {found} of {full} at {len(x)} points of R^{m}, modulo {p}"


if __name__ == "__main__":
    print(check(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
