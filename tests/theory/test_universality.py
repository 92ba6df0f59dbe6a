"""Universality: families that have it, families that never may, and the span against brackets formed in SymPy."""

import time
from fractions import Fraction
from math import comb

import numpy as np
import pytest
import sympy
from sympy.polys.matrices import DomainMatrix

from theory import (
    MonomialProgram,
    RestrictedProgram,
    RidgeProgram,
    SphericalProgram,
    five_fields,
    monomial_exponents,
    universal,
)
from theory.closure import BracketOperator
from theory.primes import random_prime
from theory.rowspace import centred

QQ = sympy.QQ


def ring(m, domain=QQ):
    R, *x = sympy.ring(f"x:{m}", domain)
    return R, x


def lie(V, W, x):
    """DW V - DV W of lists of SymPy polynomials."""
    return [
        sum((w.diff(s) * a - v.diff(s) * b for s, a, b in zip(x, V, W, strict=True)), w.ring.zero)
        for v, w in zip(V, W, strict=True)
    ]


def degree(V):
    """Of a field; 0 for the one that is zero."""
    return max((sum(a) for f in V for a in f.monoms()), default=0)


def program(fields):
    """SymPy polynomials as a program, by their monomials."""
    exponents = sorted({a for V in fields for f in V for a in f.monoms()} or {(0,) * len(fields[0])})

    def coefficient(f, a):
        c = f.get(a, QQ(0))
        return Fraction(int(c.numerator), int(c.denominator))

    return MonomialProgram(np.array(exponents), [[[coefficient(f, a) for a in exponents] for f in V] for V in fields])


def poly(rng, R, degree, density=1.0):
    """A random polynomial with small integers."""
    kept = {tuple(a): QQ(int(rng.integers(-3, 4))) for a in monomial_exponents(R.ngens, degree).tolist()}
    return R.from_dict({a: c for a, c in kept.items() if c and rng.random() < density})


def random(m, d, degree, seed=0):
    exponents = monomial_exponents(m, degree)
    return MonomialProgram(exponents, np.random.default_rng(seed).integers(-3, 4, (d, m, len(exponents))))


def rank(fields):
    """Of fields as vectors of coefficients, over the rationals."""
    keys = sorted({(j, a) for V in fields for j, f in enumerate(V) for a in f.monoms()})
    rows = [[V[j].get(a, QQ(0)) for j, a in keys] for V in fields]
    return DomainMatrix(rows, (len(rows), len(keys)), QQ).rank() if keys else 0


def dimension(fields, x, level, most):
    """The span of brackets [V_a, [V_b, .. V_c]] of degree <= level, all whose parts have degree <= most.

    Degrees are counted: 1 + the sum of (deg V - 1).
    """
    found, waiting = [], [(degree(V), V) for V in fields if degree(V) <= most]
    while waiting:
        waiting.sort(key=lambda item: item[0])
        g, W = waiting.pop(0)
        below = [U for h, U in found if h <= g]
        if rank([*below, W]) == rank(below):
            continue
        found.append((g, W))
        for V in fields:
            if 0 <= g + degree(V) - 1 <= most:
                waiting.append((g + degree(V) - 1, lie(V, W, x)))
    return rank([W for g, W in found if g <= level])


# Families that have it


@pytest.mark.parametrize("m", [2, 3, 4])
def test_the_five_are_universal(m):
    certificate = universal(five_fields(m), seed=m)
    assert certificate.proved
    assert (certificate.claim, certificate.scope, certificate.points) == ("universal", "polynomial", None)
    assert certificate.rank == certificate.full_rank == m * comb(m + certificate.degree, m)
    assert certificate.degree >= 2


@pytest.mark.parametrize(("m", "d"), [(2, 2), (3, 5)])
def test_random_quadratic_fields_are_universal(m, d):
    certificate = universal(random(m, d, 2), seed=0)
    assert certificate.proved
    assert certificate.rank == certificate.full_rank == m * comb(m + certificate.degree, m)


@pytest.mark.parametrize("degree", [3, 4])
def test_random_fields_of_higher_degree_are_universal(degree):
    assert universal(random(2, 3, degree), seed=0).proved


def test_ridge_fields_of_degree_three_are_universal():
    rng = np.random.default_rng(1)
    ridge = RidgeProgram(
        rng.standard_normal((5, 2, 2)).astype(np.float32),
        rng.standard_normal((5, 2)).astype(np.float32),
        rng.standard_normal((5, 4)).astype(np.float32),
    )
    certificate = universal(ridge, seed=0)
    assert certificate.proved
    assert certificate.subject == str(ridge)
    assert certificate.dtype == "float32"


def test_one_of_the_five_less_is_not_universal():
    x = sympy.symbols("x y z")
    fields = five_fields(3).to_sympy(x)
    assert universal(fields, symbols=x, seed=0, max_degree=4).proved
    # Without the constant all keep 0 fixed; without the squares all are affine or projective.
    for i in (2, 3):
        assert not universal(fields[:i] + fields[i + 1 :], symbols=x, seed=0, max_degree=4).proved


def test_the_prime_that_divides_a_denominator_is_replaced():
    p = universal(five_fields(2), seed=3).runs[0].prime
    x = sympy.symbols("x y")
    fields = five_fields(2).to_sympy(x)
    certificate = universal([*fields[:-1], [t / p for t in fields[-1]]], symbols=x, seed=3)
    assert certificate.proved
    assert certificate.runs[-1].prime != p


# Families that never may


def vanishing(m, p):
    """(1 - p x_1) V for each of the five: modulo p the five themselves, over the rationals zero at x_1 = 1/p."""
    x = sympy.symbols(f"x_1:{m + 1}")
    return [[sympy.expand((1 - p * x[0]) * f) for f in V] for V in five_fields(m).to_sympy(x)], x


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_fields_that_look_like_the_five_modulo_the_prime_are_not_certified(m, seed):
    p = universal(five_fields(m), seed=seed).runs[0].prime
    fields, x = vanishing(m, p)
    certificate = universal(fields, symbols=x, seed=seed, max_degree=None if m == 2 else 5)
    assert certificate.runs[0].prime == p
    assert not certificate.proved


@pytest.mark.parametrize("p", [1, 2, 3, 524309, 1048573])
def test_fields_with_a_common_zero_are_not_certified(p):
    fields, x = vanishing(2, p)
    certificate = universal(fields, symbols=x, seed=0, max_degree=6)
    assert not certificate.proved
    assert certificate.rank < certificate.full_rank


def test_a_field_that_vanishes_modulo_the_prime_is_seen_modulo_the_next():
    p = universal(five_fields(2), seed=1).runs[0].prime
    x = sympy.symbols("x y")
    fields = five_fields(2).to_sympy(x)
    certificate = universal([*fields[:2], [0, p], *fields[3:]], symbols=x, seed=1, max_degree=4)
    assert certificate.proved
    assert certificate.runs[0].prime == p
    assert len(certificate.runs) == 2


@pytest.mark.parametrize("seed", range(8))
def test_hamiltonian_fields_are_not_certified(seed):
    R, (x, y) = ring(2)
    rng = np.random.default_rng(seed)
    fields = [[H.diff(y), -H.diff(x)] for H in (poly(rng, R, 3) for _ in range(4))]
    certificate = universal(program(fields), seed=seed, max_degree=7)
    assert not certificate.proved
    # Hamiltonians of degree up to D + 1, without the constant.
    assert certificate.rank == comb(certificate.degree + 3, 2) - 1 < certificate.full_rank


@pytest.mark.parametrize("seed", range(4))
def test_divergence_free_fields_are_not_certified(seed):
    R, (x, y, z) = ring(3)
    rng = np.random.default_rng(seed)
    fields = []
    for _ in range(5):
        f, g, h = (poly(rng, R, 3) for _ in range(3))
        fields.append([h.diff(y) - g.diff(z), f.diff(z) - h.diff(x), g.diff(x) - f.diff(y)])
    certificate = universal(program(fields), seed=seed, max_degree=5)
    assert not certificate.proved
    # All fields less their divergences, the polynomials of degree D - 1.
    assert certificate.rank <= certificate.full_rank - comb(certificate.degree + 2, 3)


@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("degree", [0, 1])
def test_affine_fields_are_not_certified(m, degree):
    assert not universal(random(m, 4, degree), seed=0).proved
    assert not universal(random(m, 4, degree), seed=0, max_degree=5).proved


@pytest.mark.parametrize("seed", range(8))
def test_commuting_fields_are_not_certified(seed):
    # Constants carried along by the shear (x, y + f(x)).
    R, (x, _) = ring(2)
    f = poly(np.random.default_rng(seed), ring(1)[0], 4)
    slope = sum((k * c * x ** (k - 1) for (k,), c in f.items() if k), R.zero)
    fields = [[R(a), a * slope + b] for a, b in [(1, 0), (0, 1), (2, 3)]]
    certificate = universal(program(fields), seed=seed, max_degree=5)
    assert (certificate.proved, certificate.rank) in [(False, 0), (False, 1), (False, 2)]


def test_fields_tangent_to_a_line_are_not_certified():
    rng, (R, (x, _)) = np.random.default_rng(0), ring(2)
    fields = [[x * poly(rng, R, 1), poly(rng, R, 2)] for _ in range(4)]
    assert not universal(program(fields), seed=0, max_degree=6).proved


def linear(rng, R, x, p):
    return [
        [sum((int(c) * s for c, s in zip(row, x, strict=True)), R.zero) for row in rng.integers(-4, 5, (2, 2))]
        for _ in range(3)
    ]


def tangent_to_circles(rng, R, x, p):
    factors = [poly(rng, R, 2) for _ in range(3)]
    return [[-q * x[1], q * x[0]] for q in factors]


def commuting(rng, R, x, p):
    f = R.from_dict({a: c for a, c in poly(rng, R, 3).items() if a[1] == 0})
    return [[R(int(a)), f.diff(x[0]) * int(a) + int(b)] for a, b in rng.integers(-4, 5, (3, 2))]


def with_a_common_zero(rng, R, x, p):
    zero = rng.integers(-5, 6, 2).tolist()
    return [[f - f(*zero) for f in (poly(rng, R, 2), poly(rng, R, 2))] for _ in range(4)]


def with_an_invariant_line(rng, R, x, p):
    a, c = rng.integers(-3, 4, 2).tolist()
    fields = []
    for _ in range(4):
        V = poly(rng, R, 2)
        fields.append([V, (a * x[0] + x[1] + c) * poly(rng, R, 1) - a * V])
    return fields


def times_what_is_one_modulo_p(rng, R, x, p):
    return [[(1 - p * x[0]) * (poly(rng, R, 2) + R(int(c))) for c in rng.integers(1, 4, 2)] for _ in range(5)]


def two_times_what_is_one_modulo_p(rng, R, x, p):
    a, b = rng.integers(1, 4, 2).tolist()
    fields = [[-a * x[0], a * x[1]], [b * (x[1] + x[1] ** 2 + x[0] * x[1]), b * (x[0] + 1 + x[1] ** 2)]]
    return [[(1 - p * x[0]) * f for f in V] for V in fields]


def hamiltonian(rng, R, x, p):
    return [[H.diff(x[1]), -H.diff(x[0])] for H in (poly(rng, R, 3) for _ in range(3))]


@pytest.mark.parametrize(
    "family",
    [
        linear,
        tangent_to_circles,
        commuting,
        with_a_common_zero,
        with_an_invariant_line,
        times_what_is_one_modulo_p,
        two_times_what_is_one_modulo_p,
        hamiltonian,
    ],
    ids=lambda family: family.__name__,
)
def test_two_hundred_random_ones_are_never_certified(family):
    R, x = ring(2)
    for seed in range(200):
        # The very prime that the engine will draw.
        p = random_prime(np.random.default_rng(seed))
        fields = family(np.random.default_rng([seed, 7]), R, x, p)
        certificate = universal(program(fields), seed=seed, max_degree=4, primes=1)
        assert certificate.runs[0].prime == p
        assert not certificate.proved, seed


def test_without_the_factor_they_would_be():
    R, x = ring(2)
    for seed in range(20):
        fields = two_times_what_is_one_modulo_p(np.random.default_rng([seed, 7]), R, x, 0)
        assert universal(program(fields), seed=seed, max_degree=4, primes=1).proved
        fields = times_what_is_one_modulo_p(np.random.default_rng([seed, 7]), R, x, 0)
        assert universal(program(fields), seed=seed, max_degree=4, primes=1).proved


def test_one_field_is_never_enough():
    for seed in range(5):
        assert not universal(random(2, 1, 2, seed), seed=seed).proved


def test_on_the_line():
    (x,) = symbols = sympy.symbols("x:1")
    # 1, x and x**2 are all that 1 and x**2 generate; that they fill P_2 proves nothing.
    for most in (None, 3, 6):
        assert not universal([[1], [x**2]], symbols=symbols, seed=0, max_degree=most).proved
    assert not universal([[1], [x], [x**2]], symbols=symbols, seed=0).proved
    certificate = universal([[1], [x**2], [x**3]], symbols=symbols, seed=0)
    assert (certificate.proved, certificate.degree, certificate.rank) == (True, 3, 4)
    assert "in the same order" in str(certificate)


def test_no_degree_beyond_the_largest_is_tried():
    (x,) = symbols = sympy.symbols("x:1")
    with pytest.raises(ValueError, match="max_degree 2, expected 3 <= min_degree"):
        universal([[1], [x**2], [x**3]], symbols=symbols, seed=0, max_degree=2)
    assert not universal(random(2, 2, 2), seed=0, max_degree=10).proved
    assert universal(random(2, 2, 2), seed=0, max_degree=11).degree == 11


@pytest.mark.parametrize("least", [2, 3, 5])
def test_no_degree_below_the_least_is_told(least):
    certificate = universal(five_fields(2), seed=0, min_degree=least)
    assert (certificate.proved, certificate.degree) == (True, least)
    assert certificate.rank == 2 * comb(least + 2, 2)


def test_fields_known_in_a_ball_are_not_claimed_outside():
    try:
        text = str(universal(RestrictedProgram(five_fields(2), 5), seed=0))
    except ValueError as error:
        text = str(error)
    assert "ball" in text


# The span, and a single bracket


@pytest.mark.parametrize("most", [2, 3, 4, 5])
@pytest.mark.parametrize("seed", range(6))
def test_the_rank_is_that_of_explicit_brackets_where_degrees_rise(seed, most):
    rng, (R, x) = np.random.default_rng(seed), ring(2)
    fields = [[poly(rng, R, k, density=0.5 + 0.1 * seed) + x[0] ** k for _ in range(2)] for k in (2, 2 + seed % 2)]
    certificate = universal(program(fields), seed=seed, max_degree=most)
    assert certificate.rank == dimension(fields, x, certificate.degree, most)
    assert certificate.proved == (certificate.rank == 2 * comb(certificate.degree + 2, 2))
    assert certificate.proved or certificate.rank == dimension(fields, x, most, most)


FALLING = [(0, 2), (1, 2), (0, 1, 3), (0, 3)]


def falling(seed):
    """Fields of which some are constant or linear, so that brackets come back to lower degrees."""
    rng, m = np.random.default_rng(seed), 1 + seed % 2
    R, x = ring(m)
    return [[poly(rng, R, k, density=0.5) for _ in range(m)] for k in FALLING[seed // 2 % 4]], x


@pytest.mark.parametrize("seed", range(16))
def test_it_is_proved_where_explicit_brackets_fill_some_degree(seed):
    fields, x = falling(seed)
    m, most = len(x), 4
    least = 3 if m == 1 else 2
    full = [dimension(fields, x, D, most) == m * comb(D + m, m) for D in range(least, most + 1)]
    assert universal(program(fields), seed=seed, max_degree=most).proved == any(full)


@pytest.mark.parametrize("seed", range(16))
def test_the_rank_is_that_of_explicit_brackets_where_degrees_fall(seed):
    fields, x = falling(seed)
    certificate = universal(program(fields), seed=seed, max_degree=4)
    assert certificate.rank == dimension(fields, x, certificate.degree, 4)


@pytest.mark.parametrize("p", [101, 1048573])
@pytest.mark.parametrize(
    ("m", "k", "level"), [(1, 2, 3), (2, 2, 3), (2, 3, 1), (3, 2, 2), (3, 1, 2), (2, 0, 2), (4, 2, 1)]
)
def test_brackets_of_rows_are_sympy_s(m, k, level, p):
    rng, (R, x) = np.random.default_rng(m + k), ring(m)
    V = [poly(rng, R, k) for _ in range(m)]
    fields = program([V])
    monomials = [tuple(a) for a in monomial_exponents(m, level).tolist()]
    rows = rng.integers(0, p, (3, len(monomials), m))
    to = level + k - 1
    found = BracketOperator(fields, 0, p).of(centred(rows.reshape(3, -1), p), level, to)
    for row, got in zip(rows, found, strict=True):
        W = [R.from_dict({a: QQ(int(c)) for a, c in zip(monomials, row[:, j], strict=True) if c}) for j in range(m)]
        expected = [int(f.get(tuple(a), 0)) % p for a in monomial_exponents(m, to).tolist() for f in lie(V, W, x)]
        assert (got.astype(np.int64) % p).tolist() == expected
    assert found.any()


# What is given, and how it is run


@pytest.mark.parametrize(("least", "most"), [(2, -1), (2, 0), (2, 1), (1, None), (1, 4), (5, 4)])
def test_degrees_are_two_at_least_and_in_order(least, most):
    with pytest.raises(ValueError, match=rf"min_degree is {least} and max_degree {most}, expected 2 <= min_degree"):
        universal(five_fields(2), min_degree=least, max_degree=most)


@pytest.mark.parametrize("wrap", [SphericalProgram, lambda V: RestrictedProgram(SphericalProgram(V), 5)])
def test_fields_on_spheres_are_refused(wrap):
    with pytest.raises(ValueError, match="universality is decided for polynomial fields only"):
        universal(wrap(five_fields(2)))


def test_expressions_and_programs_are_the_same():
    x = sympy.symbols("x y")
    one, other = universal(five_fields(2), seed=5), universal(five_fields(2).to_sympy(x), symbols=x, seed=5)
    assert (one.rank, one.degree, one.depth, one.runs) == (other.rank, other.degree, other.depth, other.runs)


def test_a_seed_says_it_all():
    one, two, other = (universal(random(2, 3, 2), seed=seed) for seed in (5, 5, 6))
    assert one == two
    assert one.runs[0].prime != other.runs[0].prime


@pytest.mark.parametrize("primes", [1, 2, 3])
def test_a_deficient_rank_is_tried_with_so_many_primes(primes):
    certificate = universal(random(2, 3, 1), seed=1, primes=primes, max_degree=3)
    assert len({run.prime for run in certificate.runs}) == len(certificate.runs) == primes


def test_the_rank_is_told_as_it_grows():
    seen = []
    certificate = universal(random(2, 2, 2), seed=0, progress=lambda *now: seen.append(now))
    assert seen == sorted(seen)
    assert len(seen) > 3
    assert seen[-1] == (certificate.rank, certificate.full_rank)


def test_time_ends_it_with_what_has_been_found():
    certificate = universal(random(2, 2, 2), seed=0, time_limit=1, progress=lambda *_: time.sleep(1))
    assert (certificate.proved, certificate.note) == (False, "stopped after 1 s")
    assert certificate.rank == 2
    assert certificate.verify(seed=0).proved  # a verification has all the time


def test_no_time_at_all_finds_nothing_and_says_so():
    certificate = universal(five_fields(2), seed=0, time_limit=0)
    assert (certificate.proved, certificate.rank) == (False, 0)


def test_the_sentences():
    certificate = universal(five_fields(2), seed=5)
    p = certificate.runs[-1].prime
    assert str(certificate) == (
        f"Proved: brackets contain all fields of degree <= 2 (12 of 12 modulo {p}), and so all polynomial fields: the "
        "condition holds for every N at all distinct points."
    )
    text = str(universal(random(2, 3, 1), seed=1, primes=1, max_degree=3))
    assert text.startswith("Not proved: rank ")
    assert text.endswith("They do not span all polynomial fields: brackets of affine fields are affine.")
