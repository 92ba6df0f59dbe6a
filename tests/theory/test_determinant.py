"""Gamma: zero exactly where brackets do not span, and the sum of all squared minors."""

from itertools import combinations

import pytest
import sympy

from theory import check_points, evaluate_at, gamma, lie_algebra

X = sympy.symbols("x y")
ROTATION, BEND = [X[1], -X[0]], [X[0] ** 2, sympy.Integer(1)]


@pytest.mark.parametrize("depth", [2, 3])
def test_it_is_the_sum_of_the_squared_minors(depth):
    points = [(0, 1), (sympy.Rational(1, 2), 2)]
    columns = [evaluate_at(b, X, points) for b in lie_algebra([ROTATION, BEND], X, depth)]
    minors = sum(sympy.Matrix([columns[k] for k in some]).det() ** 2 for some in combinations(range(len(columns)), 4))
    assert gamma([ROTATION, BEND], points, depth, symbols=X) == minors


def test_it_is_positive_where_the_condition_is_proved_and_zero_where_fields_commute():
    points = [(0, 1), (1, 2)]
    assert gamma([ROTATION, BEND], points, 4, symbols=X) > 0
    assert check_points([ROTATION, BEND], points, symbols=X, seed=0).proved
    assert gamma([[X[0], X[1]], [2 * X[0], 2 * X[1]]], points, 4, symbols=X) == 0


def test_of_symbolic_points_it_is_a_polynomial_that_vanishes_where_they_meet():
    a, b = sympy.symbols("a b")
    found = gamma([ROTATION, BEND], [(a, b), (1, 0)], 3, symbols=X)
    assert sympy.Poly(found, a, b).total_degree() > 0
    assert found.subs({a: 1, b: 0}) == 0
    at = {a: sympy.Rational(2), b: sympy.Rational(-1)}
    assert found.subs(at) == gamma([ROTATION, BEND], [(2, -1), (1, 0)], 3, symbols=X)


def test_of_coefficients_it_is_a_polynomial_in_them():
    c = sympy.symbols("c")
    # Where c = 0 the second field is the first.
    found = gamma([[1, 0], [1, c * X[0]]], [(0, 0)], 2, symbols=X)
    # Columns (1, 0), (1, 0) and (0, c): two minors are c.
    assert found == 2 * c**2
    assert gamma([[1, 0], [1, 5 * X[0]]], [(0, 0)], 2, symbols=X) == 50


def test_points_of_another_length():
    with pytest.raises(ValueError, match="points of 2 numbers each"):
        gamma([ROTATION], [(1,)], 2, symbols=X)
