"""sum_i u_i V_i(x) as users of the peers write it, for torch and for JAX alike.

There is more than one good way to write it, and which one is the faster depends on the sizes: a peer gets the one that
is faster on the row at hand, found by a try.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import cde_nets as cn
from benchmarks.flows.rows import DEGREE

# x, shape (batch, dim), and u, shape (count,), to the velocity, shape (batch, dim); constants first.
Velocity = Callable[[Any, Any, Any], Any]
Linear = Callable[[Any, Any, Any], Any]


class Way(NamedTuple):
    """One way to write a velocity.

    Attributes:
        name: for the tables.
        collapsed: the d fields are summed to one before they meet a state.
        constants: the fields' numbers, arrays.
        velocity: (constants, x, u) to the velocity.
    """

    name: str
    collapsed: bool
    constants: tuple[np.ndarray[Any, Any], ...]
    velocity: Velocity


def ways(fields: cn.RidgeFields | cn.PolynomialFields, xp: Any, linear: Linear) -> list[Way]:
    """All ways for a family.

    Args:
        fields: of degree 2 where they are polynomial.
        xp: the module of array functions, `torch` or `jax.numpy`.
        linear: (x, W, b) to x W^T + b, the library's own.
    """
    if isinstance(fields, cn.RidgeFields):
        return _ridge(fields, linear)
    return _polynomial(fields, xp, linear)


def _ridge(fields: cn.RidgeFields, linear: Linear) -> list[Way]:
    d, m = fields.count, fields.dim
    constants = (
        fields.matrices.numpy().reshape(d * m, m),
        fields.offsets.numpy().reshape(d * m),
        fields.polynomials.numpy(),
    )

    def natural(constants: Any, x: Any, u: Any) -> Any:
        C, b, s = constants
        z = linear(x, C, b).reshape(x.shape[0], d, m)
        values = s[:, -1, None]
        for power in range(fields.degree - 1, -1, -1):
            values = values * z + s[:, power, None]
        return (u[:, None] * values).sum(1)

    def folded(constants: Any, x: Any, u: Any) -> Any:
        C, b, s = constants
        z = linear(x, C, b).reshape(x.shape[0], d, m)
        # u_i goes into the coefficients, which are few, and the constant ones are summed by themselves.
        c = u[:, None] * s
        values = c[:, -1, None]
        for power in range(fields.degree - 1, 0, -1):
            values = values * z + c[:, power, None]
        return (values * z).sum(1) + c[:, 0].sum()

    return [Way("d fields", False, constants, natural), Way("d fields, u folded in", False, constants, folded)]


def _polynomial(fields: cn.PolynomialFields, xp: Any, linear: Linear) -> list[Way]:
    if fields.degree != DEGREE:
        raise ValueError(f"The peers' monomials are written for degree {DEGREE}; got {fields.degree}.")
    d, m = fields.count, fields.dim
    A = fields.coefficients.numpy()
    exponents = np.asarray(fields.exponents)
    degrees = exponents.sum(1)
    # The two variables of every monomial of degree 2.
    pairs = np.array([np.repeat(np.arange(m), row) for row in exponents[degrees == DEGREE]])
    one, alone = np.flatnonzero(degrees == 0), np.argmax(exponents[degrees == 1], axis=1)
    linear_part = np.empty((d, m, m), A.dtype)
    linear_part[:, :, alone] = A[:, :, degrees == 1]
    quadratic = A[:, :, degrees == DEGREE]
    gathered = np.concatenate([A[:, :, one], linear_part, quadratic], axis=2)
    square = np.zeros((d, m, m, m), A.dtype)
    square[:, :, pairs[:, 0], pairs[:, 1]] = quadratic
    outer = np.concatenate([A[:, :, one], linear_part, square.reshape(d, m, m * m)], axis=2)

    def gather(x: Any, left: Any, right: Any) -> Any:
        return xp.concatenate([xp.ones_like(x[:, :1]), x, x[:, left] * x[:, right]], 1)

    def product(x: Any) -> Any:
        every = (x[:, :, None] * x[:, None, :]).reshape(x.shape[0], m * m)
        return xp.concatenate([xp.ones_like(x[:, :1]), x, every], 1)

    def natural(features: Callable[..., Any]) -> Velocity:
        def velocity(constants: Any, x: Any, u: Any) -> Any:
            A, *indices = constants
            values = features(x, *indices) @ A.reshape(d * m, -1).T
            return (u[:, None] * values.reshape(x.shape[0], d, m)).sum(1)

        return velocity

    def collapsed(features: Callable[..., Any]) -> Velocity:
        def velocity(constants: Any, x: Any, u: Any) -> Any:
            A, *indices = constants
            W = (u @ A.reshape(d, -1)).reshape(m, -1)
            return features(x, *indices) @ W.T

        return velocity

    some, full = (gathered, pairs[:, 0], pairs[:, 1]), (outer,)
    return [
        Way("d fields, products i <= j", False, some, natural(gather)),
        Way("d fields, all products", False, full, natural(product)),
        Way("collapsed, products i <= j", True, some, collapsed(gather)),
        Way("collapsed, all products", True, full, collapsed(product)),
    ]
