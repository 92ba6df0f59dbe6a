"""Arrays over a ring: residues modulo a prime, and exact rationals over a common denominator.

A program is written once, in the few operations of `RingArray`; whatever class has them can be put through it. The
classes here serve numbers. Truncated power series or multi-dual numbers need only these operations to follow the
same code.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from theory import modular
from theory.exact import ExactArray, ObjectArray
from theory.modular import IntArray

_ZERO = Fraction(0)


class RingArray(ABC):
    """An array of elements of a commutative ring: the operations that programs are written in.

    Shapes, indices and broadcasting are numpy's.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of the array of ring elements."""

    @abstractmethod
    def constant(self, numbers: ExactArray) -> Self:
        """Exact rationals as elements of this array's ring, of the same shape."""

    @abstractmethod
    def __add__(self, other: Self) -> Self: ...

    @abstractmethod
    def __sub__(self, other: Self) -> Self: ...

    @abstractmethod
    def __mul__(self, other: Self) -> Self: ...

    def __matmul__(self, other: Self) -> Self:
        """Products of the matrices in the last two axes: (..., a, k) by (..., k, b) to (..., a, b)."""
        axes = len(other.shape)
        turned = other.transpose(*range(axes - 2), axes - 1, axes - 2)
        return (self[..., :, None, :] * turned[..., None, :, :]).sum()

    @abstractmethod
    def __getitem__(self, index: Any) -> Self: ...

    @abstractmethod
    def reshape(self, *shape: int) -> Self:
        """The elements in another shape."""

    @abstractmethod
    def join(self, others: Sequence[Self], axis: int) -> Self:
        """These elements and others one after the other along an axis, counted from 0."""

    @abstractmethod
    def transpose(self, *axes: int) -> Self:
        """The elements with their axes in another order."""

    @abstractmethod
    def linear(self, matrix: Self) -> Self:
        """A matrix (rows, k) of constants times the last axis: (..., k) to (..., rows)."""

    @abstractmethod
    def gather(self, index: IntArray) -> Self:
        """Entries of the last axis at an index array, (..., k) to (..., *index.shape); the index -1 reads zero."""

    @abstractmethod
    def sum(self) -> Self:
        """The sum over the last axis."""

    @abstractmethod
    def reciprocal(self) -> Self:
        """One over each entry; a ZeroDivisionError where an entry has no inverse."""

    def once(self) -> Self:
        """The same; power series that are asked for once do not keep what they find."""
        return self

    def stencil(self, index: IntArray, vectors: Self) -> Self:
        """Small matrices (N, positions, rows, size) times vectors (N, m, w) at an index (positions, size).

        Entries whose index is -1 must be zero.
        """
        return self @ vectors.transpose(0, 2, 1).gather(index).transpose(0, 2, 3, 1)

    def zeros(self) -> Self:
        """Zeros in this array's shape."""
        return self.gather(np.full(self.shape[-1], -1))


Ring = TypeVar("Ring", bound=RingArray)


class Residues(RingArray):
    """Integers modulo a prime.

    Attributes:
        values: int64 in [0, modulus).
        modulus: a prime below 2**31, so that a product of two residues fits int64.
    """

    __slots__ = ("modulus", "values")

    def __init__(self, values: IntArray, modulus: int) -> None:
        self.values = values
        self.modulus = modulus

    @classmethod
    def of(cls, numbers: ExactArray, modulus: int) -> Residues:
        """The residues of exact numbers."""
        return cls(numbers.residues(modulus), modulus)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array of residues."""
        return self.values.shape

    def constant(self, numbers: ExactArray) -> Residues:
        """Exact rationals as residues."""
        return Residues.of(numbers, self.modulus)

    def __add__(self, other: Residues) -> Residues:
        return Residues((self.values + other.values) % self.modulus, self.modulus)

    def __sub__(self, other: Residues) -> Residues:
        return Residues((self.values - other.values) % self.modulus, self.modulus)

    def __mul__(self, other: Residues) -> Residues:
        return Residues(self.values * other.values % self.modulus, self.modulus)

    def __getitem__(self, index: Any) -> Residues:
        return Residues(self.values[index], self.modulus)

    def reshape(self, *shape: int) -> Residues:
        """The residues in another shape."""
        return Residues(self.values.reshape(shape), self.modulus)

    def join(self, others: Sequence[Residues], axis: int) -> Residues:
        """Residues one after the other along an axis."""
        return Residues(np.concatenate([self.values, *(other.values for other in others)], axis=axis), self.modulus)

    def transpose(self, *axes: int) -> Residues:
        """The residues with their axes in another order."""
        return Residues(self.values.transpose(axes), self.modulus)

    def linear(self, matrix: Residues) -> Residues:
        """A matrix of residues times the last axis."""
        flat = self.values.reshape(-1, self.shape[-1])
        product = modular.matmul(flat, matrix.values.T, self.modulus)
        return Residues(product.reshape(*self.shape[:-1], matrix.shape[0]), self.modulus)

    def gather(self, index: IntArray) -> Residues:
        """Residues of the last axis at an index array; -1 reads zero."""
        return Residues(_gather(self.values, index), self.modulus)

    def sum(self) -> Residues:
        """The sum over the last axis."""
        return Residues(self.values.sum(axis=-1) % self.modulus, self.modulus)

    def reciprocal(self) -> Residues:
        """The inverse of each residue."""
        p = self.modulus
        if not self.values.all():
            raise ZeroDivisionError(f"0 has no inverse modulo {p}")
        # Fermat: a**(p - 2) is the inverse of a.
        result, square, exponent = np.ones_like(self.values), self.values, p - 2
        while exponent:
            if exponent & 1:
                result = result * square % p
            square, exponent = square * square % p, exponent >> 1
        return Residues(result, p)


class Rationals(RingArray):
    """Rationals over one common denominator, so that no operation has to take greatest common divisors.

    Attributes:
        numerators: Python integers in an object array.
        denominator: a positive integer.
    """

    __slots__ = ("denominator", "numerators")

    def __init__(self, numerators: ObjectArray, denominator: int) -> None:
        self.numerators = numerators
        self.denominator = denominator

    @classmethod
    def of(cls, numbers: ExactArray) -> Rationals:
        """Exact numbers over a common denominator."""
        return cls(*numbers.integers())

    def fractions(self) -> ObjectArray:
        """The numbers as Fractions."""
        out = np.empty(self.shape, dtype=object)
        numerators: list[int] = self.numerators.ravel().tolist()
        out.ravel()[:] = [Fraction(n, self.denominator) if n else _ZERO for n in numerators]
        return out

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array of numbers."""
        return self.numerators.shape

    def constant(self, numbers: ExactArray) -> Rationals:
        """Exact rationals over their own common denominator."""
        return Rationals.of(numbers)

    def _aligned(self, other: Rationals) -> tuple[ObjectArray, ObjectArray, int]:
        if self.denominator == other.denominator:
            return self.numerators, other.numerators, self.denominator
        common = math.lcm(self.denominator, other.denominator)
        return (
            self.numerators * (common // self.denominator),
            other.numerators * (common // other.denominator),
            common,
        )

    def __add__(self, other: Rationals) -> Rationals:
        left, right, common = self._aligned(other)
        return Rationals(left + right, common)

    def __sub__(self, other: Rationals) -> Rationals:
        left, right, common = self._aligned(other)
        return Rationals(left - right, common)

    def __mul__(self, other: Rationals) -> Rationals:
        return Rationals(self.numerators * other.numerators, self.denominator * other.denominator)

    def __getitem__(self, index: Any) -> Rationals:
        return Rationals(self.numerators[index], self.denominator)

    def reshape(self, *shape: int) -> Rationals:
        """The numbers in another shape."""
        return Rationals(self.numerators.reshape(shape), self.denominator)

    def join(self, others: Sequence[Rationals], axis: int) -> Rationals:
        """Numbers one after the other along an axis, over a common denominator."""
        parts = [self, *others]
        common = math.lcm(*(part.denominator for part in parts))
        scaled = [part.numerators * (common // part.denominator) for part in parts]
        return Rationals(np.concatenate(scaled, axis=axis), common)

    def transpose(self, *axes: int) -> Rationals:
        """The numbers with their axes in another order."""
        return Rationals(self.numerators.transpose(axes), self.denominator)

    def linear(self, matrix: Rationals) -> Rationals:
        """A matrix of rationals times the last axis."""
        return Rationals(self.numerators @ matrix.numerators.T, self.denominator * matrix.denominator)

    def gather(self, index: IntArray) -> Rationals:
        """Numbers of the last axis at an index array; -1 reads zero."""
        return Rationals(_gather(self.numerators, index), self.denominator)

    def sum(self) -> Rationals:
        """The sum over the last axis."""
        return Rationals(np.asarray(self.numerators.sum(axis=-1), dtype=object), self.denominator)

    def reciprocal(self) -> Rationals:
        """One over each number, again over a common denominator."""
        common = math.lcm(*self.numerators.flat)
        if common == 0:
            raise ZeroDivisionError("0 has no inverse")
        return Rationals(np.asarray(common // self.numerators * self.denominator, dtype=object), common)


def _gather(values: npt.NDArray[Any], index: IntArray) -> npt.NDArray[Any]:
    # The index -1 reads the zero appended last.
    padding = np.zeros((*values.shape[:-1], 1), dtype=values.dtype)
    return np.concatenate([values, padding], axis=-1)[..., index]


def horner(z: Ring, coefficients: Sequence[Ring]) -> Ring:
    """The polynomial sum_j c_j z**j, entry by entry.

    Args:
        z: any shape.
        coefficients: c_0, c_1, .., at least one, each broadcast against z.

    Returns:
        The values, in the shape of z.
    """
    value = z.zeros() + coefficients[-1]
    for c in reversed(coefficients[:-1]):
        value = value * z + c
    return value


def horner_with_derivative(z: Ring, coefficients: Sequence[Ring]) -> tuple[Ring, Ring]:
    """The polynomial of `horner` and its derivative in z, entry by entry."""
    value, slope = z.zeros() + coefficients[-1], z.zeros()
    for k, c in enumerate(reversed(coefficients[:-1])):
        # Of degree one the slope is a constant, and series know it as one.
        value, slope = value * z + c, slope * z + value if k else value
    return value, slope
