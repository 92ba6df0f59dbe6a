"""Monomials and their order."""

from math import comb

import pytest

from theory import monomial_count, monomial_exponents


def test_the_order_is_graded_lexicographic():
    assert monomial_exponents(3, 2).tolist() == [
        [0, 0, 0],
        [1, 0, 0], [0, 1, 0], [0, 0, 1],
        [2, 0, 0], [1, 1, 0], [1, 0, 1], [0, 2, 0], [0, 1, 1], [0, 0, 2],
    ]  # fmt: skip


@pytest.mark.parametrize(("dim", "degree"), [(1, 0), (1, 5), (2, 3), (4, 4), (7, 1), (3, 0)])
def test_all_monomials_once_and_in_order(dim, degree):
    rows = monomial_exponents(dim, degree).tolist()
    assert len(rows) == monomial_count(dim, degree) == comb(dim + degree, dim)
    keys = [(sum(row), [-e for e in row]) for row in rows]
    assert keys == sorted(keys)
    assert len({tuple(row) for row in rows}) == len(rows)


def test_a_hundred_thousand_monomials():
    exponents = monomial_exponents(85, 3)
    assert len(exponents) == monomial_count(85, 3) == 109_736
    assert exponents.sum(axis=1).max() == 3


@pytest.mark.parametrize(("dim", "degree"), [(0, 2), (2, -1)])
@pytest.mark.parametrize("function", [monomial_count, monomial_exponents])
def test_impossible_arguments(function, dim, degree):
    with pytest.raises(ValueError, match="expected dim >= 1 and degree >= 0"):
        function(dim, degree)
