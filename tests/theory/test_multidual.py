"""Nilpotents against sums over all subsets, and every program over them against its own derivative."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory import (
    ConvolutionProgram,
    MonomialProgram,
    Rationals,
    Residues,
    RestrictedProgram,
    RidgeProgram,
    SphericalProgram,
    UnionProgram,
    exact_array,
    monomial_exponents,
    programs,
)
from theory.multidual import MultiDual
from theory.rowspace import centred
from theory.series import PowerSeries

P = 1048573


def dual(values, p=P):
    return MultiDual(centred(np.asarray(values), p), p)


def integers(x):
    """Coefficients as integers in [0, p)."""
    assert np.abs(x.values).max(initial=0) <= x.modulus // 2 + 1
    return x.values.astype(np.int64).astype(object) % x.modulus


def convolved(a, b, times, p=P):
    """The product by its definition: c_S is the sum over all subsets T of S of a_T b_(S - T)."""
    a, b = a.astype(object), b.astype(object)
    out = []
    for s in range(len(a)):
        terms = [times(a[t], b[s ^ t]) for t in range(len(a)) if t & s == t]
        out.append(sum(terms[1:], terms[0]) % p)
    return np.array(out).tolist()


@pytest.fixture
def rng():
    return np.random.default_rng(6)


coefficient = st.one_of(st.integers(0, P - 1), st.sampled_from([0, 0, 1, P // 2, P // 2 + 1, P - 1]))


@st.composite
def numbers(draw, count):
    size = 2 ** draw(st.integers(0, 4))
    return [np.array(draw(st.lists(coefficient, min_size=size, max_size=size))) for _ in range(count)]


@settings(max_examples=100, deadline=None)
@given(numbers(2))
def test_products_are_sums_over_subsets(pair):
    a, b = pair
    x, y = dual(a), dual(b)
    assert integers(x * y).tolist() == convolved(a, b, np.multiply) == integers(y * x).tolist()
    assert integers(x + y).tolist() == ((a + b) % P).tolist()
    assert integers(x - y).tolist() == ((a - b) % P).tolist()


@settings(max_examples=60, deadline=None)
@given(numbers(1))
def test_a_number_times_its_reciprocal_is_one(one):
    (a,) = one
    if a[0] == 0:
        with pytest.raises(ZeroDivisionError, match=f"0 has no inverse modulo {P}"):
            dual(a).reciprocal()
    else:
        b = integers(dual(a).reciprocal())
        assert convolved(a, b, np.multiply) == [1] + [0] * (len(a) - 1)


@pytest.mark.parametrize(
    "shapes", [((2, 3), (2, 3)), ((2, 1, 3), (4, 1)), ((), (3,)), ((3,), ()), ((2, 2), (1, 5, 2, 1))]
)
def test_broadcasting(shapes, rng):
    a, b = (rng.integers(0, P, (8, *shape)) for shape in shapes)
    x, y = dual(a), dual(b)
    assert (x * y).shape == (x + y).shape == (x - y).shape == np.broadcast_shapes(*shapes)
    assert integers(x * y).tolist() == convolved(a, b, np.multiply)
    assert integers(x + y).tolist() == [((s + t) % P).tolist() for s, t in zip(a, b, strict=True)]
    assert integers(x - y).tolist() == [((s - t) % P).tolist() for s, t in zip(a, b, strict=True)]


def test_matrices(rng):
    a, b = rng.integers(0, P, (8, 5, 2, 3)), rng.integers(0, P, (8, 5, 3, 4))
    assert integers(dual(a) @ dual(b)).tolist() == convolved(a, b, np.matmul)
    assert integers(dual(a[:1]) @ dual(b[:1])).tolist() == convolved(a[:1], b[:1], np.matmul)


def test_matrices_of_the_largest_residues(rng):
    half = P // 2
    a, b = np.full((16, 1, 900), half), half * rng.choice([-1, 1], (16, 900, 1))
    assert integers(dual(a) @ dual(b)).tolist() == convolved(a, b, np.matmul)


@pytest.mark.parametrize("bit", [0, 1, 2])
def test_times_a_nilpotent(bit, rng):
    a, s = rng.integers(0, P, (8, 3)), np.zeros((8, 1), dtype=int)
    s[1 << bit] = 1
    x = dual(a)
    assert integers(x.times(bit)).tolist() == convolved(a, s, np.multiply)
    assert not integers(x.times(bit).times(bit)).any()
    assert integers(x).tolist() == a.tolist()


def test_plain_numbers(rng):
    x = MultiDual.of(np.array([3.0, -4.0]), 3, P)
    assert integers(x).tolist() == [[3, P - 4], *[[0, 0]] * 7]
    c = x.constant(exact_array([[Fraction(1, 3), 0.5]]))
    assert integers(c).tolist() == [[[pow(3, -1, P), pow(2, -1, P)]], *[[[0, 0]]] * 7]
    assert not x.zeros().values.any()
    assert x.zeros().shape == (2,)


def test_linear_gather_and_sum(rng):
    a, matrix = rng.integers(0, P, (4, 2, 3, 5)), rng.integers(0, P, (7, 5))
    x = dual(a)
    by = MultiDual.of(centred(matrix, P), 2, P)
    assert integers(x.linear(by)).tolist() == (a.astype(object) @ matrix.T.astype(object) % P).tolist()
    assert integers(x.sum()).tolist() == (a.sum(axis=-1) % P).tolist()
    index = np.array([[0, -1], [4, 2], [-1, -1]])
    picked = np.where(index < 0, 0, a[..., index])
    assert integers(x.gather(index)).tolist() == picked.tolist()


def test_shapes(rng):
    a = rng.integers(0, P, (4, 2, 3, 5))
    x = dual(a)
    assert integers(x.transpose(2, 0, 1)).tolist() == a.transpose(0, 3, 1, 2).tolist()
    assert integers(x.reshape(-1, 2)).tolist() == a.reshape(4, 15, 2).tolist()
    b = rng.integers(0, P, (4, 2, 1, 5))
    assert integers(x.join([dual(b), x], 1)).tolist() == np.concatenate([a, b, a], axis=2).tolist()
    assert integers(x.join([], 0)).tolist() == a.tolist()


INDICES = [
    0, (slice(None), 1), (..., -1), None, (slice(None), None, 2), slice(1, None), (slice(None), slice(None, None, -1)),
    np.array([1, 0, 1]), (np.array([0, 1]), np.array([2, 0])), (slice(None), np.array([[0, 2], [1, 1]])),
    np.array([True, False]), (np.array([1]), slice(None), np.array([3])), (0, slice(None), np.array([3, 1])),
    (0, slice(None), [3, 1]),
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES)
def test_indices_are_numpys(index, rng):
    a = rng.integers(0, P, (4, 2, 3, 4))
    assert integers(dual(a)[index]).tolist() == [c[index].tolist() for c in a]


def fractions(rng, *shape):
    n, q = rng.integers(-9, 10, shape), rng.integers(1, 8, shape)
    return np.frompyfunc(lambda a, b: Fraction(int(a), int(b)), 2, 1)(n, q)


def monomial(rng):
    return MonomialProgram(monomial_exponents(3, 2), fractions(rng, 4, 3, 10))


def sparse_monomial(rng):
    return MonomialProgram([[0, 3, 1], [1, 0, 0], [2, 0, 2], [0, 0, 5]], fractions(rng, 2, 3, 4))


def constant(rng):
    return MonomialProgram([[0, 0]], fractions(rng, 3, 2, 1))


def ridge(rng):
    return RidgeProgram(fractions(rng, 3, 2, 2), fractions(rng, 3, 2), fractions(rng, 3, 4))


def flat_ridge(rng):
    return RidgeProgram(fractions(rng, 2, 2, 2), fractions(rng, 2, 2), fractions(rng, 2, 1))


def dense(rng):
    rest = fractions(rng, 2, 2), fractions(rng, 3), fractions(rng, 2, 3)
    return ConvolutionProgram((2, 1, 3), fractions(rng, 2, 2, 2, 3, 3), None, None, *rest)


def row(rng):
    rest = fractions(rng, 3), fractions(rng, 2), fractions(rng, 3, 3)
    return ConvolutionProgram((2, 3, 1), fractions(rng, 3, 2, 3, 3), [1, 0, 1], None, *rest)


def stencil(rng):
    rest = fractions(rng, 4), fractions(rng, 3), fractions(rng, 4, 3)
    return ConvolutionProgram((3, 2, 2), fractions(rng, 4, 3, 3), [0, 2, 0, 2], [1, 1, 0, 2], *rest)


def spherical(rng):
    return SphericalProgram(monomial(rng))


def spherical_row(rng):
    return SphericalProgram(row(rng))


def restricted(rng):
    return RestrictedProgram(ridge(rng), 10**6)


def union(rng):
    return UnionProgram([flat_ridge(rng), ridge(rng), constant(rng), ridge(rng)])


def spherical_union(rng):
    return SphericalProgram(UnionProgram([row(rng), row(rng)]))


FAMILIES = [
    monomial, sparse_monomial, constant, ridge, flat_ridge, dense, row, stencil, spherical, spherical_row, restricted,
    union, spherical_union,
]  # fmt: skip


def test_no_program_is_missing(rng):
    assert {type(family(rng)).__name__ for family in FAMILIES} == set(programs.__all__)


def residues(values):
    return np.frompyfunc(lambda f: f.numerator * pow(f.denominator, -1, P) % P, 1, 1)(values)


@pytest.mark.parametrize("family", FAMILIES)
def test_first_order_coefficients_are_the_derivative(family, rng):
    program = family(rng)
    x = fractions(rng, 2, program.dim) + Fraction(1, 3)
    v = fractions(rng, 3, 2, program.dim)
    point = MultiDual.of(centred(residues(x), P), 3, P)
    for bit in range(3):
        point = point + MultiDual.of(centred(residues(v[bit]), P), 3, P).times(bit)
    found = integers(program.values(point))
    assert found[0].tolist() == residues(program.evaluate(x)).tolist()
    for bit in range(3):
        assert found[1 << bit].tolist() == residues(program.jacobian_product(x, v[bit])).tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_second_order_coefficients_are_differences_of_derivatives(family, rng):
    # Of the derivative in the direction v[0], the first-order coefficient along v[1] is the mixed one of the values.
    program = family(rng)
    x, *v = (centred(residues(fractions(rng, 2, program.dim) + Fraction(1, 3)), P) for _ in range(3))
    x, v = MultiDual.of(x, 2, P), [MultiDual.of(d, 2, P) for d in v]
    values = integers(program.values(x + v[0].times(0) + v[1].times(1)))
    slopes = [integers(program.derivative(x + v[1 - bit].times(0), v[bit])) for bit in range(2)]
    assert values[3].tolist() == slopes[0][1].tolist() == slopes[1][1].tolist()
    if program.degree > 1:
        assert values[3].any()


def over_residues(rng, program):
    return Residues.of(exact_array(rng.integers(1, P, (2, program.dim))), P), lambda y: y.values.tolist()


def over_rationals(rng, program):
    return Rationals.of(exact_array(fractions(rng, 1, program.dim) + Fraction(1, 3))), lambda y: y.fractions().tolist()


def over_nilpotents(rng, program):
    return dual(rng.integers(1, P, (4, 2, program.dim))), lambda y: integers(y).tolist()


def over_series(rng, program):
    found = centred(rng.integers(1, P, (4, 2, program.dim)), P)
    x = PowerSeries((2, program.dim), P, lambda n: found[n])
    return x, lambda y: [(y.coefficient(n).astype(np.int64) % P).tolist() for n in range(4)]


RINGS = [over_residues, over_rationals, over_nilpotents, over_series]


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_jacobian_is_its_columns(family, ring, rng):
    program = family(rng)
    x, read = ring(rng, program)
    rows, m = x.shape
    jacobian = program.jacobian(x)
    assert jacobian.shape == (rows, program.count, m, m)
    for b in range(m):
        unit = x.constant(exact_array(np.eye(m, dtype=int)[np.full(rows, b)]))
        assert read(jacobian[:, :, :, b]) == read(program.derivative(x, unit))


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_combination_is_linearized_with_the_fields(family, ring, rng):
    program = family(rng)
    x, read = ring(rng, program)
    (rows, m), d = x.shape, program.count
    u = x.constant(exact_array(fractions(rng, d)))
    values, slope = program.linearized(x, u)
    found = slope.dense()
    assert read(values) == read(program.values(x))
    assert found.shape == (rows, m, m)
    for b in range(m):
        columns = program.derivative(x, x.constant(exact_array(np.eye(m, dtype=int)[np.full(rows, b)])))
        total = columns[:, 0] * u[0]
        for i in range(1, d):
            total = total + columns[:, i] * u[i]
        assert read(found[:, :, b]) == read(total)


@pytest.mark.parametrize("family", FAMILIES)
def test_series_along_a_line_begin_with_the_derivative(family, rng):
    program = family(rng)
    x, v = fractions(rng, 2, program.dim) + Fraction(1, 3), fractions(rng, 2, program.dim)
    found = centred(np.array([residues(x), residues(v)]), P)
    line = PowerSeries((2, program.dim), P, lambda n: found[n] if n < 2 else np.zeros_like(found[0]))
    values = program.values(line)
    first, second = (values.coefficient(n).astype(np.int64) % P for n in range(2))
    assert first.tolist() == residues(program.evaluate(x)).tolist()
    assert second.tolist() == residues(program.jacobian_product(x, v)).tolist()
