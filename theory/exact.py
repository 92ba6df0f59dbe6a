"""Arrays of exact rational numbers, read from floats, integers and Fractions.

Every finite binary float is a dyadic rational, so the numbers that a network runs with can be handed to exact
arithmetic as they are. One form serves all inputs: an odd integer, a power of two and an odd denominator. For
floats the odd integer fits a machine word, so residues of a million coefficients are a few numpy operations.
"""

from __future__ import annotations

import math
import numbers
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from theory.modular import IntArray, check_modulus

ObjectArray = npt.NDArray[np.object_]


class NoResidueError(ValueError):
    """A number, or a point, that has no residue modulo a prime: another prime will do."""


class ExactArray:
    """An immutable array of rationals n * 2**e / q with n odd (or zero) and q odd, in lowest terms.

    The form is unique, so equal numbers have equal bytes whatever type they were given in. Build one with
    `exact_array`.

    Attributes:
        numerators: n, int64 where every n fits, else Python integers in an object array.
        exponents: e, int64, of the same shape; 0 where n is 0.
        denominators: q > 0 of the same shape, or None when all are 1 (floats and integers).
        name: what errors call these numbers.
    """

    __slots__ = ("_integers", "_residues", "denominators", "exponents", "name", "numerators")

    def __init__(
        self,
        numerators: npt.NDArray[Any],
        exponents: IntArray,
        denominators: npt.NDArray[Any] | None,
        name: str,
    ) -> None:
        self.numerators = numerators
        self.exponents = exponents
        self.denominators = denominators
        self.name = name
        self._residues: tuple[int, IntArray] | None = None
        self._integers: tuple[ObjectArray, int] | None = None
        for part in (numerators, exponents, denominators):
            if part is not None:
                part.setflags(write=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, as numpy's."""
        return self.numerators.shape

    def __len__(self) -> int:
        return len(self.numerators)

    def __repr__(self) -> str:
        return f"<exact {self.name} of shape {self.shape}>"

    def __getitem__(self, index: Any) -> ExactArray:
        """The entries at a numpy index."""

        def at(part: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return np.asarray(part[index], dtype=part.dtype)  # a single entry becomes an array of no dimensions

        q = self.denominators
        return ExactArray(at(self.numerators), at(self.exponents), None if q is None else at(q), self.name)

    def placed(self, shape: tuple[int, ...], index: Any) -> ExactArray:
        """An array of zeros of this shape whose entries at a numpy index are these numbers."""

        def spread(part: npt.NDArray[Any], rest: int) -> npt.NDArray[Any]:
            out = np.full(shape, rest, dtype=part.dtype)
            out[index] = part
            return out

        q = self.denominators
        return ExactArray(
            spread(self.numerators, 0), spread(self.exponents, 0), None if q is None else spread(q, 1), self.name
        )

    def fractions(self) -> ObjectArray:
        """The numbers as an object array of `fractions.Fraction`."""
        q = np.ones(self.shape, dtype=np.int64) if self.denominators is None else self.denominators
        out = np.empty(self.shape, dtype=object)
        triples = zip(self.numerators.flat, self.exponents.flat, q.flat, strict=True)
        out.ravel()[:] = [
            Fraction(int(n) << int(e), int(d)) if e >= 0 else Fraction(int(n), int(d) << -int(e)) for n, e, d in triples
        ]
        return out

    def integers(self) -> tuple[ObjectArray, int]:
        """The numbers over one common denominator: an object array of integers, and the denominator."""
        if self._integers is None:
            lowest = min(0, int(self.exponents.min(initial=0)))
            scaled = self.numerators.astype(object) << (self.exponents - lowest).astype(object)
            common = 1
            if self.denominators is not None:
                common = math.lcm(*(int(q) for q in set(self.denominators.flat)))
                scaled = scaled * (common // self.denominators.astype(object))
            scaled.setflags(write=False)
            self._integers = scaled, common << -lowest
        return self._integers

    def residues(self, modulus: int) -> IntArray:
        """The numbers modulo a prime p < 2**31, in [0, p), as int64.

        The last modulus is remembered, because a certificate asks for the same one many times.

        Raises:
            NoResidueError: p divides a denominator.
        """
        p = check_modulus(modulus)
        if self._residues is None or self._residues[0] != p:
            bad = self.exponents < 0 if p == 2 else np.zeros(self.shape, dtype=bool)
            if self.denominators is not None:
                bad = bad | (self.denominators % p == 0).astype(bool)
            if bad.any():
                where = tuple(int(i) for i in np.argwhere(bad)[0])
                raise NoResidueError(
                    f"{self.name}: the entry {where}, {self[where].fractions().item()}, has a denominator "
                    f"divisible by {p} and so no residue modulo {p}: take another prime"
                )
            residues = (self.numerators % p).astype(np.int64) * _powers_of_two(self.exponents, p) % p
            if self.denominators is not None:
                values, inverse = np.unique(self.denominators, return_inverse=True)
                table = np.array([pow(int(q), -1, p) for q in values], dtype=np.int64)
                residues = residues * table[inverse].reshape(self.shape) % p
            residues.setflags(write=False)
            self._residues = p, residues
        return self._residues[1]

    def canonical_bytes(self) -> bytes:
        """Bytes that depend on the shape and the numbers alone, and tell any two such arrays apart."""
        parts = [f"exact {self.shape}".encode()]
        for part in (self.numerators, self.exponents, self.denominators):
            if part is None:
                parts.append(b"ones")
            elif part.dtype == object:
                parts.append(b"text" + ",".join(map(str, part.flat)).encode())
            else:
                parts.append(b"word" + part.astype("<i8").tobytes())
        return b"".join(len(part).to_bytes(8, "little") + part for part in parts)


def _powers_of_two(exponents: IntArray, p: int) -> IntArray:
    """2**e modulo p, entry by entry; entries whose 2**e does not exist (p = 2, e < 0) must be refused before."""
    low, high = int(exponents.min(initial=0)), int(exponents.max(initial=0))
    power = pow(2, low, p)
    table = []
    for _ in range(high - low + 1):
        table.append(power)
        power = power * 2 % p
    return np.array(table, dtype=np.int64)[exponents - low]


def exact_array(values: npt.ArrayLike | ExactArray, name: str = "values") -> ExactArray:
    """Read numbers exactly.

    Args:
        values: an array, or nested lists, of integers, Fractions (any `numbers.Rational`) and binary floats of any
            precision, mixed as you like. A float stands for the dyadic rational it is: float32's 0.1 is
            13421773 / 2**27.
        name: what errors call these numbers.

    Returns:
        The same numbers, exactly; an `ExactArray` comes back as it is.

    Raises:
        ValueError: an entry is NaN or infinite; the message names the row.
        TypeError: an entry is no number of these kinds.

    >>> print(exact_array([0.75, 3]).fractions())
    [Fraction(3, 4) Fraction(3, 1)]
    """
    if isinstance(values, ExactArray):
        return values
    # Lists go through objects: numpy would round [2**63, -1] or [2**60 + 1, 0.5] to float64 without a word.
    if getattr(values, "requires_grad", False):
        raise ValueError(f"{name} wants a gradient, which exact numbers have not: detach it, x.detach()")
    if isinstance(values, np.ma.MaskedArray) and np.ma.getmaskarray(values).any():
        raise ValueError(f"{name} has masked entries, which are no numbers: fill them, or leave them out")
    array = _array(values) if hasattr(values, "__array__") else np.array(values, dtype=object)
    if array.dtype.kind == "f" and array.dtype.itemsize <= 8:
        return _from_floats(array.astype(np.float64), name)
    if array.dtype.kind == "i" or (array.dtype.kind == "u" and array.dtype.itemsize < 8):
        return _from_words(array.astype(np.int64), np.zeros(array.shape, dtype=np.int64), name)
    return _from_objects(array.astype(object), name)


def _array(values: Any) -> npt.NDArray[Any]:
    try:
        return np.asarray(values)
    except TypeError:
        # NumPy does not have torch's bfloat16; float64 holds its numbers.
        if not hasattr(values, "double"):
            raise
        return np.asarray(values.double())


def _from_floats(array: npt.NDArray[np.float64], name: str) -> ExactArray:
    finite = np.isfinite(array)
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(_not_finite(name, where, array[where]))
    mantissa, exponent = np.frexp(array)
    # 53 bits of mantissa: the scaled mantissa is an integer, and the conversion is exact.
    return _from_words((mantissa * 2.0**53).astype(np.int64), exponent.astype(np.int64) - 53, name)


def _from_words(words: IntArray, exponents: IntArray, name: str) -> ExactArray:
    """Numbers words * 2**exponents: move the factors of two of each word into its exponent."""
    lowest_bit = (words & -words).astype(np.float64)  # a power of two, so exact
    zeros = np.where(words == 0, 0, np.frexp(lowest_bit)[1].astype(np.int64) - 1)
    return ExactArray(words >> zeros, np.where(words == 0, 0, exponents + zeros), None, name)


def _from_objects(array: ObjectArray, name: str) -> ExactArray:
    count = array.size
    numerators, denominators = [0] * count, [1] * count
    exponents = np.zeros(count, dtype=np.int64)
    for i, value in enumerate(array.flat):
        where = tuple(int(j) for j in np.unravel_index(i, array.shape))
        n, q = _ratio(value, name, where)
        if n:
            # In lowest terms at most one of the two is even.
            twos, halves = _trailing_zeros(n), _trailing_zeros(q)
            numerators[i], denominators[i], exponents[i] = n >> twos, q >> halves, twos - halves
    q_array = None if all(q == 1 for q in denominators) else _words_if_they_fit(denominators, array.shape)
    return ExactArray(_words_if_they_fit(numerators, array.shape), exponents.reshape(array.shape), q_array, name)


def _ratio(value: Any, name: str, where: tuple[int, ...]) -> tuple[int, int]:
    if isinstance(value, numbers.Rational) and not isinstance(value, bool):
        return int(value.numerator), int(value.denominator)
    if isinstance(value, float | np.floating):
        if not np.isfinite(value):
            raise ValueError(_not_finite(name, where, value))
        n, q = value.as_integer_ratio()
        return int(n), int(q)
    raise TypeError(
        f"{name}: the entry {where} is {value!r} of type {type(value).__name__}, expected an integer, a Fraction or a "
        "float, in lists of equal length"
    )


def _trailing_zeros(n: int) -> int:
    return (n & -n).bit_length() - 1


def _words_if_they_fit(values: list[int], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    try:
        return np.array(values, dtype=np.int64).reshape(shape)
    except OverflowError:
        out = np.empty(len(values), dtype=object)
        out[:] = values
        return out.reshape(shape)


def _not_finite(name: str, where: tuple[int, ...], value: Any) -> str:
    row = f"row {where[0]} holds {value}" if where else f"the value is {value}"
    return f"{name}: {row}, expected finite numbers: drop or repair it"
