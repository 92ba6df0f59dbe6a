"""Prove a certificate again from its JSON, with Python and numpy alone: `python checker.py certificate.json`.

It imports nothing of the package that made the certificate, and trusts nothing in the file but the data: fields,
points, and which random numbers to use. Ranks, degrees and proofs that the file speaks of are computed anew, and what
has been checked is what the last line says. (Which numbers the data came from, the digests, is not looked at.)

What it checks is elementary. For an N-point claim, the Taylor coefficients of Psi(t) V_j(X(t)) along
X' = sum_i u_i V_i(X), Psi' = -Psi D(sum_i u_i V_i)(X) are combinations of iterated brackets at the points; where
families act in turn, each curve moves along one of them, and gives brackets of its fields alone. For a universal claim,
brackets are formed coefficient by coefficient, each with a bound of its degree. Both are computed modulo a prime p,
where a rank can only fall: a full rank is a proof over the rationals, provided that all numbers have residues (p
divides no denominator) and that nothing is divided by p (the orders stay below it). Or else combinations of brackets
that the file names are multiplied out over the rationals, and are fields known to generate all.

Fields come in two normal forms, monomials and layers outer(K inner(x) + b), and are joined, made tangent to spheres,
or claimed in a ball only. All numbers are residues in int64: p < 2**20, so that sums of 2**22 products fit.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

# What a file may ask for, in multiplications and in numbers held at once: a number in it could ask for a year's work.
WORK, HELD = 10**13, 2**28

# Numbers


def fraction(text: Any) -> Fraction:
    """A fraction n/d, and no decimals: an exponent might make a number of gigabytes."""
    n, _, d = str(text).partition("/")
    return Fraction(int(n), int(d or 1))


def numbers(texts: Any, shape: tuple[int | None, ...] | None, p: int) -> Any:
    """Nested lists of fractions as an array of residues; a ValueError where p divides a denominator."""

    def residue(text: Any) -> Any:
        if isinstance(text, list):
            return [residue(part) for part in text]
        value = fraction(text)
        return value.numerator * pow(value.denominator, -1, p) % p

    return shaped(np.array(residue(texts), dtype=np.int64), shape)


def integers(values: Any, shape: tuple[int | None, ...], below: float = math.inf) -> Any:
    """Nested lists of integers, from 0 on, as an array."""
    array = np.array(values)
    if array.dtype.kind != "i" or (array < 0).any() or (array >= below).any():
        raise ValueError(f"expected integers from 0 to below {below}")
    return shaped(array, shape)


def shaped(array: Any, shape: tuple[int | None, ...] | None) -> Any:
    """The array, if its shape is this one; None stands for any length."""
    if shape and (array.ndim != len(shape) or any(n not in (None, k) for n, k in zip(shape, array.shape, strict=True))):
        raise ValueError(f"numbers have the shape {array.shape}, expected {shape}")
    return array


def few(terms: int) -> None:
    """Refuse sums of products that might not fit in int64."""
    if terms > 2**22:
        raise ValueError(f"sums of {terms} terms are too long to be exact")


def affordable(work: float, held: float, limit: float) -> None:
    """Refuse before it is begun what would take too long, or too much memory."""
    if work > limit or held > HELD:
        raise ValueError(
            f"the file asks for some {work:.0e} multiplications and {held:.0e} numbers at once, expected at most "
            f"{limit:.0e} and {HELD:.0e}"
        )


def leaves(value: Any) -> int:
    """How many numbers nested lists hold."""
    return sum(map(leaves, value)) if isinstance(value, list) else 1


def largest(value: Any) -> Any:
    """The largest number in nested lists; 0 where there is none."""
    return max(map(largest, value), default=0) if isinstance(value, list) else value


def weight(data: Any) -> tuple[float, float, float, float]:
    """How many multiplications at a point, numbers held once and for each point, and fields, by the data."""
    if "base" in data:
        return weight(data["base"])
    if "parts" in data:
        work, once, each, fields = (sum(column) for column in zip(*map(weight, data["parts"]), strict=True))
        return work, once, each, fields
    if "exponents" in data:
        powers, size = 1 + largest(data["exponents"]), leaves(data["coefficients"])
        # A power is a call, which takes as long as some thousand multiplications.
        return powers * max(size, 1000), size, powers * leaves(data["exponents"]), len(data["coefficients"])
    if "kernels" in data:
        C, H, W = integers(data["shape"], (3,)).tolist()
        fields, axes, kernels = len(data["kernels"]), 0, data["kernels"]
        while isinstance(kernels, list):
            axes, kernels = axes + 1, kernels[0]
        rows = fields * (C if axes == 5 else 1) * H * W
        powers = leaves(data["inner"]) + max(map(leaves, data["outer"]))
        # Kernels are read at every place, those of stencils as kernels of all channels.
        wide = leaves(data["kernels"]) * (C if axes == 3 else 1)
        size = rows * C * H * W
        return 2 * size + powers * (rows + C * H * W) + wide * H * W, size + wide, rows + C * H * W, fields
    if "matrices" not in data:
        raise ValueError(f"fields of the unknown kind {data['kind']!r}")
    size, fields = leaves(data["matrices"]), len(data["matrices"])
    rows = leaves(data["offsets"])
    return size + rows * leaves(data["polynomials"]), size, rows, fields


def is_prime(n: int) -> bool:
    """By trial division: n is below 2**20."""
    return n > 1 and all(n % q for q in range(2, math.isqrt(n) + 1))


def rank(rows: Any, p: int) -> int:
    """The rank modulo p, by Gauss."""
    rows, found = rows % p, 0
    few(rows.shape[1])
    for column in range(rows.shape[1]):
        # Only what decides is reduced: each step adds less than p**2 to the other entries.
        rows[found:, column] %= p
        candidates = np.flatnonzero(rows[found:, column])
        if not len(candidates):
            continue
        chosen = found + candidates[0]
        rows[[found, chosen]] = rows[[chosen, found]]
        pivot = rows[found, column:] % p * pow(int(rows[found, column]), -1, p) % p
        found += 1
        if found == len(rows):
            break
        rows[found:, column:] -= rows[found:, column, None] * pivot
    return found


# Power series in t: the coefficients stand in the first axis


def coefficient(a: Any, b: Any, n: int, p: int, product: Any = np.multiply) -> Any:
    """Coefficient n of the product of two series, of numbers or (with matmul) of matrices."""
    pairs = range(min(n + 1, len(a)))
    few(len(pairs) * (a.shape[-1] if product is matmul else 1))
    return sum(product(a[k], b[n - k]) for k in pairs) % p


def times(a: Any, b: Any, p: int, product: Any = np.multiply) -> Any:
    """The product of two series, cut off where b ends."""
    return np.stack([coefficient(a, b, n, p, product) for n in range(len(b))])


def matmul(a: Any, b: Any) -> Any:
    """Products of matrices of residues in floats, which are fast: sums of 2**12 products are below 2**52, and exact."""
    few(a.shape[-1])
    # At least one part: sums of no terms are zeros in their shape.
    parts = (slice(start, start + 2**12) for start in range(0, max(1, a.shape[-1]), 2**12))
    return sum((a[..., part].astype(float) @ b[..., part, :].astype(float)).astype(np.int64) for part in parts)


def controlled(u: Any, V: Any, p: int) -> Any:
    """sum_i u_i V_i: a series u of shape (.., d), fields of shape (.., N, d, m)."""
    return times(u[:, None, None], V, p, matmul)[..., 0, :]


def polynomial(c: Any, z: Any, p: int) -> Any:
    """sum_j c_j z**j by Horner, entry by entry; c has shape (degree + 1, ..)."""
    out = np.zeros_like(z)
    out[0] = c[-1]
    for a in c[-2::-1]:
        out = times(out, z, p)
        out[0] = (out[0] + a) % p
    return out


def slope(c: Any, p: int) -> Any:
    """The coefficients of the derivative of a polynomial."""
    return (c[1:].T * np.arange(1, len(c)) % p).T if len(c) > 1 else 0 * c


# Fields


@dataclass
class Fields:
    """V_1..V_d on R^m modulo p, along a series X of shape (.., N, m).

    Attributes:
        sphere: whether they are tangent to spheres.
        values: X to V_i(X), shape (.., N, d, m).
        jacobian: X and a series u, shape (.., d), to the Jacobian of sum_i u_i V_i, shape (.., N, m, m). (Those of the
            fields one by one would be d times as large.)
    """

    d: int
    m: int
    sphere: bool
    values: Callable[[Any], Any]
    jacobian: Callable[[Any, Any], Any]


def monomial_data(data: Any, p: int) -> tuple[Any, Any]:
    """Exponents (n, m), no row twice, and coefficients (d, m, n)."""
    exponents = integers(data["exponents"], (None, None))
    count, m = exponents.shape
    if len({tuple(e) for e in exponents.tolist()}) < count:
        raise ValueError("a monomial stands twice")
    return exponents, numbers(data["coefficients"], (None, m, count), p)


def monomials(data: Any, p: int) -> Fields:
    """V_i = sum_k c[i, :, k] x**exponents[k]."""
    exponents, c = monomial_data(data, p)
    d, m, count = c.shape
    few(max(d, count))

    def products(X: Any, exponents: Any) -> Any:
        """The monomials, shape (.., N, n)."""
        powers = [np.zeros_like(X)]
        powers[0][0] = 1
        for _ in range(int(exponents.max(initial=0))):
            powers.append(times(powers[-1], X, p))
        out = np.zeros((*X.shape[:2], len(exponents)), dtype=np.int64)
        out[0] = 1
        for b in range(m):
            uses = np.flatnonzero(exponents[:, b])
            factors = np.stack([power[..., b] for power in powers], axis=-1)[..., exponents[uses, b]]
            out[..., uses] = times(out[..., uses], factors, p)
        return out

    def values(X: Any) -> Any:
        return (products(X, exponents) @ c.reshape(d * m, count).T % p).reshape(*X.shape[:2], d, m)

    def jacobian(X: Any, u: Any) -> Any:
        mixed, columns = np.einsum("ki,ian->kan", u, c) % p, []
        for b in range(m):
            uses = np.flatnonzero(exponents[:, b])
            lowered = products(X, exponents[uses] - np.eye(m, dtype=np.int64)[b]).transpose(0, 2, 1)
            columns.append(times(exponents[uses, b] % p * mixed[..., uses] % p, lowered, p, matmul))
        return np.stack(columns, axis=-1).transpose(0, 2, 1, 3)

    return Fields(d, m, False, values, jacobian)


def layer(rows: Any, places: tuple[Any, Any], offsets: Any, inner: Any, outer: Any, p: int) -> Fields:
    """Row r of K inner(x) + b, put through outer_i, is component a of field i, where (i, a) is its place; else zero."""
    (field, component), (d, m) = places, (len(outer), rows.shape[1])
    outer = outer[field].T
    few(max(rows.shape))

    def affine(X: Any) -> Any:
        z = matmul(polynomial(inner, X, p), rows.T) % p
        z[0] = (z[0] + offsets) % p
        return z

    def values(X: Any) -> Any:
        out = np.zeros((*X.shape[:2], d, m), dtype=np.int64)
        out[..., field, component] = polynomial(outer, affine(X), p)
        return out

    def jacobian(X: Any, u: Any) -> Any:
        """Rows weighted by u_i outer_i'(r) and added up, times inner'(x)."""
        weights = times(u[:, None, field], polynomial(slope(outer, p), affine(X), p), p)
        sums = [matmul(weights[..., component == a], rows[component == a]) % p for a in range(m)]
        return times(np.stack(sums, axis=2), polynomial(slope(inner, p), X, p)[:, :, None], p)

    return Fields(d, m, False, values, jacobian)


def ridge(data: Any, p: int) -> Fields:
    """outer_i(C_i x + b_i): every component of every field is a row."""
    matrices = numbers(data["matrices"], (None, None, None), p)
    d, m, _ = shaped(matrices, (None, matrices.shape[1], matrices.shape[1])).shape
    places = np.repeat(np.arange(d), m), np.tile(np.arange(m), d)
    offsets, outer = numbers(data["offsets"], (d, m), p), numbers(data["polynomials"], (d, None), p)
    return layer(matrices.reshape(d * m, m), places, offsets.ravel(), np.array([0, 1]), outer, p)


def convolution(data: Any, p: int) -> Fields:
    """Correlations with zeros around inner(x), for an image whose order is height, width, channel: a row at each place.

    Kernels (d, C, C, k, k) lead from all channels to all, (d, C, k, k) from all to outputs[i], (d, k, k) from inputs[i]
    to outputs[i].
    """
    C, H, W = integers(data["shape"], (3,)).tolist()
    kernels = numbers(data["kernels"], None, p)
    d, size, axes = len(kernels), kernels.shape[-1], kernels.ndim
    shaped(kernels, (d, *[C] * (axes - 3), size, size))
    if axes not in (3, 4, 5) or size % 2 == 0:
        raise ValueError(f"kernels have the shape {kernels.shape}")
    if axes == 3:
        kernels, stencils = np.zeros((d, C, size, size), dtype=np.int64), kernels
        kernels[np.arange(d), integers(data["inputs"], (d,), C)] = stencils
    output = np.tile(np.arange(C), d) if axes == 5 else integers(data["outputs"], (d,), C)
    kernels, each = kernels.reshape(-1, C, size, size), len(output) // d
    rows = np.zeros((d * each, H, W, H, W, C), dtype=np.int64)
    for r, c, a, b in itertools.product(range(H), range(W), range(size), range(size)):
        i, j = r + a - size // 2, c + b - size // 2
        if 0 <= i < H and 0 <= j < W:
            rows[:, r, c, i, j] = kernels[..., a, b]
    offsets = numbers(data["offsets"], (d, C) if axes == 5 else (d,), p).ravel()
    places = np.repeat(np.arange(d), each * H * W), (np.arange(H * W) * C + output[:, None]).ravel()
    inner, outer = numbers(data["inner"], (None,), p), numbers(data["outer"], (d, None), p)
    return layer(rows.reshape(-1, H * W * C), places, np.repeat(offsets, H * W), inner, outer, p)


def sphere(base: Fields, p: int) -> Fields:
    """W = V - s <x, V> x with s = 1 / |x|**2, a number at each point: |x| is constant along such fields."""

    def inverse(X: Any) -> Any:
        squares = (X[0] * X[0] % p).sum(axis=1) % p
        if not squares.all():
            raise ValueError(f"a point has |x|^2 = 0 modulo {p}")
        return np.array([[pow(int(square), -1, p)] for square in squares], dtype=np.int64)

    def values(X: Any) -> Any:
        V, x = base.values(X), X[:, :, None]
        radial = times(x, V, p).sum(axis=-1) % p * inverse(X) % p
        return (V - times(radial[..., None], x, p)) % p

    def jacobian(X: Any, u: Any) -> Any:
        """DV - s x (V + DV^T x)^T - s <x, V> I + 2 s**2 <x, V> x x^T: s, too, depends on x."""
        V, J, s = controlled(u, base.values(X), p), base.jacobian(X, u), inverse(X)
        radial = times(X, V, p).sum(axis=-1, keepdims=True) % p * s % p
        turned = times(X[..., None], J, p).sum(axis=-2)
        across = (V + turned - 2 * times(radial, X, p)) % p * s % p
        own = radial[..., None] * np.eye(base.m, dtype=np.int64)
        return (J - times(X[..., None], across[:, :, None], p) - own) % p

    return Fields(base.d, base.m, True, values, jacobian)


def union(parts: list[Fields], p: int) -> Fields:
    """The fields of several families, one after the other."""
    if len({(part.m, part.sphere) for part in parts}) != 1:
        raise ValueError("the families of a union live on different spaces")
    ends = list(itertools.accumulate(part.d for part in parts))

    def values(X: Any) -> Any:
        return np.concatenate([part.values(X) for part in parts], axis=2)

    def jacobian(X: Any, u: Any) -> Any:
        return sum(part.jacobian(X, u[:, end - part.d : end]) for end, part in zip(ends, parts, strict=True)) % p

    return Fields(ends[-1], parts[0].m, parts[0].sphere, values, jacobian)


def read(data: Any, points: Any, p: int) -> Fields:
    """Fields of any kind; a ValueError where they do not hold at all of the points."""
    kind = data["kind"]
    if kind == "sphere":
        return sphere(read(data["base"], points, p), p)
    if kind == "union":
        return union([read(part, points, p) for part in data["parts"]], p)
    if kind == "ball":
        radius = fraction(data["radius"])
        if radius <= 0 or any(sum(v * v for v in x) > radius * radius for x in points):
            raise ValueError(f"a point is outside the ball |x| <= {radius} where the fields hold")
        return read(data["base"], points, p)
    made = {"monomial": monomials, "ridge": ridge, "convolution": convolution}.get(kind)
    if made is None:
        raise ValueError(f"fields of the unknown kind {kind!r}")
    return made(data, p)


# The two claims


def rows_along(fields: Fields, x: Any, u: Any, orders: int, p: int) -> Any:
    """The rows of one curve: coefficients 0..orders-1 of Psi V_j(X), stacked over the points, shape (.., N m)."""
    count, m = x.shape
    X = np.zeros((orders, count, m), dtype=np.int64)
    X[0] = x
    for n in range(orders - 1):
        X[n + 1] = controlled(u, fields.values(X[: n + 1]), p)[n] * pow(n + 1, -1, p) % p
    A, rows, scale = fields.jacobian(X, u), [], 1
    # (Psi W)' = Psi (W' - A W): from W = V_j on, once for each derivative.
    W = fields.values(X).transpose(0, 1, 3, 2)
    for n in range(orders):
        rows.append(W[0].transpose(2, 0, 1) * scale % p)
        numbers = np.arange(1, len(W))[:, None, None, None]
        if len(W) > 1:
            W = (numbers * W[1:] - times(A[: len(W) - 1], W[:-1], p, matmul)) % p
        scale = scale * pow(n + 1, -1, p) % p
    return np.concatenate(rows).reshape(-1, count * m)


def bracket(V: dict[Any, Any], W: dict[Any, Any], p: int | None) -> dict[Any, Any]:
    """DW V - DV W of polynomial fields, {(component, exponents): coefficient}, modulo p or exactly."""
    out: dict[Any, Any] = {}
    for one, two, sign in ((V, W, 1), (W, V, -1)):
        for (b, e), v in one.items():
            for (a, f), w in two.items():
                if f[b]:
                    key = a, tuple(g + h - (c == b) for c, (g, h) in enumerate(zip(e, f, strict=True)))
                    out[key] = out.get(key, 0) + sign * v * w * f[b]
                    if p is not None:
                        out[key] %= p
    return {key: value for key, value in out.items() if value}


def fills(fields: list[dict[Any, int]], degrees: list[int], m: int, degree: int, p: int) -> bool:
    """Whether brackets of degree at most `degree` span all polynomial fields of it."""
    words = itertools.chain(*(itertools.combinations_with_replacement(range(m), g) for g in range(degree + 1)))
    keys = [(a, tuple(word.count(b) for b in range(m))) for word in words for a in range(m)]
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


def check_points(data: Any, run: Any, p: int, limit: float, *, in_turn: bool) -> str:
    """The rank of brackets at the points; of families that act in turn, of brackets within each."""
    points = [tuple(fraction(v) for v in x) for x in data["points"]]
    if len(set(points)) < len(points) or not points:
        raise ValueError("two points are the same, or there are none")
    orders = run["depth"]
    if not 0 < orders < p:
        raise ValueError(f"the depth is {orders}, expected 1 to {p - 1}: coefficients are divided by the order")
    if in_turn and data["fields"]["kind"] != "union":
        raise ValueError("families that act in turn are a union, and this is one family")
    families = data["fields"]["parts"] if in_turn else [data["fields"]]
    weights = [weight(family) for family in families]
    placed = [along_one(u, [int(d) for *_, d in weights]) for u in run["curves"]]
    dim, count = len(points[0]), len(points)
    rows = sum(orders * weights[k][3] for k, _ in placed)
    affordable(
        rows * (count * dim) ** 2
        + sum(orders**2 * count * (work + orders * d * dim**2) for work, _, _, d in (weights[k] for k, _ in placed)),
        sum(once for _, once, _, _ in weights)
        + max(orders * count * (each + d * dim + dim**2) for _, _, each, d in weights)
        + rows * count * dim,
        limit,
    )
    read_families = [read(family, points, p) for family in families]
    # On one space all.
    fields = union(read_families, p)
    x = numbers(data["points"], (None, fields.m), p)
    full = (fields.m - 1 if fields.sphere else fields.m) * len(x)
    found = rank(np.concatenate([rows_along(read_families[k], x, u % p, orders, p) for k, u in placed]), p)
    if found != full:
        raise ValueError(f"the rank is {found} of {full} modulo {p}")
    where = " along the spheres through them" if fields.sphere else ""
    within = f" by brackets within {len(families)} families" if in_turn else ""
    return f"checked: rank {found} of {full} at {len(x)} points of R^{fields.m}{where}{within}, modulo {p}"


def along_one(controls: Any, fields: list[int]) -> tuple[int, Any]:
    """The family that a curve's controls move along, given how many fields each has, and its controls."""
    u = integers(controls, (None, sum(fields)))
    firsts = [0, *itertools.accumulate(fields)]
    others = [np.delete(u, np.s_[first : first + d], 1).any() for first, d in zip(firsts, fields, strict=False)]
    if all(others):
        raise ValueError("a curve moves along the fields of two families")
    k = others.index(False)
    return k, u[:, firsts[k] : firsts[k + 1]]


def generators(m: int) -> list[dict[Any, Any]]:
    """Ax, Bx, e_m, x_m**2 e_1 and x_m x, the explicit five that generate all fields; d/dx and x**3 d/dx on the line."""
    if m == 1:
        return [{(0, (0,)): 1}, {(0, (3,)): 1}]

    def monomial(*variables: int) -> tuple[int, ...]:
        return tuple(variables.count(b) for b in range(m))

    diagonal = [6 * i * i - (m + 1) * (2 * m + 1) for i in range(1, m + 1)]
    factor, last = math.gcd(*diagonal), m - 1
    return [
        {(j, monomial(j)): diagonal[j] // factor for j in range(m)},
        {(j, monomial((j - 1) % m)): 1 for j in range(m)},
        {(last, monomial()): 1},
        {(0, monomial(last, last)): 1},
        {(j, monomial(j, last)): 1 for j in range(m)},
    ]


def check_lift(fields: list[dict[Any, Any]], lift: Any, m: int, limit: float) -> str:
    """Whether combinations of brackets are fields that generate all, by multiplying out over the rationals."""
    words = [tuple(integers(word, (None,), len(fields)).tolist()) for word in lift["words"]]
    found = {(i,): V for i, V in enumerate(fields)}
    degree = max((sum(e) for V in fields for _, e in V), default=0)
    terms = [m * math.comb(len(word) * degree + m, m) for word in words]
    affordable(sum(n * len(word) * sum(map(len, fields)) for n, word in zip(terms, words, strict=True)), 0, limit)
    for word in words:
        for start in range(len(word) - 2, -1, -1):
            if word[start:] not in found:
                found[word[start:]] = bracket(fields[word[start]], found[word[start + 1 :]], None)
    rows, targets = lift["combinations"], generators(m)
    if [len(row) for row in rows] != [len(words)] * len(targets):
        raise ValueError(f"expected {len(targets)} combinations of {len(words)} brackets")
    for row, target in zip(rows, targets, strict=True):
        left = {key: -Fraction(value) for key, value in target.items()}
        for c, word in zip(row, words, strict=True):
            for key, value in found[word].items():
                left[key] = left.get(key, Fraction(0)) + fraction(c) * value
        if any(left.values()):
            raise ValueError("a combination of brackets is not the field it is said to be")
    return f"checked: {len(words)} brackets combine over the rationals to fields that generate all on R^{m}"


def check_universal(data: Any, degree: int, lift: Any, p: int, limit: float) -> str:
    """Whether brackets fill the polynomial fields of a degree, or combine to fields that generate all."""
    if data["fields"]["kind"] != "monomial":
        raise ValueError("a universal claim is about polynomial fields on the whole space, given by monomials")
    exponents, c = monomial_data(data["fields"], p)
    m = exponents.shape[1]
    terms = [(k, tuple(e)) for k, e in enumerate(exponents.tolist())]
    if lift is not None:
        texts = data["fields"]["coefficients"]
        return check_lift(
            [{(a, e): c for k, e in terms for a in range(m) if (c := fraction(V[a][k]))} for V in texts],
            lift,
            m,
            limit,
        )
    if degree < (3 if m == 1 else 2):
        raise ValueError(f"filling the fields of degree {degree} is not enough")
    columns = m * math.comb(degree + m, m)
    affordable(float(columns) ** 3, float(columns) ** 2, limit)
    # Degrees are those of the exact coefficients: modulo p a field may look like one of lower degree.
    degrees = [
        max((sum(e) for k, e in terms if any(fraction(row[k]) for row in field)), default=0)
        for field in data["fields"]["coefficients"]
    ]
    fields = [{(a, e): int(V[a, k]) for k, e in terms for a in range(m) if V[a, k]} for V in c]
    if not fills(fields, degrees, m, degree, p):
        raise ValueError(f"brackets do not fill the fields of degree {degree} modulo {p}")
    return f"checked: brackets fill the polynomial fields of degree {degree} on R^{m}"


def check(certificate: Any, *, work: int = WORK) -> str:
    """Prove a certificate again.

    Args:
        certificate: what its JSON says.
        work: multiplications that it may ask for, as estimated before any is done.

    Returns:
        What has been proved, in a line.

    Raises:
        ValueError: it does not hold, or the file does not say enough.
    """
    try:
        if not certificate["proved"]:
            raise ValueError("the certificate says 'not proved': there is nothing to check")
        data, run = certificate["data"], certificate["runs"][-1]
        if data is None:
            raise ValueError("the certificate holds no data")
        p = run["prime"]
        if not 1 < p < 2**20 or not is_prime(p):
            raise ValueError(f"{p} is no prime below 2**20")
        if certificate["claim"] == "universal":
            return check_universal(data, certificate["degree"], certificate["lift"], p, work)
        return check_points(data, run, p, work, in_turn=certificate["claim"] == "points in turn")
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError) as error:
        raise ValueError(f"the file is no certificate that can be checked: {error!r}") from error


def load(path: Path) -> Any:
    """The JSON of a file.

    Raises:
        ValueError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON file that can be read: {error}") from error


def main(arguments: list[str]) -> None:
    """Check the certificate of a file."""
    if len(arguments) != 1:
        sys.exit("usage: python checker.py certificate.json")
    try:
        certificate = load(Path(arguments[0]))
        print(check(certificate))
    except ValueError as error:
        sys.exit(f"refused: {error}")
    print(f"The file says that this is about: {certificate.get('subject')}, digest {certificate.get('digest')}.")


if __name__ == "__main__":
    main(sys.argv[1:])
