"""Interval arithmetic: real numbers enclosed in balls, by python-flint's arb."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from theory.exact import ExactArray, ObjectArray
from theory.modular import IntArray
from theory.rings import RingArray


def require_flint() -> ModuleType:
    """The module flint.

    Raises:
        ImportError: python-flint is not installed.
    """
    try:
        import flint
    except ImportError:
        raise ImportError(
            'interval arithmetic needs python-flint, which is not installed: pip install "cde-nets[proof]"'
        ) from None
    return flint


class Balls(RingArray):
    """Real numbers, each known to lie in a ball [centre - radius, centre + radius].

    Every operation returns balls that hold all results for all numbers in the balls it was given: rounding, at the
    precision of `flint.ctx`, is added to the radii. Balls are no ring, as x - x is only known to hold 0, but a program
    that runs over them encloses its values. F. Johansson, "Arb: efficient arbitrary-precision midpoint-radius interval
    arithmetic", IEEE Transactions on Computers 66(8), 2017.

    Attributes:
        values: `flint.arb` numbers in an object array.
    """

    __slots__ = ("values",)

    def __init__(self, values: ObjectArray) -> None:
        self.values = values

    @classmethod
    def of(cls, numbers: ExactArray) -> Balls:
        """Balls around exact numbers; of radius 0 where the precision holds them."""
        return cls(_enclosed(numbers, require_flint().ctx.prec))

    @classmethod
    def floats(cls, numbers: npt.NDArray[np.float64]) -> Balls:
        """Finite floats as the dyadic rationals they are: balls of radius 0."""
        arb = require_flint().arb
        return cls(_objects([arb(value) for value in numbers.ravel().tolist()], numbers.shape))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array of numbers."""
        return self.values.shape

    def constant(self, numbers: ExactArray) -> Balls:
        """Exact rationals in balls."""
        return Balls.of(numbers)

    def __add__(self, other: Balls) -> Balls:
        return Balls(np.asarray(self.values + other.values, dtype=object))

    def __sub__(self, other: Balls) -> Balls:
        return Balls(np.asarray(self.values - other.values, dtype=object))

    def __mul__(self, other: Balls) -> Balls:
        return Balls(np.asarray(self.values * other.values, dtype=object))

    def __matmul__(self, other: Balls) -> Balls:
        """Products of the matrices in the last two axes; the axes before are the same in both."""
        *lead, rows, inner = self.shape
        columns = other.shape[-1]
        left, right = self.values.reshape(-1, rows, inner), other.values.reshape(-1, inner, columns)
        products = [_product(one, two) for one, two in zip(left, right, strict=True)]
        return Balls(np.array(products, dtype=object).reshape(*lead, rows, columns))

    def __getitem__(self, index: Any) -> Balls:
        return Balls(np.asarray(self.values[index], dtype=object))

    def reshape(self, *shape: int) -> Balls:
        """The numbers in another shape."""
        return Balls(self.values.reshape(shape))

    def join(self, others: Sequence[Balls], axis: int) -> Balls:
        """Numbers one after the other along an axis."""
        return Balls(np.concatenate([self.values, *(other.values for other in others)], axis=axis))

    def transpose(self, *axes: int) -> Balls:
        """The numbers with their axes in another order."""
        return Balls(self.values.transpose(axes))

    def linear(self, matrix: Balls) -> Balls:
        """A matrix times the last axis."""
        flat = self.values.reshape(-1, self.shape[-1])
        return Balls(_product(flat, matrix.values.T).reshape(*self.shape[:-1], matrix.shape[0]))

    def gather(self, index: IntArray) -> Balls:
        """Numbers of the last axis at an index array; -1 reads zero."""
        padding = np.full((*self.shape[:-1], 1), require_flint().arb(0), dtype=object)
        return Balls(np.concatenate([self.values, padding], axis=-1)[..., index])

    def sum(self) -> Balls:
        """The sum over the last axis."""
        return Balls(np.asarray(self.values.sum(axis=-1), dtype=object))

    def reciprocal(self) -> Balls:
        """One over each number; a ZeroDivisionError where a ball holds 0."""
        numbers = self.values.ravel().tolist()
        if any(number.contains(0) for number in numbers):
            raise ZeroDivisionError("a ball that holds 0 has no reciprocal: its numbers are not known well enough")
        return Balls(_objects([1 / number for number in numbers], self.shape))

    def inverses(self) -> Balls:
        """The inverses of the matrices in the last two axes; a ZeroDivisionError where one may be singular."""
        arb_mat, m = require_flint().arb_mat, self.shape[-1]
        found = [_objects(arb_mat(one.tolist()).inv().entries(), (m, m)) for one in self.values.reshape(-1, m, m)]
        return Balls(np.array(found, dtype=object).reshape(self.shape))

    def centres(self) -> Balls:
        """The centres, balls of radius 0."""
        return Balls(_objects([number.mid() for number in self.values.ravel().tolist()], self.shape))

    def widened(self, radii: Balls) -> Balls:
        """Balls that hold every number within a radius of these; the radii have the same shape and are not negative."""
        arb = require_flint().arb
        pairs = zip(self.values.ravel().tolist(), radii.values.ravel().tolist(), strict=True)
        return Balls(_objects([number + arb(0, radius.abs_upper()) for number, radius in pairs], self.shape))

    def magnitudes(self) -> Balls:
        """Upper bounds of the absolute values, balls of radius 0."""
        return Balls(_objects([number.abs_upper() for number in self.values.ravel().tolist()], self.shape))

    def largest(self) -> Any:
        """The largest of the numbers' `magnitudes`, an arb of radius 0; NaN where there is one."""
        numbers = self.magnitudes().values.ravel().tolist()
        most = numbers[0]
        for number in numbers[1:]:
            most = most.max(number)
        return most

    def are_finite(self) -> bool:
        """Whether every ball is bounded."""
        return all(number.is_finite() for number in self.values.ravel().tolist())

    def rounded(self) -> npt.NDArray[np.float64]:
        """The centres as floats nearby: no bounds, for computations that prove nothing."""
        return np.array([float(number.mid()) for number in self.values.ravel().tolist()]).reshape(self.shape)


def upper(number: Any) -> float:
    """A float that is no less than any number in a ball; infinite where the ball is not bounded."""
    most = number.upper()
    if not most.is_finite():
        return math.inf
    value = float(most)
    # Converted to the nearest float, which may be below.
    while not require_flint().arb(value) >= most:
        value = math.nextafter(value, math.inf)
    return value


def lower(number: Any) -> float:
    """A float that is no more than any number in a ball; minus infinity where the ball is not bounded."""
    return -upper(-number)


@lru_cache(maxsize=16)
def _enclosed(numbers: ExactArray, precision: int) -> ObjectArray:
    """Exact numbers in balls of this precision, that of `flint.ctx`.

    The last arrays are remembered, by identity: a flow asks for the same coefficients at every stage.
    """
    flint = require_flint()
    q = np.ones(numbers.shape, dtype=np.int64) if numbers.denominators is None else numbers.denominators
    triples = zip(numbers.numerators.flat, numbers.exponents.flat, q.flat, strict=True)
    # Integers make exact balls, of any length; what rounds is the division.
    found = _objects([flint.arb((int(n), int(e))) / int(d) for n, e, d in triples], numbers.shape)
    found.setflags(write=False)
    return found


def _product(left: ObjectArray, right: ObjectArray) -> ObjectArray:
    arb_mat = require_flint().arb_mat
    product = arb_mat(left.tolist()) * arb_mat(right.tolist())
    return _objects(product.entries(), (left.shape[0], right.shape[1]))


def _objects(values: list[Any], shape: tuple[int, ...]) -> ObjectArray:
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out.reshape(shape)
