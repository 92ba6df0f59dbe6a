"""Power series modulo a prime whose coefficients are found one after another, as those of an ODE's solution are.

A program is run once on such series and leaves a graph of them; asking for a coefficient then works out what it
needs, up to that order and no further (van der Hoeven, "Relax, but don't be too lazy", 2002, in its simplest form).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from theory.exact import ExactArray
from theory.modular import IntArray
from theory.rings import RingArray
from theory.rowspace import Residues, centred, inverse, product, reduce

# Numbers that stencils read at a time: they should stay in a processor's cache.
_READ = 2**17

Rule = Callable[[int], Residues]


class PowerSeries(RingArray):
    """An array of power series in t: coefficients are centred residues in float64, one array of them an order.

    Attributes:
        modulus: p < 2**20.
        degree: that of polynomials in t, or a bound of it: 0 for constants. None where nothing is known of it.
    """

    __slots__ = ("_found", "_kept", "_rule", "_shape", "degree", "modulus")

    def __init__(self, shape: Sequence[int], modulus: int, rule: Rule, *, degree: int | None = None) -> None:
        """A series whose n-th coefficient rule(n) finds from its own earlier ones and from other series.

        A rule should not hold the series itself: large arrays would wait for the collector of cycles.
        """
        self._shape, self.modulus, self._rule, self.degree = tuple(shape), modulus, rule, degree
        self._found: list[Residues] = []
        self._kept = True

    @classmethod
    def of(cls, value: Residues, modulus: int) -> PowerSeries:
        """Constants, by their centred residues."""
        return cls.polynomial(value[None], modulus)

    @classmethod
    def polynomial(cls, coefficients: Residues, modulus: int) -> PowerSeries:
        """Polynomials in t, by the centred residues of coefficients[k] of t**k."""
        return cls(coefficients.shape[1:], modulus, coefficients.__getitem__, degree=len(coefficients) - 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array of series."""
        return self._shape

    def coefficient(self, n: int) -> Residues:
        """The coefficient of t**n, shape as the array's."""
        if self.degree is not None and n > self.degree:
            return np.zeros(self._shape)
        if not self._kept:
            return self._rule(n)
        while len(self._found) <= n:
            self._found.append(self._rule(len(self._found)))
        return self._found[n]

    def once(self) -> PowerSeries:
        """This series, whose coefficients are not kept: each is asked for once."""
        self._kept = False
        return self

    def constant(self, numbers: ExactArray) -> PowerSeries:
        """Exact rationals as constants."""
        return PowerSeries.of(centred(numbers.residues(self.modulus), self.modulus), self.modulus)

    def _map(self, shape: Sequence[int], function: Callable[[Residues], Residues]) -> PowerSeries:
        """What is done to every coefficient alike."""
        return PowerSeries(shape, self.modulus, lambda n: function(self.coefficient(n)), degree=self.degree)

    def _join(self, other: PowerSeries, function: Callable[[Residues, Residues], Residues]) -> PowerSeries:
        p = self.modulus
        return PowerSeries(
            np.broadcast_shapes(self.shape, other.shape),
            p,
            lambda n: reduce(function(self.coefficient(n), other.coefficient(n)), p),
            degree=_most(self.degree, other.degree),
        )

    def __add__(self, other: PowerSeries) -> PowerSeries:
        return self._join(other, np.add)

    def __sub__(self, other: PowerSeries) -> PowerSeries:
        return self._join(other, np.subtract)

    def __mul__(self, other: PowerSeries) -> PowerSeries:
        one, many, p = self, other, self.modulus

        def rule(n: int) -> Residues:
            first, *others = _orders(one, many, n)
            total = one.coefficient(first) * many.coefficient(n - first)
            part = np.empty_like(total)
            for k in others:
                np.multiply(one.coefficient(k), many.coefficient(n - k), out=part)
                total += part
            return reduce(total, p)

        return PowerSeries(np.broadcast_shapes(one.shape, many.shape), p, rule, degree=_total(one, many))

    def __matmul__(self, other: PowerSeries) -> PowerSeries:
        """Products of the matrices in the last two axes."""
        one, many, p = self, other, self.modulus

        def rule(n: int) -> Residues:
            # Coefficients side by side, and one below the other: one product of matrices.
            orders = _orders(one, many, n)
            wide = np.concatenate([one.coefficient(k) for k in orders], axis=-1)
            return product(wide, np.concatenate([many.coefficient(n - k) for k in orders], axis=-2), p)

        stack = np.broadcast_shapes(one.shape[:-2], many.shape[:-2])
        return PowerSeries((*stack, one.shape[-2], many.shape[-1]), p, rule, degree=_total(one, many))

    def stencil(self, index: IntArray, vectors: PowerSeries) -> PowerSeries:
        """As `RingArray.stencil`, some positions at a time, so that what they read is never held for all."""
        one, many, p = self, vectors, self.modulus
        points, positions, rows, size = one.shape
        shape = points, positions, rows, many.shape[2]
        step = max(1, _READ // max(1, points * size * many.shape[2]))

        def rule(n: int) -> Residues:
            orders, out = _orders(one, many, n), np.empty(shape)
            for start in range(0, positions, step):
                here = slice(start, start + step)
                out[:, here] = sum(
                    product(one.coefficient(k)[:, here], many.coefficient(n - k)[:, index[here]], p) for k in orders
                )
            return reduce(out, p)

        return PowerSeries(shape, p, rule, degree=_total(one, many))

    def __getitem__(self, index: Any) -> PowerSeries:
        shape = np.empty(self.shape, dtype=np.bool_)[index].shape
        return self._map(shape, lambda c: c[index])

    def reshape(self, *shape: int) -> PowerSeries:
        """The series in another shape."""
        wanted = np.empty(self.shape, dtype=np.bool_).reshape(shape).shape
        return self._map(wanted, lambda c: c.reshape(wanted))

    def join(self, others: Sequence[PowerSeries], axis: int) -> PowerSeries:
        """Series one after the other along an axis."""
        parts = [self, *others]
        shape = list(self.shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        return PowerSeries(
            shape,
            self.modulus,
            lambda n: np.concatenate([part.coefficient(n) for part in parts], axis=axis),
            degree=_most(*(part.degree for part in parts)),
        )

    def transpose(self, *axes: int) -> PowerSeries:
        """The series with their axes in another order."""
        return self._map([self.shape[axis] for axis in axes], lambda c: c.transpose(axes))

    def linear(self, matrix: PowerSeries) -> PowerSeries:
        """A matrix of constants, or of polynomials in t, times the last axis."""
        p = self.modulus
        if matrix.degree is None:
            raise ValueError("the matrix is made of series that do not end, expected constants or polynomials in t")
        # Coefficients side by side, and one below the other: one product of matrices.
        tall = np.concatenate([matrix.coefficient(k).T for k in range(matrix.degree + 1)])

        def rule(n: int) -> Residues:
            orders = _orders(matrix, self, n)
            wide = [self.coefficient(n - k) for k in orders]
            by = tall[orders.start * matrix.shape[1] : orders.stop * matrix.shape[1]]
            return product(wide[0] if len(wide) == 1 else np.concatenate(wide, axis=-1), by, p)

        return PowerSeries((*self.shape[:-1], matrix.shape[0]), p, rule, degree=_total(self, matrix))

    def gather(self, index: IntArray) -> PowerSeries:
        """Series of the last axis at an index array; -1 reads zero."""
        index = np.asarray(index)
        shape = (*self.shape[:-1], *index.shape)
        if (index < 0).all():
            return PowerSeries.of(np.zeros(shape), self.modulus)
        if (index >= 0).all():
            return self._map(shape, lambda c: c[..., index])

        def padded(c: Residues) -> Residues:
            return np.concatenate([c, np.zeros((*c.shape[:-1], 1))], axis=-1)[..., index]

        return self._map(shape, padded)

    def sum(self) -> PowerSeries:
        """The sum over the last axis."""
        p = self.modulus
        return self._map(self.shape[:-1], lambda c: reduce(c.sum(axis=-1), p))

    def reciprocal(self) -> PowerSeries:
        """One over each series; a ZeroDivisionError where a first coefficient is 0."""
        p, found = self.modulus, list[Residues]()

        def rule(n: int) -> Residues:
            if n == 0:
                found.append(inverses(self.coefficient(0), p))
            else:
                total = self.coefficient(1) * found[n - 1]
                for k in range(2, n + 1):
                    total += self.coefficient(k) * found[n - k]
                found.append(reduce(-reduce(total, p) * found[0], p))
            return found[n]

        return PowerSeries(self.shape, p, rule, degree=None if self.degree else self.degree)


def _orders(one: PowerSeries, many: PowerSeries, n: int) -> range:
    """The orders of the first factor that make coefficient n of a product: at least one, and none that are zero."""
    first = 0 if many.degree is None else max(0, n - many.degree)
    return range(first, n + 1 if one.degree is None else min(n, one.degree) + 1)


def _total(one: PowerSeries, many: PowerSeries) -> int | None:
    """The degree of a product; None where it is not known."""
    return None if one.degree is None or many.degree is None else one.degree + many.degree


def _most(*degrees: int | None) -> int | None:
    """The largest degree; None where one is not known."""
    known = [degree for degree in degrees if degree is not None]
    return max(known) if len(known) == len(degrees) else None


def inverses(values: Residues, p: int) -> Residues:
    """The inverses of residues, entry by entry; a ZeroDivisionError where one is 0."""
    if not values.all():
        raise ZeroDivisionError(f"0 has no inverse modulo {p}")
    unique, places = np.unique(values, return_inverse=True)
    return np.array([inverse(value, p) for value in unique])[places].reshape(values.shape)
