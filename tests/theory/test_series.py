"""Power series modulo a prime against polynomials of Python's integers and SymPy's series."""

from fractions import Fraction
from math import comb, factorial

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import QQ
from sympy.polys.ring_series import rs_series_inversion
from sympy.polys.rings import ring

from theory import exact_array
from theory.rowspace import centred, inverse, reduce
from theory.series import PowerSeries, inverses

P = 1048573
ORDER = 6


def series(coefficients, p=P):
    """The series with these integer coefficients, shape (orders, ..), and zeros behind."""
    residues = centred(np.asarray(coefficients), p)
    zero = np.zeros(residues.shape[1:])
    return PowerSeries(zero.shape, p, lambda n: residues[n] if n < len(residues) else zero)


def read(x, orders=ORDER):
    """Coefficients as integers in [0, p), the order first."""
    found = np.array([x.coefficient(n) for n in range(orders)])
    assert found.shape == (orders, *x.shape)
    assert np.abs(found).max(initial=0) <= x.modulus // 2 + 1
    return found.astype(np.int64).astype(object) % x.modulus


def residue(value, p=P):
    value = Fraction(value)
    return value.numerator * pow(value.denominator, -1, p) % p


def cauchy(a, b, p, orders=ORDER):
    return [sum(a[k] * b[n - k] for k in range(n + 1)) % p for n in range(orders)]


@pytest.fixture
def rng():
    return np.random.default_rng(5)


coefficient = st.one_of(st.integers(0, P - 1), st.sampled_from([0, 1, P // 2, P // 2 + 1, P - 1]))
polynomials = st.lists(coefficient, min_size=ORDER, max_size=ORDER)


@settings(max_examples=80, deadline=None)
@given(polynomials, polynomials)
def test_sums_differences_and_products_are_those_of_polynomials(a, b):
    x, y = series(np.array(a)), series(np.array(b))
    assert read(x + y).tolist() == [(s + t) % P for s, t in zip(a, b, strict=True)]
    assert read(x - y).tolist() == [(s - t) % P for s, t in zip(a, b, strict=True)]
    expected = np.polynomial.polynomial.polymul(np.array(a, dtype=object), np.array(b, dtype=object))
    expected = [int(c) % P for c in [*expected, *[0] * ORDER][:ORDER]]
    assert read(x * y).tolist() == expected == cauchy(a, b, P)


@settings(max_examples=60, deadline=None)
@given(polynomials.filter(lambda a: a[0]))
def test_reciprocals_are_sympys(a):
    _, t = ring("t", QQ)
    inverse = rs_series_inversion(sum(c * t**n for n, c in enumerate(a)), t, ORDER)
    expected = [inverse.coeff(t**n) if n else inverse.coeff(1) for n in range(ORDER)]
    expected = [residue(Fraction(int(c.numerator), int(c.denominator))) for c in expected]
    x = series(np.array(a))
    assert read(x.reciprocal()).tolist() == expected
    assert read(x * x.reciprocal()).tolist() == [1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("shapes", [((2, 3), (2, 3)), ((2, 1, 3), (4, 1)), ((), (3,)), ((1,), (5,))])
def test_broadcasting(shapes, rng):
    a, b = (rng.integers(0, P, (ORDER, *shape)).astype(object) for shape in shapes)
    x, y = series(a), series(b)
    # The same, entry by entry, on arrays of numpy's objects.
    for found, each in [(x + y, lambda n: a[n] + b[n]), (x - y, lambda n: a[n] - b[n])]:
        assert read(found).tolist() == [(each(n) % P).tolist() for n in range(ORDER)]
    product = [sum(a[k] * b[n - k] for k in range(n + 1)) % P for n in range(ORDER)]
    assert read(x * y).tolist() == read(y * x).tolist() == [c.tolist() for c in product]


def test_constants_do_not_move(rng):
    numbers = np.array([[Fraction(1, 3), 2], [Fraction(-5, 7), 0.75]], dtype=object)
    a = rng.integers(0, P, (ORDER, 2, 2)).astype(object)
    x = series(a)
    c = x.constant(exact_array(numbers))
    plain = np.frompyfunc(residue, 1, 1)(numbers)
    assert c.degree == 0
    assert read(c).tolist() == [plain.tolist(), *[[[0, 0], [0, 0]]] * (ORDER - 1)]
    assert read(c * x).tolist() == read(x * c).tolist() == (a * plain % P).tolist()
    for still in (c * c, c + c, c - c, c[0], c.reciprocal(), c.sum(), c.linear(c), c.transpose(1, 0), c.reshape(4)):
        assert still.degree == 0
        assert not read(still)[1:].any()
    assert all(moving.degree is None for moving in (x, c * x, c + x, x - c, x[0], x.sum(), x.linear(c)))
    assert read((c * c).reciprocal())[0].tolist() == [[residue(1 / Fraction(v) ** 2) for v in row] for row in numbers]


@pytest.mark.parametrize("rows", [1, 3])
def test_a_matrix_times_the_last_axis(rows, rng):
    a, matrix = rng.integers(0, P, (ORDER, 2, 5, 4)), rng.integers(0, P, (rows, 4))
    found = series(a).linear(PowerSeries.of(centred(matrix, P), P))
    assert found.shape == (2, 5, rows)
    assert read(found).tolist() == (a.astype(object) @ matrix.T.astype(object) % P).tolist()


@pytest.mark.parametrize("degree", [1, 3])
def test_a_matrix_of_polynomials_times_the_last_axis(degree, rng):
    a, matrix = rng.integers(0, P, (ORDER, 2, 4)), rng.integers(0, P, (degree + 1, 3, 4))
    by = PowerSeries.polynomial(centred(matrix, P), P)
    padded = np.concatenate([matrix, np.zeros((ORDER - degree - 1, 3, 4), dtype=int)]).astype(object)
    expected = [sum(a[n - k].astype(object) @ padded[k].T for k in range(n + 1)) % P for n in range(ORDER)]
    assert read(by).tolist() == padded.tolist()
    assert read(series(a).linear(by)).tolist() == [c.tolist() for c in expected]
    both = PowerSeries.polynomial(centred(a[:2], P), P).linear(by)
    assert both.degree == degree + 1
    assert not read(both, degree + 4)[degree + 2 :].any()
    assert (by * by + by).degree == 2 * degree
    with pytest.raises(ValueError, match="expected constants or polynomials in t"):
        by.linear(series(matrix[0]))


@pytest.mark.parametrize("shapes", [((2, 3, 4), (2, 4, 5)), ((3, 4), (2, 4, 1)), ((2, 1, 1), (1, 3))])
def test_products_of_matrices(shapes, rng):
    a, b = (rng.integers(0, P, (ORDER, *shape)).astype(object) for shape in shapes)
    found = series(a) @ series(b)
    assert read(found).tolist() == [
        sum(a[k] @ b[n - k] for k in range(n + 1)).__mod__(P).tolist() for n in range(ORDER)
    ]
    ends = PowerSeries.polynomial(centred(a[:2].astype(int), P), P) @ PowerSeries.of(centred(b[0].astype(int), P), P)
    assert ends.degree == 1
    assert read(ends).tolist() == [*((c @ b[0] % P).tolist() for c in a[:2]), *np.zeros((4, *ends.shape), int).tolist()]


def test_what_is_asked_for_once_is_not_kept():
    asked = []
    kept = PowerSeries((1,), P, lambda n: asked.append(n) or np.full(1, float(n)))
    assert [kept.coefficient(1)[0] for _ in range(2)] == [1, 1]
    assert asked == [0, 1]
    assert kept.once() is kept
    assert [kept.coefficient(n)[0] for n in (1, 4)] == [1, 4]
    assert asked == [0, 1, 1, 4]


INDICES = [
    0, (slice(None), 1), (..., -1), None, (slice(None), None, 2), slice(1, None), (slice(None), slice(None, None, -1)),
    np.array([1, 0, 1]), (np.array([0, 1]), np.array([2, 0])), (slice(None), np.array([[0, 2], [1, 1]])),
    np.array([True, False]), (np.array([1]), slice(None), np.array([3])), (0, slice(None), np.array([3, 1])),
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES)
def test_indices_are_numpys(index, rng):
    a = rng.integers(0, P, (ORDER, 2, 3, 4)).astype(object)
    assert read(series(a)[index]).tolist() == [c[index].tolist() for c in a]


@pytest.mark.parametrize("index", [[0, 2], [[1, -1], [-1, 0]], [-1, -1], [-1], []])
def test_gather_reads_zero_at_minus_one(index, rng):
    a = rng.integers(0, P, (ORDER, 2, 3)).astype(object)
    index = np.array(index, dtype=np.int64)
    expected = np.zeros((ORDER, 2, *index.shape), dtype=object)
    for place, i in np.ndenumerate(index):
        if i >= 0:
            expected[(slice(None), slice(None), *place)] = a[:, :, i]
    assert read(series(a).gather(index)).tolist() == expected.tolist()


def test_shapes_and_sums(rng):
    a = rng.integers(0, P, (ORDER, 2, 3, 4)).astype(object)
    x = series(a)
    assert read(x.sum()).tolist() == (a.sum(axis=-1) % P).tolist()
    assert read(x.transpose(2, 0, 1)).tolist() == a.transpose(0, 3, 1, 2).tolist()
    assert read(x.reshape(-1, 2)).tolist() == a.reshape(ORDER, 12, 2).tolist()
    assert not read(x.zeros()).any()
    assert x.zeros().shape == (2, 3, 4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_series_one_after_the_other(axis, rng):
    a = [rng.integers(0, P, (ORDER, *([2, 3, 4][:axis]), size, *([2, 3, 4][axis + 1 :]))) for size in (1, 3, 2)]
    first, *others = map(series, a)
    assert read(first.join(others, axis)).tolist() == np.concatenate(a, axis=axis + 1).tolist()
    assert first.join(others, axis).degree is None
    assert read(first.join([], axis)).tolist() == a[0].tolist()


def flow(start, velocity, p=P):
    """The solution of x' = velocity(x), whose coefficients define themselves."""

    def rule(n):
        return start if n == 0 else reduce(v.coefficient(n - 1) * inverse(float(n), p), p)

    x = PowerSeries(start.shape, p, rule)
    v = velocity(x)
    return x


def test_the_exponential():
    x = flow(np.array([1.0, 3.0]), lambda x: x)
    assert read(x, 30).tolist() == [[residue(Fraction(c, factorial(n))) for c in (1, 3)] for n in range(30)]


def test_a_blowing_up_solution():
    # x' = x**2 from a: a / (1 - a t).
    start = [1, 2, -5, Fraction(1, 3)]
    x = flow(centred(exact_array(start).residues(P), P), lambda x: x * x)
    assert read(x, 30).tolist() == [[residue(Fraction(a) ** (n + 1)) for a in start] for n in range(30)]


def test_the_tangent_and_its_derivative():
    t = sympy.Symbol("t")
    taylor = sympy.series(sympy.tan(t), t, 0, 12).removeO()
    one = PowerSeries.of(np.ones(1), P)
    x = flow(np.zeros(1), lambda x: one + x * x)
    assert read(x, 12)[:, 0].tolist() == [residue(Fraction(*sympy.fraction(taylor.coeff(t, n)))) for n in range(12)]


def test_a_square_root():
    # x' = 1 / x from 1: sqrt(1 + 2 t), whose coefficients are (-1)**(n - 1) C(2 n, n) / ((2 n - 1) 2**n).
    x = flow(np.ones(1), lambda x: x.reciprocal())
    expected = [residue(Fraction(-((-1) ** n) * comb(2 * n, n), (2 * n - 1) * 2**n)) for n in range(20)]
    assert read(x, 20)[:, 0].tolist() == expected


def test_two_unknowns_turn():
    # x' = y, y' = -x: cosine and minus sine.
    turn = PowerSeries.of(np.array([[0.0, 1.0], [-1.0, 0.0]]), P)
    x = flow(np.array([[1.0, 0.0]]), lambda x: x.linear(turn))
    signs = [(1, 0), (0, -1), (-1, 0), (0, 1)]
    assert read(x, 16)[:, 0].tolist() == [[residue(Fraction(s, factorial(n))) for s in signs[n % 4]] for n in range(16)]


def test_a_small_prime():
    # While n < p.
    assert read(flow(np.ones(1), lambda x: x, 7), 7)[:, 0].tolist() == [
        residue(Fraction(1, factorial(n)), 7) for n in range(7)
    ]


def test_extreme_coefficients_are_exact():
    half, orders = P // 2, 400
    x, y = series(np.full(orders, half)), series(np.full(orders, -half))
    assert read(x * x, orders).tolist() == [(n + 1) * half**2 % P for n in range(orders)]
    assert read(x * y, orders).tolist() == [-(n + 1) * half**2 % P for n in range(orders)]
    # One over half / (1 - t).
    assert read(x.reciprocal(), orders).tolist() == [pow(half, -1, P), -pow(half, -1, P) % P, *[0] * (orders - 2)]


def test_only_what_is_asked_for_is_worked_out_and_once():
    asked = []

    def rule(n):
        asked.append(n)
        return np.array([n + 1.0])

    x = PowerSeries((1,), P, rule)
    y = (x * x + x[:]).reciprocal()
    assert asked == []
    y.coefficient(2)
    assert asked == [0, 1, 2]
    y.coefficient(1)
    (x - x).coefficient(2)
    assert asked == [0, 1, 2]


@pytest.mark.parametrize("bad", [[0, 1], [P, 1], [3, 0]])
def test_zero_has_no_inverse(bad):
    with pytest.raises(ZeroDivisionError, match=f"0 has no inverse modulo {P}"):
        series(np.array([bad, [1, 1]])).reciprocal().coefficient(0)


def test_inverses_entry_by_entry(rng):
    values = np.concatenate([[1, -1, P // 2, -(P // 2), 7, 7], rng.integers(1, P // 2, 94)]).reshape(4, 25)
    found = inverses(values.astype(float), P)
    assert (found.astype(np.int64) * values % P == 1).all()
    assert np.abs(found).max() <= P // 2
