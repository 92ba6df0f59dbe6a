"""Fields as users write them: what is read is what was written, and what cannot be exact is refused."""

from fractions import Fraction

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from theory import (
    ConvolutionProgram,
    MonomialProgram,
    RestrictedProgram,
    RidgeProgram,
    SphericalProgram,
    check_points,
    five_fields,
    read_fields,
    universal,
)
from theory.reading import as_monomials

x, y = X = sympy.symbols("x y")


def terms(expression, symbols=X):
    """Of a field with this expression as its first component: {exponents: coefficient}."""
    program = read_fields([[expression] + [0] * (len(symbols) - 1)], symbols)
    row = program.coefficients.fractions()[0, 0]
    return {tuple(a): c for a, c in zip(program.exponents.tolist(), row, strict=True) if c}


# What is read


def test_integers_and_rationals():
    assert terms(3 * x**2 * y - sympy.Rational(2, 7) * y + 10**30) == {
        (2, 1): 3, (0, 1): Fraction(-2, 7), (0, 0): 10**30
    }  # fmt: skip


def test_products_are_expanded_exactly():
    assert terms((x + y / 3) ** 3) == {
        (3, 0): 1, (2, 1): 1, (1, 2): Fraction(1, 3), (0, 3): Fraction(1, 27)
    }  # fmt: skip
    assert terms((x + 1) * (x - 1) - x**2 + 1) == {}


@given(st.floats(allow_nan=False, allow_infinity=False).filter(bool))
def test_floats_are_the_dyadic_rationals_they_are(value):
    assert terms(sympy.Float(value) * x) == {(1, 0): Fraction(value)}


def test_a_tenth_is_no_decimal():
    assert terms(0.1 * x) == {(1, 0): Fraction(3602879701896397, 2**55)}
    assert terms(-0.1 * x) == {(1, 0): -Fraction(3602879701896397, 2**55)}


def test_floats_of_many_digits_keep_them():
    value = sympy.Float("0.1", 60)
    n, q = terms(value * x)[1, 0].as_integer_ratio()
    assert abs(Fraction(n, q) - Fraction(1, 10)) < Fraction(1, 10**59)
    assert sympy.Rational(n, q) == sympy.Rational(value)


@pytest.mark.parametrize("rational", [sympy.Rational(1, 3), sympy.Integer(2**60 + 1), sympy.Integer(10) ** 400])
def test_a_float_beside_them_leaves_rationals_exact(rational):
    assert terms(sympy.Rational(rational) * x + 0.5 * y) == {
        (1, 0): Fraction(int(rational.p), int(rational.q)), (0, 1): Fraction(1, 2)
    }  # fmt: skip


def test_a_field_that_vanishes_is_not_rounded_into_one_that_does_not():
    # 1/3 + 1/2 - 5/6 = 0 at x = 1.
    V = x / 3 + 0.5 * x**2 - sympy.Rational(5, 6)
    assert not check_points([[V]], [[1]], symbols=(x,), seed=0).proved


def test_a_short_float_beside_a_long_one_leaves_both_exact():
    long = sympy.Float("0.1", 60)
    found = terms(long * x + sympy.Float(0.1) * y)
    assert sympy.Rational(*found[1, 0].as_integer_ratio()) == sympy.Rational(long)
    assert found[0, 1] == Fraction(0.1)


def test_powers_of_sums_with_floats_are_expanded_exactly():
    tenth = Fraction(0.1)
    assert terms((x + 0.1) ** 2) == {(2, 0): 1, (1, 0): 2 * tenth, (0, 0): tenth**2}


def test_plain_python_numbers_are_constants():
    program = read_fields([[1, 0], [Fraction(1, 3), 0.25], [x, -2]], X)
    assert program.evaluate([[5, 7]])[0].tolist() == [[1, 0], [Fraction(1, 3), Fraction(1, 4)], [5, -2]]


def test_fields_that_are_zero():
    program = read_fields([[0, 0], [x - x, 0]], X)
    assert (program.count, program.dim, program.degree) == (2, 2, 0)
    assert program.evaluate([[5, 7]]).tolist() == [[[0, 0], [0, 0]]]


def test_matrices_and_tuples_are_lists():
    rows = [[y, x**2], [1, x * y]]
    kinds = [rows, [sympy.Matrix(V) for V in rows], [sympy.ImmutableMatrix([V]) for V in rows], tuple(map(tuple, rows))]
    assert len({read_fields(V, X).digest() for V in kinds}) == 1


def test_the_order_of_the_symbols_is_that_of_the_coordinates():
    assert terms(x**2 * y, (y, x)) == {(1, 2): 1}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.fractions(max_denominator=99)), max_size=6))
def test_values_are_substitutions(parts):
    f = sympy.Add(*(sympy.Rational(c.numerator, c.denominator) * x**a * y**b for a, b, c in parts))
    at = Fraction(2, 3), Fraction(-5, 7)
    expected = sum((c * at[0] ** a * at[1] ** b for a, b, c in parts), Fraction(0))
    assert read_fields([[0, f]], X).evaluate([at])[0, 0].tolist() == [0, expected]


def test_a_program_is_itself():
    program = five_fields(3)
    assert read_fields(program) is program


def test_to_sympy_and_back():
    program = five_fields(3)
    symbols = sympy.symbols("a b c")
    again = read_fields(program.to_sympy(symbols), symbols)
    points = np.random.default_rng(0).integers(-5, 6, (4, 3))
    assert again.evaluate(points).tolist() == program.evaluate(points).tolist()


class Family:
    """Has an exact view, as the families of cde_nets do."""

    def __init__(self, found):
        self.found = found

    def exact(self):
        return self.found


def test_objects_with_an_exact_view():
    program = five_fields(2)
    assert read_fields(Family(program)) is program
    assert check_points(Family(program), [(1, 2), (3, 4)], seed=0).digest == program.digest()
    assert universal(Family(program), seed=0).proved


# What is refused


@pytest.mark.parametrize("fields", [None, 3, "x*y", np.eye(2), {x: y}, Family(None), Family("x"), lambda t: t])
def test_other_kinds(fields):
    kind = type(fields).__name__
    with pytest.raises(TypeError, match=rf"fields are a {kind}, expected a family of cde_nets, a theory\.Program"):
        read_fields(fields, X)


def test_symbols_are_needed():
    with pytest.raises(ValueError, match=r"need symbols=\(x_1, \.\., x_m\)"):
        read_fields([[x, y]])


def test_a_symbol_too_many_is_named():
    a = sympy.Symbol("a")
    with pytest.raises(ValueError, match=r"component 2 of field 1, a\*x, has the free symbol a: expected only x, y"):
        read_fields([[1, a * x]], X)
    with pytest.raises(ValueError, match=r"component 1 of field 2.*the free symbol y: expected only x"):
        read_fields([[x], [y]], (x,))


@pytest.mark.parametrize("f", [sympy.tanh(x), sympy.exp(x * y), 1 / x, sympy.sqrt(x), abs(x), x**y, x**2.5])
def test_what_is_no_polynomial_is_told_why(f):
    with pytest.raises(ValueError, match=r"component 1 of field 2.*is no polynomial in x, y: only polynomial fields"):
        read_fields([[x, y], [f, 0]], X)


def test_tanh_is_named():
    with pytest.raises(ValueError, match=r"tanh\(x\), is no polynomial.*tanh and its like would need other methods"):
        read_fields([[sympy.tanh(x), y]], X)


@pytest.mark.parametrize("c", [sympy.sqrt(2), sympy.pi, sympy.I, 0.5 * sympy.sqrt(2), sympy.exp(1), sympy.tanh(1)])
def test_irrational_coefficients(c):
    with pytest.raises(ValueError, match=r"component 2 of field 1 has the coefficient .*expected rational numbers"):
        read_fields([[x, c * x]], X)


@pytest.mark.parametrize("c", [float("inf"), float("nan"), sympy.oo, sympy.nan, sympy.zoo])
def test_numbers_that_are_not_finite(c):
    with pytest.raises(ValueError, match="component 1 of field 1 has the coefficient"):
        read_fields([[c, x]], X)


@pytest.mark.parametrize("fields", [[], [[x]], [[x, y], [x]], [[x, y, 1]], [x, y], [[]], [{x, y}]])
def test_lists_of_other_lengths(fields):
    with pytest.raises(ValueError, match="expected fields as lists of 2 expressions each"):
        read_fields(fields, X)


# By monomials


def ridge():
    rng = np.random.default_rng(0)
    return RidgeProgram(rng.standard_normal((3, 2, 2)), rng.standard_normal((3, 2)), rng.standard_normal((3, 4)))


def convolution():
    rng = np.random.default_rng(1)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    return ConvolutionProgram((2, 1, 2), draw(3, 2, 3, 3), [0, 1, 0], None, draw(3), draw(3), draw(3, 3))


@pytest.mark.parametrize("make", [ridge, convolution, lambda: RestrictedProgram(ridge(), 100)])
def test_by_monomials_the_values_are_the_same(make):
    program = make()
    expanded = as_monomials(program)
    assert isinstance(expanded, MonomialProgram)
    points = np.random.default_rng(2).standard_normal((3, program.dim))
    directions = np.random.default_rng(3).integers(-4, 5, (3, program.dim))
    assert expanded.evaluate(points).tolist() == program.evaluate(points).tolist()
    assert (
        expanded.jacobian_product(points, directions).tolist() == program.jacobian_product(points, directions).tolist()
    )
    assert expanded.dtype == program.dtype is not None
    assert (expanded.dim, expanded.count, expanded.degree) == (program.dim, program.count, program.degree)


def test_what_is_by_monomials_is_left_alone():
    program = five_fields(2)
    assert as_monomials(program) is program


@pytest.mark.parametrize("wrap", [SphericalProgram, lambda V: RestrictedProgram(SphericalProgram(V), 5)])
def test_rational_fields_have_no_monomials(wrap):
    with pytest.raises(ValueError, match="is not polynomial in x"):
        as_monomials(wrap(ridge()))
