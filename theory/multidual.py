"""Numbers with several nilpotents: s_1**2 = .. = s_L**2 = 0, so that derivatives along L directions are exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from theory.exact import ExactArray
from theory.modular import IntArray
from theory.rings import RingArray
from theory.rowspace import Residues, centred, product, reduce
from theory.series import inverses

Bilinear = Callable[[Residues, Residues], Residues]


class MultiDual(RingArray):
    """An array of sums over sets S of {1..L} of c_S times the product of the s_l with l in S.

    Attributes:
        values: centred residues, shape (2**L, *shape); the bits of the first index say which s_l take part.
        modulus: p < 2**20.
    """

    __slots__ = ("modulus", "values")

    def __init__(self, values: Residues, modulus: int) -> None:
        self.values, self.modulus = values, modulus

    @classmethod
    def of(cls, value: Residues, nilpotents: int, modulus: int) -> MultiDual:
        """Plain numbers, by their centred residues."""
        values = np.zeros((2**nilpotents, *value.shape))
        values[0] = value
        return cls(values, modulus)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array of numbers."""
        return self.values.shape[1:]

    def _like(self, values: Residues) -> MultiDual:
        return MultiDual(values, self.modulus)

    def constant(self, numbers: ExactArray) -> MultiDual:
        """Exact rationals as plain numbers."""
        value = centred(numbers.residues(self.modulus), self.modulus)
        return MultiDual.of(value, len(self.values).bit_length() - 1, self.modulus)

    def __add__(self, other: MultiDual) -> MultiDual:
        return self._like(reduce(_aligned(self, other) + _aligned(other, self), self.modulus))

    def __sub__(self, other: MultiDual) -> MultiDual:
        return self._like(reduce(_aligned(self, other) - _aligned(other, self), self.modulus))

    def __mul__(self, other: MultiDual) -> MultiDual:
        return self._like(bilinear(self.values, other.values, np.multiply, self.modulus))

    def __matmul__(self, other: MultiDual) -> MultiDual:
        """Products of the matrices in the last two axes."""
        return self._like(bilinear(self.values, other.values, np.matmul, self.modulus))

    def times(self, nilpotent: int) -> MultiDual:
        """The product with s_nilpotent, counted from 0."""
        bit = 1 << nilpotent
        values = np.zeros_like(self.values)
        without = np.flatnonzero((np.arange(len(values)) & bit) == 0)
        values[without | bit] = self.values[without]
        return self._like(values)

    def __getitem__(self, index: Any) -> MultiDual:
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, np.ndarray | list) for part in parts):
            # Behind another axis numpy would put the axes of index arrays elsewhere.
            return self._like(np.stack([value[index] for value in self.values]))
        return self._like(self.values[(slice(None), *parts)])

    def reshape(self, *shape: int) -> MultiDual:
        """The numbers in another shape."""
        return self._like(self.values.reshape(len(self.values), *shape))

    def join(self, others: Sequence[MultiDual], axis: int) -> MultiDual:
        """Numbers one after the other along an axis."""
        return self._like(np.concatenate([self.values, *(other.values for other in others)], axis=axis + 1))

    def transpose(self, *axes: int) -> MultiDual:
        """The numbers with their axes in another order."""
        return self._like(self.values.transpose(0, *(axis + 1 for axis in axes)))

    def linear(self, matrix: MultiDual) -> MultiDual:
        """A matrix of plain numbers times the last axis."""
        return self._like(product(self.values, matrix.values[0].T, self.modulus))

    def gather(self, index: IntArray) -> MultiDual:
        """Numbers of the last axis at an index array; -1 reads zero."""
        padding = np.zeros((*self.values.shape[:-1], 1))
        return self._like(np.concatenate([self.values, padding], axis=-1)[..., index])

    def sum(self) -> MultiDual:
        """The sum over the last axis."""
        return self._like(reduce(self.values.sum(axis=-1), self.modulus))

    def reciprocal(self) -> MultiDual:
        """One over each number; a ZeroDivisionError where its plain part is 0."""
        return self._like(_reciprocal(self.values, self.modulus))


def bilinear(a: Residues, b: Residues, function: Bilinear, p: int) -> Residues:
    """A product of multi-dual arrays, nilpotent by nilpotent: (a + a' s)(b + b' s) = ab + (ab' + a'b) s."""
    if len(a) == 1:
        return reduce(function(a[0], b[0]), p)[None]
    half = len(a) // 2
    low = bilinear(a[:half], b[:half], function, p)
    high = np.zeros_like(low)
    # Much is zero where a nilpotent has not come in yet.
    if b[half:].any():
        high += bilinear(a[:half], b[half:], function, p)
    if a[half:].any():
        high += bilinear(a[half:], b[:half], function, p)
    return np.concatenate([low, reduce(high, p)])


def _reciprocal(a: Residues, p: int) -> Residues:
    if len(a) == 1:
        return inverses(a[0], p)[None]
    half = len(a) // 2
    low = _reciprocal(a[:half], p)
    high = bilinear(bilinear(low, low, np.multiply, p), -a[half:], np.multiply, p)
    return np.concatenate([low, high])


def _aligned(one: MultiDual, other: MultiDual) -> Residues:
    """The values with as many axes as the other's, so that numpy broadcasts them behind the first."""
    missing = len(other.shape) - len(one.shape)
    return one.values if missing <= 0 else one.values.reshape(len(one.values), *[1] * missing, *one.shape)
