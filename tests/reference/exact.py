"""The same numbers to 50 digits, from the formulas that the documentation prints: no torch, no solver, no autograd.

Coefficients are read off the families, all else is written again, in FLINT's ball arithmetic: a number knows how far it
may be off, and `rounded` refuses one that is off by more than float64 shows. A derivative is a central difference with
a step of 1e-20, whose own error is of its square.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import sympy
from flint import arb, ctx
from scipy.integrate import RK23, RK45

import cde_nets as cn

ctx.dps = 50
STEP = arb(10) ** -20

Vector = list[Any]
Field = Callable[[Vector], list[Vector]]


def deep(values: Any) -> Any:
    """Nested lists of numbers as balls."""
    return [deep(v) for v in values] if isinstance(values, list) else arb(values)


def rounded(values: Any) -> Any:
    """Nested lists of balls as floats.

    Raises:
        ArithmeticError: a ball is too wide for that.
    """
    if isinstance(values, list):
        return [rounded(v) for v in values]
    if not values.rad() < arb(10) ** -20 * (1 + abs(values)):
        raise ArithmeticError(f"{values} is known too coarsely.")
    return float(values)


def dot(a: Vector, b: Vector) -> Any:
    """The sum of products."""
    return sum((p * q for p, q in zip(a, b, strict=True)), arb(0))


def _numbers(tensor: Any) -> Any:
    return deep(tensor.double().tolist())


def _poly(s: Vector, r: Any) -> Any:
    return sum((c * r**k for k, c in enumerate(s)), arb(0))


def fields(family: cn.Fields) -> Field:
    """x -> (V_1(x), .., V_d(x))."""
    return WRITTEN[type(family)](family)


def _polynomial(family: Any) -> Field:
    c, exponents = _numbers(family.coefficients), family.exponents.tolist()

    def values(x: Vector) -> list[Vector]:
        monomials = [math.prod((v**e for v, e in zip(x, powers, strict=True)), start=arb(1)) for powers in exponents]
        return [[dot(row, monomials) for row in field] for field in c]

    return values


def _linear(family: Any) -> Field:
    matrices = _numbers(family.coefficients)
    return lambda x: [[dot(row, x) for row in matrix] for matrix in matrices]


def _ridge(family: Any) -> Field:
    parts = list(zip(*map(_numbers, (family.matrices, family.offsets, family.polynomials)), strict=True))
    return lambda x: [[_poly(s, dot(row, x) + b) for row, b in zip(C, offset, strict=True)] for C, offset, s in parts]


def _universal(family: Any) -> Field:
    a, m = _numbers(family.diagonal), family.dim

    def values(x: Vector) -> list[Vector]:
        unit = lambda j, v: [v if k == j else arb(0) for k in range(m)]  # noqa: E731
        turned = [x[(k - 1) % m] for k in range(m)]
        scaled = [p * q for p, q in zip(a, x, strict=True)]
        return [scaled, turned, unit(m - 1, arb(1)), unit(0, x[-1] ** 2), [x[-1] * v for v in x]]

    return values


def _expression(family: Any) -> Field:
    names = {name: lambda v, name=name: getattr(arb(v), name)() for name in ("sin", "cos", "exp")}
    made = sympy.lambdify(family.symbols, [list(V) for V in family.expressions], modules=[names])
    return lambda x: deep(made(*x))


def _convolutional(family: Any) -> Field:
    channels, height, width = family.shape
    kernels, phi, outer = _numbers(family.kernels), _numbers(family.inner), _numbers(family.outer)
    offsets = _numbers(family.offsets)
    half = family.kernels.shape[-1] // 2

    def place(c: int, i: int, j: int) -> int:
        return (i * width + j) * channels + c

    def correlate(y: Vector, kernel: Any, c: int, i: int, j: int) -> Any:
        """One channel's k x k kernel at pixel (i, j), zeros outside."""
        total = arb(0)
        for p, q in itertools.product(range(len(kernel)), repeat=2):
            row, column = i + p - half, j + q - half
            if 0 <= row < height and 0 <= column < width:
                total += kernel[p][q] * y[place(c, row, column)]
        return total

    def taps(n: int, o: int) -> tuple[dict[int, Any], Any]:
        """Of field n and output channel o: the kernel from each input channel, and the offset; None where it is 0."""
        if family.kernel == "dense":
            return dict(enumerate(kernels[n][o])), offsets[n][o]
        if int(family.outputs[n]) != o:
            return {}, None
        if family.kernel == "row":
            return dict(enumerate(kernels[n])), offsets[n]
        return {int(family.inputs[n]): kernels[n]}, offsets[n]

    def values(x: Vector) -> list[Vector]:
        y = [_poly(phi, v) for v in x]
        found = []
        for n in range(family.count):
            V = [arb(0)] * family.dim
            for o, i, j in itertools.product(range(channels), range(height), range(width)):
                kernel, offset = taps(n, o)
                if kernel:
                    z = sum(correlate(y, k, c, i, j) for c, k in kernel.items()) + offset
                    V[place(o, i, j)] = _poly(outer[n], z)
            found.append(V)
        return found

    return values


def _spherical(family: Any) -> Field:
    base = fields(family.base)

    def project(x: Vector, v: Vector) -> Vector:
        along = dot(x, v) / dot(x, x)
        return [p - along * q for p, q in zip(v, x, strict=True)]

    return lambda x: [project(x, v) for v in base(x)]


def _cutoff(family: Any) -> Field:
    base, inner, outer = fields(family.base), arb(family.radius) ** 2, arb(family.outer) ** 2

    def chi(x: Vector) -> Any:
        tau = (dot(x, x) - inner) / (outer - inner)
        if tau <= 0 or tau >= 1:
            return arb(int(tau <= 0))
        return 1 / (1 + (1 / (1 - tau) - 1 / tau).exp())

    return lambda x: [[chi(x) * p for p in v] for v in base(x)]


WRITTEN: dict[type, Callable[[Any], Field]] = {
    cn.PolynomialFields: _polynomial,
    cn.LinearFields: _linear,
    cn.RidgeFields: _ridge,
    cn.UniversalFields: _universal,
    cn.ExpressionFields: _expression,
    cn.ConvFields: _convolutional,
    cn.SphericalFields: _spherical,
    cn.Cutoff: _cutoff,
}


def tableaus() -> dict[str, tuple[list[Vector], Vector]]:
    """(A, b) of every method, from other sources than the package: the textbook, SciPy, torchode."""
    from torchode import Tsit5

    third = arb(1) / 3
    of_torchode = Tsit5.TABLEAU
    found = {
        "euler": ([[]], [1]),
        "midpoint": ([[], [0.5]], [0, 1]),
        "heun": ([[], [1]], [0.5, 0.5]),
        "heun3": ([[], [third], [0, 2 * third]], [0.25, 0, 0.75]),
        "rk4": ([[], [0.5], [0, 0.5], [0, 0, 1]], [third / 2, third, third, third / 2]),
        "rk38": ([[], [third], [-third, 1], [1, -1, 1]], [0.125, 0.375, 0.375, 0.125]),
        "bosh3": (RK23.A.tolist(), RK23.B.tolist()),
        "dopri5": (RK45.A.tolist(), RK45.B.tolist()),
        "tsit5": (of_torchode.a.tolist(), of_torchode.b.tolist()),
    }
    return {name: (deep([row[:j] for j, row in enumerate(a)]), deep(b)) for name, (a, b) in found.items()}


def velocity(field: Field, x: Vector, u: Vector) -> Vector:
    """sum_i u_i V_i(x)."""
    return [dot(u, column) for column in zip(*field(x), strict=True)]


def flow(field: Field, table: tuple[list[Vector], Vector], x: Vector, controls: list[Vector]) -> Vector:
    """One step on each of the control's intervals of [0, 1]."""
    a, b = table
    h = arb(1) / len(controls)
    for u in controls:
        slopes: list[Vector] = []
        for row in a:
            slopes.append(velocity(field, _along(x, h, row, slopes), u))
        x = _along(x, h, b, slopes)
    return x


def _along(x: Vector, h: Any, weights: Sequence[Any], slopes: list[Vector]) -> Vector:
    return [v + h * dot(list(weights[: len(slopes)]), [k[j] for k in slopes]) for j, v in enumerate(x)]


def solution(field: Field, x: Vector, controls: list[Vector], parts: int = 6, columns: int = 10) -> Vector:
    """X_1 of the ODE itself, by Gragg's midpoint rule extrapolated: Hairer, Norsett and Wanner, section II.9.

    Raises:
        ArithmeticError: the last two extrapolations differ by more than 1e-17.
    """
    # The balls grow with every extrapolation, by what numbers do not: digits are cheap.
    with ctx.workdps(200):
        return _extrapolated(field, x, [u for u in controls for _ in range(parts)], columns)


def _extrapolated(field: Field, x: Vector, controls: list[Vector], columns: int) -> Vector:
    h = arb(1) / len(controls)
    for u in controls:
        table: list[list[Vector]] = []
        for k in range(1, columns + 1):
            row = [_gragg(field, x, u, h, 2 * k)]
            for j, before in enumerate(table[-1] if table else []):
                ratio = arb(k) ** 2 / arb(k - j - 1) ** 2 - 1
                row.append([q + (q - p) / ratio for q, p in zip(row[-1], before, strict=True)])
            table.append(row)
        x = table[-1][-1]
        if not max(abs(float(p - q)) for p, q in zip(x, table[-2][-1], strict=True)) < 1e-17:
            raise ArithmeticError("More parts are needed.")
    return x


def _gragg(field: Field, x: Vector, u: Vector, width: Any, steps: int) -> Vector:
    h = width / steps
    before, now = x, [p + h * v for p, v in zip(x, velocity(field, x, u), strict=True)]
    for _ in range(steps - 1):
        before, now = now, [p + 2 * h * v for p, v in zip(before, velocity(field, now, u), strict=True)]
    # His smoothing step.
    last = velocity(field, now, u)
    return [(p + q + h * v) / 2 for p, q, v in zip(before, now, last, strict=True)]


def gradient(function: Callable[[list[Any]], Any], at: list[Any]) -> list[Any]:
    """Of a scalar function of numbers: central differences."""
    found = []
    for i in range(len(at)):
        sides = [function([*at[:i], at[i] + sign * STEP, *at[i + 1 :]]) for sign in (1, -1)]
        found.append((sides[0] - sides[1]) / (2 * STEP))
    return found


def rest(W: list[Vector], U: list[Vector], b: Vector, x: Vector) -> Vector:
    """z = tanh(W z + U x + b), by as many repetitions as 50 digits take where |W| <= 0.7."""
    z = [arb(0)] * len(b)
    inward = [dot(row, x) + c for row, c in zip(U, b, strict=True)]
    for _ in range(340):
        z = [(dot(row, z) + c).tanh() for row, c in zip(W, inward, strict=True)]
    return z
