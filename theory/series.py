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

Rule = Callable[[int], Residues]


class PowerSeries(RingArray):
    """An array of power series in t: coefficients are centred residues in float64, one array of them an order.

    Attributes:
        modulus: p < 2**20.
        still: a series of its first coefficient alone.
    """

    __slots__ = ("_found", "_rule", "_shape", "modulus", "still")

    def __init__(self, shape: Sequence[int], modulus: int, rule: Rule, *, still: bool = False) -> None:
        """A series whose n-th coefficient rule(n) finds from its own earlier ones and from other series."""
        self._shape, self.modulus, self._rule, self.still = tuple(shape), modulus, rule, still
        self._found: list[Residues] = []

    @classmethod
    def of(cls, value: Residues, modulus: int) -> PowerSeries:
        """Constants, by their centred residues."""
        zero = np.zeros_like(value)
        return cls(value.shape, modulus, lambda n: zero if n else value, still=True)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array of series."""
        return self._shape

    def coefficient(self, n: int) -> Residues:
        """The coefficient of t**n, shape as the array's."""
        while len(self._found) <= n:
            self._found.append(self._rule(len(self._found)))
        return self._found[n]

    def constant(self, numbers: ExactArray) -> PowerSeries:
        """Exact rationals as constants."""
        return PowerSeries.of(centred(numbers.residues(self.modulus), self.modulus), self.modulus)

    def _map(self, shape: Sequence[int], function: Callable[[Residues], Residues]) -> PowerSeries:
        """What is done to every coefficient alike."""
        return PowerSeries(shape, self.modulus, lambda n: function(self.coefficient(n)), still=self.still)

    def _join(self, other: PowerSeries, function: Callable[[Residues, Residues], Residues]) -> PowerSeries:
        p = self.modulus
        return PowerSeries(
            np.broadcast_shapes(self.shape, other.shape),
            p,
            lambda n: reduce(function(self.coefficient(n), other.coefficient(n)), p),
            still=self.still and other.still,
        )

    def __add__(self, other: PowerSeries) -> PowerSeries:
        return self._join(other, np.add)

    def __sub__(self, other: PowerSeries) -> PowerSeries:
        return self._join(other, np.subtract)

    def __mul__(self, other: PowerSeries) -> PowerSeries:
        shape, p = np.broadcast_shapes(self.shape, other.shape), self.modulus
        if self.still or other.still:
            one, many = (self, other) if self.still else (other, self)
            return PowerSeries(
                shape, p, lambda n: reduce(one.coefficient(0) * many.coefficient(n), p), still=one.still and many.still
            )

        def rule(n: int) -> Residues:
            total = self.coefficient(0) * other.coefficient(n)
            part = np.empty_like(total)
            for k in range(1, n + 1):
                np.multiply(self.coefficient(k), other.coefficient(n - k), out=part)
                total += part
            return reduce(total, p)

        return PowerSeries(shape, p, rule)

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
            still=all(part.still for part in parts),
        )

    def transpose(self, *axes: int) -> PowerSeries:
        """The series with their axes in another order."""
        return self._map([self.shape[axis] for axis in axes], lambda c: c.transpose(axes))

    def linear(self, matrix: PowerSeries) -> PowerSeries:
        """A matrix of constants times the last axis."""
        by, p = matrix.coefficient(0).T, self.modulus
        return self._map((*self.shape[:-1], matrix.shape[0]), lambda c: product(c, by, p))

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
        p = self.modulus
        found: PowerSeries

        def rule(n: int) -> Residues:
            if n == 0:
                return inverses(self.coefficient(0), p)
            total = self.coefficient(1) * found.coefficient(n - 1)
            for k in range(2, n + 1):
                total += self.coefficient(k) * found.coefficient(n - k)
            return reduce(-reduce(total, p) * found.coefficient(0), p)

        found = PowerSeries(self.shape, p, rule, still=self.still)
        return found


def inverses(values: Residues, p: int) -> Residues:
    """The inverses of residues, entry by entry; a ZeroDivisionError where one is 0."""
    if not values.all():
        raise ZeroDivisionError(f"0 has no inverse modulo {p}")
    unique, places = np.unique(values, return_inverse=True)
    return np.array([inverse(value, p) for value in unique])[places].reshape(values.shape)
