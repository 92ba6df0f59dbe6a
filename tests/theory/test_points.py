"""The N-point condition against brackets formed one by one in SymPy, and families that must never have it."""

import time
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy.polys.matrices import DomainMatrix

from theory import (
    ConvolutionProgram,
    MonomialProgram,
    RestrictedProgram,
    RidgeProgram,
    SphericalProgram,
    check_points,
    five_fields,
    monomial_exponents,
)
from theory.primes import random_prime

QQ = sympy.QQ


def ring(m):
    R, *x = sympy.ring(f"x:{m}", QQ)
    return R, x


def lie(V, W, x):
    """DW V - DV W of lists of SymPy polynomials."""
    return [
        sum((w.diff(s) * a - v.diff(s) * b for s, a, b in zip(x, V, W, strict=True)), w.ring.zero)
        for v, w in zip(V, W, strict=True)
    ]


def brackets(fields, x, depth):
    """All [V_a, [V_b, .. [V_c, V_d]]] of at most this many letters: they span all brackets."""
    found, level = list(fields), fields
    for _ in range(depth - 1):
        level = [W for V, U in product(fields, level) if any(W := lie(V, U, x))]
        found = found + level
    return found


def rank(fields, points):
    """Of the fields stacked over the points, over the rationals."""
    rows = [[QQ.convert(f(*map(QQ.convert, p))) for p in points for f in V] for V in fields]
    return DomainMatrix(rows, (len(rows), len(rows[0])), QQ).rank()


def program(fields):
    """SymPy polynomials as a program, by their monomials."""
    exponents = sorted({a for V in fields for f in V for a in f.monoms()} or {(0,) * len(fields[0])})

    def coefficient(f, a):
        c = f.get(a, QQ(0))
        return Fraction(int(c.numerator), int(c.denominator))

    return MonomialProgram(np.array(exponents), [[[coefficient(f, a) for a in exponents] for f in V] for V in fields])


def poly(rng, R, degree, density=1.0):
    """A random polynomial with small integers."""
    exponents = monomial_exponents(R.ngens, degree).tolist()
    kept = {tuple(a): QQ(int(rng.integers(-3, 4))) for a in exponents if rng.random() < density}
    return R.from_dict({a: c for a, c in kept.items() if c})


def distinct(rng, count, m, size=9):
    """Different points with integer coordinates, none of them 0."""
    found = {}
    while len(found) < count:
        x = tuple(rng.integers(-size, size + 1, m).tolist())
        if any(x):
            found[x] = None
    return list(found)


def quadratic(seed=0, m=2, d=3, dtype=None):
    rng, exponents = np.random.default_rng(seed), monomial_exponents(m, 2)
    c = rng.integers(-5, 6, (d, m, len(exponents)))
    return MonomialProgram(exponents, c if dtype is None else c.astype(dtype))


# Against explicit brackets


def system(seed):
    """Two quadratic fields, sparse or not, and points."""
    rng = np.random.default_rng(seed)
    m, count = [(2, 2), (2, 3), (1, 2), (3, 1)][seed % 4]
    R, x = ring(m)
    fields = [[poly(rng, R, 2, density=[0.25, 0.6][seed % 8 > 3]) for _ in range(m)] for _ in range(2)]
    return fields, x, distinct(rng, count, m, 3)


@pytest.mark.parametrize("seed", range(32))
def test_the_rank_is_that_of_explicit_brackets(seed):
    fields, x, points = system(seed)
    certificate = check_points(program(fields), points, seed=seed)
    assert certificate.rank == rank(brackets(fields, x, 5), points)
    assert certificate.proved == (certificate.rank == len(x) * len(points))


def test_those_systems_are_both_full_and_deficient():
    proved = sum(rank(brackets(f, x, 4), points) == len(x) * len(points) for f, x, points in map(system, range(32)))
    assert 8 <= proved <= 24


@pytest.mark.parametrize("seed", range(6))
def test_brackets_of_the_depth_told_are_enough(seed):
    rng = np.random.default_rng(seed)
    R, x = ring(2)
    fields, points = [[poly(rng, R, 2) for _ in range(2)] for _ in range(2)], distinct(rng, 2 + seed % 2, 2)
    certificate = check_points(program(fields), points, seed=seed)
    assert certificate.proved
    assert certificate.depth <= 6
    assert rank(brackets(fields, x, certificate.depth), points) == certificate.rank


def test_rational_fields_on_spheres_have_the_rank_of_their_brackets():
    base = MonomialProgram([[0, 0], [1, 0], [0, 1]], [[[1, 0, 2], [0, 1, 0]], [[0, 1, 1], [2, 0, 0]]])
    on_sphere = SphericalProgram(base)
    x, points = sympy.symbols("x_1:3"), [(1, 2), (3, -1), (-2, 5)]
    fields = [sympy.Matrix(V) for V in on_sphere.to_sympy(x)]
    V, W = fields
    found = [V, W, W.jacobian(x) * V - V.jacobian(x) * W]
    explicit = sympy.Matrix([[e for p in points for e in U.subs(dict(zip(x, p, strict=True)))] for U in found]).rank()
    certificate = check_points(on_sphere, points, seed=1)
    assert certificate.rank == certificate.full_rank == explicit == 3


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_linear_field_beside_constants(data):
    # At 0 and y: (c, c) for every c, and (0, Ay). Brackets are constants again.
    A = sympy.Matrix(2, 2, data.draw(st.lists(st.integers(-3, 3), min_size=4, max_size=4)))
    y = data.draw(st.tuples(st.integers(-5, 5), st.integers(-5, 5)).filter(any))
    x = sympy.symbols("x y")
    certificate = check_points([[1, 0], [0, 1], list(A * sympy.Matrix(x))], [(0, 0), y], symbols=x, seed=0)
    assert certificate.rank == 2 + (A * sympy.Matrix(y) != sympy.zeros(2, 1))


# Never certified


def shapes(seed):
    """m = 2, 3 and N = 2..4 in turn."""
    return 2 + seed % 2, 2 + seed // 2 % 3


def never(program, points, bound, seed):
    """Not proved, and the rank at most what theory allows."""
    certificate = check_points(program, points, seed=seed, primes=1)
    assert not certificate.proved
    assert certificate.rank <= bound < certificate.full_rank == len(points) * program.dim
    return certificate.rank


def test_linear_fields_beyond_m_points_are_never_certified():
    ranks = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        m = 2 + seed % 2
        A, count = rng.integers(-4, 5, (2 + seed % 3, m, m)), m + 1 + seed % 2
        ranks.append(never(MonomialProgram(np.eye(m, dtype=int), A), distinct(rng, count, m), m * m, seed) - m * m)
    assert ranks.count(0) > 150  # nearly all generate gl(m), and then no less is found


def test_fields_tangent_to_spheres_are_never_certified_in_the_whole_space():
    best = 0
    for seed in range(200):
        rng, (m, count) = np.random.default_rng(seed), shapes(seed)
        R, x = ring(m)
        fields = []
        for _ in range(2):
            V = [R.zero] * m
            for i in range(m):
                for j in range(i):
                    q = poly(rng, R, 1)
                    V[i], V[j] = V[i] + q * x[j], V[j] - q * x[i]
            assert sum((v * s for v, s in zip(V, x, strict=True)), R.zero) == 0
            fields.append(V)
        best += never(program(fields), distinct(rng, count, m), (m - 1) * count, seed) == (m - 1) * count
    assert best > 150


def test_commuting_fields_are_never_certified():
    for seed in range(200):
        rng, (m, count) = np.random.default_rng(seed), shapes(seed)
        R, x = ring(m)
        # Constants carried along by the shear (x_1, .., x_m + f(x_1, .., x_(m-1))).
        f = R.from_dict({a: c for a, c in poly(rng, R, 3).items() if a[-1] == 0})
        fields = []
        for _ in range(m + 1):
            c = [R(int(k)) for k in rng.integers(-3, 4, m)]
            fields.append([*c[:-1], sum((f.diff(s) * k for s, k in zip(x[:-1], c[:-1], strict=True)), c[-1])])
        assert all(not any(lie(V, W, x)) for V, W in product(fields, fields))
        points = distinct(rng, count, m)
        assert never(program(fields), points, m, seed) == rank(fields, points)


def test_fields_with_a_common_zero_among_the_points_are_never_certified():
    best = 0
    for seed in range(200):
        rng, (m, count) = np.random.default_rng(seed), shapes(seed)
        R, _ = ring(m)
        points = distinct(rng, count, m)
        zero = points[int(rng.integers(count))]
        fields = [[f - f(*zero) for f in (poly(rng, R, 2) for _ in range(m))] for _ in range(2)]
        best += never(program(fields), points, m * (count - 1), seed) == m * (count - 1)
    assert best > 150


def test_fields_with_an_invariant_line_or_plane_through_the_points_are_never_certified():
    best = 0
    for seed in range(200):
        rng, (m, count) = np.random.default_rng(seed), shapes(seed)
        R, x = ring(m)
        # <a, V> = <a, x> q keeps the points with <a, x> = 0 there; a ends in 1, so that the last component settles it.
        a = [*rng.integers(-2, 3, m - 1).tolist(), 1]
        form = sum((s * k for s, k in zip(x, a, strict=True)), R.zero)
        fields = []
        for _ in range(3):
            V = [poly(rng, R, 2) for _ in range(m - 1)]
            fields.append([*V, form * poly(rng, R, 1) - sum((v * k for v, k in zip(V, a[:-1], strict=True)), R.zero)])
        heads = distinct(rng, count, m - 1)
        points = [(*h, -sum(s * k for s, k in zip(h, a[:-1], strict=True))) for h in heads]
        best += never(program(fields), points, (m - 1) * count, seed) == (m - 1) * count
    assert best > 150


def test_fields_multiplied_by_what_is_one_modulo_p_are_never_certified_where_it_is_zero():
    for seed in range(200):
        rng, (m, count) = np.random.default_rng([seed, 3]), shapes(seed)
        # The very prime that the engine will draw: it divides the point's denominator, so that another is taken.
        p = random_prime(np.random.default_rng(seed))
        R, x = ring(m)
        fields = [[(1 - p * x[0]) * poly(rng, R, 2) for _ in range(m)] for _ in range(3)]
        points = [*distinct(rng, count - 1, m), (Fraction(1, p), *rng.integers(-5, 6, m - 1).tolist())]
        certificate = check_points(program(fields), points, seed=seed, primes=1)
        assert certificate.runs[0].prime != p
        assert not certificate.proved
        assert certificate.rank <= m * (count - 1)


def test_one_field_has_rank_one():
    for seed in range(20):
        assert check_points(quadratic(seed, d=1), [(1, 2), (3, 4)], seed=seed, primes=1).rank == 1
    assert check_points(MonomialProgram([[0], [1]], [[[1, 1]]]), [[2]], seed=0).proved
    assert not check_points(MonomialProgram([[0], [1]], [[[1, 1]]]), [[-1]], seed=0).proved


def test_fields_that_vanish_have_rank_zero():
    certificate = check_points(MonomialProgram([[0, 0]], np.zeros((2, 2, 1), dtype=int)), [(1, 2)], seed=0)
    assert (certificate.proved, certificate.rank, certificate.full_rank) == (False, 0, 2)


def test_points_on_one_line_are_no_different_for_quadratic_fields_but_are_for_linear_ones():
    line = [(1, 2), (2, 4)]
    assert check_points(quadratic(), line, seed=0).proved
    linear = MonomialProgram(np.eye(2, dtype=int), [[[1, 2], [3, 5]], [[0, 1], [1, 1]]])
    assert check_points(linear, [(1, 2), (2, 5)], seed=0).proved  # gl(2) moves two independent points as it likes
    assert check_points(linear, line, seed=0).rank == 2


# Families that do have it


@pytest.mark.parametrize("count", [1, 4, 12])
def test_hamiltonian_fields_interpolate(count):
    rng = np.random.default_rng(count)
    R, (x, y) = ring(2)
    fields = [[H.diff(y), -H.diff(x)] for H in (poly(rng, R, 4) for _ in range(3))]
    certificate = check_points(program(fields), distinct(rng, count, 2), seed=0)
    assert (certificate.proved, certificate.rank) == (True, 2 * count)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_divergence_free_fields_interpolate(count):
    rng = np.random.default_rng(count)
    R, (x, y, z) = ring(3)
    fields = []
    for _ in range(3):
        f, g, h = (poly(rng, R, 3) for _ in range(3))
        V = [h.diff(y) - g.diff(z), f.diff(z) - h.diff(x), g.diff(x) - f.diff(y)]
        assert sum((v.diff(s) for v, s in zip(V, (x, y, z), strict=True)), R.zero) == 0
        fields.append(V)
    certificate = check_points(program(fields), distinct(rng, count, 3), seed=0)
    assert (certificate.proved, certificate.rank) == (True, 3 * count)


@pytest.mark.parametrize("m", [2, 3, 5])
def test_the_five_at_many_points(m):
    rng = np.random.default_rng(m)
    points = np.concatenate([np.zeros((1, m)), rng.standard_normal((11, m))])
    assert check_points(five_fields(m), points, seed=0).rank == 12 * m


@pytest.mark.parametrize(("m", "count"), [(2, 1), (2, 5), (3, 1), (3, 6)])
def test_on_spheres_the_rank_is_m_minus_one_a_point(m, count):
    on_sphere = SphericalProgram(quadratic(m, m, 3))
    certificate = check_points(on_sphere, distinct(np.random.default_rng(3), count, m), seed=0)
    assert (certificate.proved, certificate.scope) == (True, "sphere")
    assert certificate.rank == certificate.full_rank == (m - 1) * count


def test_rotations_of_the_sphere_move_one_point_but_not_two():
    # so(3): rank 2 at a point, 3 at two, of 4.
    skew = [[[0, 1, 0], [-1, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 1], [0, -1, 0]]]
    on_sphere = SphericalProgram(MonomialProgram(np.eye(3, dtype=int), skew))
    assert check_points(on_sphere, [(1, 2, 3)], seed=0).proved
    certificate = check_points(on_sphere, [(1, 2, 3), (3, 2, 1)], seed=0)
    assert (certificate.proved, certificate.rank, certificate.full_rank) == (False, 3, 4)


def test_the_centre_of_the_spheres_is_refused():
    with pytest.raises(ValueError, match="row 1 is 0"):
        check_points(SphericalProgram(quadratic()), [(1, 2), (0, 0)])


def ridge(d=3, m=2, seed=0):
    rng = np.random.default_rng(seed)
    return RidgeProgram(rng.integers(-3, 4, (d, m, m)), rng.integers(-3, 4, (d, m)), rng.integers(1, 4, (d, 4)))


def convolution():
    rng = np.random.default_rng(2)
    return ConvolutionProgram(
        (1, 2, 2), rng.integers(1, 5, (4, 3, 3)), [0] * 4, [0] * 4, [1, 2, -1, 3], [0, 1], rng.integers(1, 5, (4, 4))
    )


@pytest.mark.parametrize("make", [ridge, convolution, lambda: RestrictedProgram(ridge(), 100)])
def test_other_programs_agree_with_their_expansion_by_monomials(make):
    structured = make()
    symbols = sympy.symbols(f"x_1:{structured.dim + 1}")
    points = distinct(np.random.default_rng(4), 3, structured.dim, 4)
    one = check_points(structured, points, seed=5)
    other = check_points(structured.to_sympy(symbols), points, symbols=symbols, seed=5)
    assert one.proved
    # The same seed, hence the same prime and the same curves.
    assert (one.rank, one.depth, one.runs) == (other.rank, other.depth, other.runs)
    assert one.digest != other.digest


def test_points_outside_the_ball_are_refused():
    with pytest.raises(ValueError, match=r"row 1 has \|x\| = 5.*outside the ball"):
        check_points(RestrictedProgram(ridge(), 4), [(1, 1), (3, 4)])


# What is given


def test_the_same_point_twice_is_named():
    with pytest.raises(ValueError, match="rows 0 and 2 are the same point"):
        check_points(quadratic(), [(Fraction(1, 2), 1), (1, 2), (0.5, 1.0), (1, 2)])
    assert check_points(quadratic(), [(0.1, 0), (Fraction(1, 10), 0)], seed=0).proved  # 0.1 is not 1/10


@pytest.mark.parametrize("points", [np.zeros((0, 2)), [], [1, 2], [(1, 2, 3)], np.zeros((1, 2, 1))])
def test_points_have_a_shape(points):
    with pytest.raises(ValueError, match=r"points have shape .*expected \(N, 2\) with N >= 1"):
        check_points(quadratic(), points)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_points_are_finite(bad):
    with pytest.raises(ValueError, match="points: row 1 holds"):
        check_points(quadratic(), [[1.0, 2.0], [3.0, bad]])


def test_a_denominator_divisible_by_the_prime_takes_another_prime():
    points = [(1, 2), (3, 4)]
    p = check_points(quadratic(), points, seed=6).runs[0].prime
    certificate = check_points(quadratic(), [(1, Fraction(2, p)), (3, 4)], seed=6)
    assert certificate.proved
    assert p not in [run.prime for run in certificate.runs]
    c = [[[Fraction(1, p), 1]], [[1, 0]]]
    assert check_points(MonomialProgram([[2], [0]], c), [[0], [1]], seed=6).runs[0].prime != p


def test_a_sphere_s_square_divisible_by_the_prime_takes_another_prime():
    on_sphere = SphericalProgram(quadratic())
    p = check_points(on_sphere, [(1, 2)], seed=6).runs[0].prime
    certificate = check_points(on_sphere, [(p, 2 * p)], seed=6)
    assert certificate.proved
    assert certificate.runs[0].prime != p


def test_points_that_agree_modulo_the_prime_are_told_apart_by_the_next():
    p = check_points(quadratic(), [(1, 2), (3, 4)], seed=6).runs[0].prime
    certificate = check_points(quadratic(), [(1, 2), (1 + p, 2)], seed=6)
    assert certificate.proved
    assert [run.rank for run in certificate.runs] == [2, 4]
    assert certificate.runs[0].prime == p


def test_numbers_of_any_kind_are_the_same_points():
    points = [(0.5, 1.0), (-2.0, 0.75)]
    kinds = [points, np.array(points, dtype=np.float32), [[Fraction(v) for v in x] for x in points]]
    assert len({check_points(quadratic(), x, seed=7).points_digest for x in kinds}) == 1
    assert check_points(quadratic(), points[::-1], seed=7).points_digest not in {
        check_points(quadratic(), points, seed=7).points_digest
    }


# How it is run


def test_a_seed_says_it_all():
    one, two, other = (check_points(quadratic(), [(1, 2), (3, 4)], seed=seed) for seed in (8, 8, 9))
    assert one == two
    assert one.runs[0].prime != other.runs[0].prime
    drawn = check_points(quadratic(), [(1, 2), (3, 4)])
    assert check_points(quadratic(), [(1, 2), (3, 4)], seed=drawn.seed) == drawn


@pytest.mark.parametrize("primes", [1, 2, 4])
def test_a_deficient_rank_is_tried_with_so_many_primes(primes):
    linear = MonomialProgram(np.eye(2, dtype=int), [[[1, 2], [3, 5]], [[0, 1], [1, 1]]])
    certificate = check_points(linear, [(1, 2), (2, 5), (3, 7)], seed=1, primes=primes)
    assert len({run.prime for run in certificate.runs}) == len(certificate.runs) == primes
    assert len(check_points(quadratic(), [(1, 2)], seed=1, primes=primes).runs) == 1


def test_the_rank_rises_before_the_eyes():
    seen = []
    points = distinct(np.random.default_rng(0), 60, 2, 30)
    check_points(quadratic(), points, seed=0, progress=lambda *now: seen.append(now))
    ranks = [rank for rank, _ in seen]
    assert len(seen) > 1
    assert ranks == sorted(set(ranks))
    assert seen[-1] == (120, 120)
    assert {full for _, full in seen} == {120}


def test_time_ends_it_with_what_has_been_found():
    points = distinct(np.random.default_rng(0), 60, 2, 30)
    certificate = check_points(quadratic(), points, seed=0, time_limit=1, progress=lambda *_: time.sleep(1))
    assert (certificate.proved, len(certificate.runs), len(certificate.runs[0].curves)) == (False, 1, 1)
    assert 0 < certificate.rank < 120
    assert certificate.note == "stopped after 1 s"
    assert "(stopped after 1 s)" in str(certificate)
    assert certificate.verify(seed=0).proved  # a verification has all the time


def test_no_time_at_all_finds_nothing_and_says_so():
    certificate = check_points(quadratic(), [(1, 2), (3, 4)], seed=0, time_limit=0)
    assert (certificate.proved, certificate.rank) == (False, 0)


def test_a_full_rank_has_no_note_however_late():
    certificate = check_points(quadratic(), [(1, 2)], seed=0, time_limit=1, progress=lambda *_: time.sleep(1))
    assert (certificate.proved, certificate.note) == (True, "")


# What is said


def test_the_sentence_of_a_proof():
    certificate = check_points(quadratic(), [(1, 2), (3, 4)], seed=8)
    p = certificate.runs[-1].prime
    assert str(certificate) == (
        f"Proved: rank 4 of 4 modulo {p} at these points, brackets of depth <= {certificate.depth}: the 2-point "
        "condition holds there, and for generic points and coefficients."
    )


def test_the_sentence_on_spheres():
    text = str(check_points(SphericalProgram(quadratic()), [(1, 2), (3, 4)], seed=8))
    assert text.startswith("Proved: rank 2 of 2 modulo ")
    assert "on the spheres through these points" in text


def test_the_sentence_of_no_proof():
    linear = MonomialProgram(np.eye(2, dtype=int), [[[1, 2], [3, 5]], [[0, 1], [1, 1]]])
    for primes, words in [(1, "1 prime,"), (3, "3 primes,")]:
        text = str(check_points(linear, [(1, 2), (2, 5), (3, 7)], seed=1, primes=primes))
        assert text.startswith(f"Not proved: rank 4 of 6 with {words} brackets of depth <= ")
        assert text.endswith("It does not hold: the rank is at most 4: linear fields have only m**2 dimensions.")


def test_what_a_certificate_is_about():
    certificate = check_points(quadratic(dtype=np.float32), [(1, 2), (3, 4)], seed=8)
    assert (certificate.claim, certificate.scope) == ("points", "points")
    assert (certificate.dim, certificate.count, certificate.points, certificate.degree) == (2, 3, 2, None)
    assert (certificate.seed, certificate.dtype) == (8, "float32")
    assert certificate.subject == str(quadratic(dtype=np.float32))
    assert certificate.digest == quadratic().digest()
