"""Monomials x**a of bounded degree: how many, and in which order."""

from __future__ import annotations

import math
from itertools import chain, combinations_with_replacement
from operator import index

import numpy as np

from theory.modular import IntArray


def monomial_count(dim: int, degree: int) -> int:
    """The number C(dim + degree, degree) of monomials of degree at most `degree` in `dim` variables.

    Raises:
        ValueError: dim < 1 or degree < 0.

    >>> monomial_count(3, 2)
    10
    """
    dim, degree = _check(dim, degree)
    return math.comb(dim + degree, degree)


def monomial_exponents(dim: int, degree: int) -> IntArray:
    """The exponents of all monomials of degree at most `degree`, in graded lexicographic order.

    Lower degrees come first; within a degree x_1 comes before x_2 and so on: 1, x_1, x_2, x_1**2, x_1 x_2, x_2**2 for
    two variables.

    Args:
        dim: the number m >= 1 of variables.
        degree: the largest degree k >= 0.

    Returns:
        int64 of shape (C(m + k, k), m); each row is the exponents of one monomial.

    Raises:
        ValueError: dim < 1 or degree < 0.

    >>> monomial_exponents(2, 2).tolist()
    [[0, 0], [1, 0], [0, 1], [2, 0], [1, 1], [0, 2]]
    """
    dim, degree = _check(dim, degree)
    exponents = np.zeros((math.comb(dim + degree, degree), dim), dtype=np.int64)
    start = 0
    for k in range(degree + 1):
        rows = math.comb(dim + k - 1, k)
        # A monomial of degree k is a word of k variables in non-decreasing order; words come in the wanted order.
        words = np.fromiter(
            chain.from_iterable(combinations_with_replacement(range(dim), k)), dtype=np.int64, count=rows * k
        ).reshape(rows, k)
        places = np.arange(start, start + rows)
        for letter in words.T:
            exponents[places, letter] += 1
        start += rows
    return exponents


def _check(dim: int, degree: int) -> tuple[int, int]:
    dim, degree = index(dim), index(degree)
    if dim < 1 or degree < 0:
        raise ValueError(f"dim is {dim} and degree {degree}, expected dim >= 1 and degree >= 0")
    return dim, degree
