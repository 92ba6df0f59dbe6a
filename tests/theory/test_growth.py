"""Growth vectors against explicit brackets in SymPy, and where they are known."""

from fractions import Fraction

import numpy as np
import pytest
import sympy
from sympy import QQ
from sympy.polys.matrices import DomainMatrix

from theory import (
    MonomialProgram,
    RestrictedProgram,
    RidgeProgram,
    SphericalProgram,
    exact_array,
    five_fields,
    growth_vector,
    monomial_exponents,
)
from theory.growth import _random_rows

P = 1048573


def rational(value):
    """A number of SymPy's field QQ, whichever library it takes its integers from."""
    value = Fraction(value)
    return QQ(value.numerator, value.denominator)


class Brackets:
    """Fields with coefficients in Q(x)."""

    def __init__(self, program):
        symbols = sympy.symbols(f"x_1:{program.dim + 1}")
        self.field, self.m = QQ.frac_field(*symbols), program.dim
        self.fields = [[self.field.from_sympy(c) for c in V] for V in program.to_sympy(symbols)]

    def bracket(self, V, W):
        """[V, W] = DW V - DV W."""
        return [
            sum((W[a].diff(s) * V[b] - V[a].diff(s) * W[b] for b, s in enumerate(self.field.gens)), self.field.zero)
            for a in range(self.m)
        ]

    def combination(self, weights):
        return [
            sum((int(w) * V[a] for w, V in zip(weights, self.fields, strict=True)), self.field.zero)
            for a in range(self.m)
        ]

    def stacked(self, W, points):
        """The rationals of a field at all points."""
        row = []
        for point in points:
            values = list(zip(self.field.field.ring.gens, map(rational, point), strict=True))
            row += [c.numer.evaluate(values) / c.denom.evaluate(values) for c in W]
        return row

    def ranks(self, points, depth):
        """The ranks over the rationals of all [V_i, [V_j, .. V_k]] up to each depth."""
        level, rows, ranks = self.fields, [], []
        for _ in range(depth):
            rows += [self.stacked(W, points) for W in level]
            ranks.append(DomainMatrix(rows, (len(rows), len(rows[0])), QQ).rank())
            level = [self.bracket(V, W) for V in self.fields for W in level]
        return ranks


def residues(values):
    return [int(v.numerator) * pow(int(v.denominator), -1, P) % P for v in values]


def fractions(rng, *shape):
    n, q = rng.integers(-5, 6, shape), rng.integers(1, 4, shape)
    return np.frompyfunc(lambda a, b: Fraction(int(a), int(b)), 2, 1)(n, q)


def quadratic(rng):
    return MonomialProgram(monomial_exponents(2, 2), fractions(rng, 2, 2, 6))


def linear(rng):
    return MonomialProgram(np.eye(2, dtype=int), rng.integers(-3, 4, (2, 2, 2)))


def affine(rng):
    return MonomialProgram(monomial_exponents(2, 1), rng.integers(-3, 4, (3, 2, 3)))


def commuting(rng):
    return MonomialProgram(np.eye(3, dtype=int), [np.diag([1, 2, 3]), np.diag([0, 5, -1])])


def heisenberg(rng):
    exponents = [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    half = Fraction(1, 2)
    return MonomialProgram(exponents, [[[1, 0, 0], [0, 0, 0], [0, 0, -half]], [[0, 0, 0], [1, 0, 0], [0, half, 0]]])


def engel(rng):
    # d/dx and d/dy + x d/dz + x**2 / 2 d/dw.
    exponents = [[0] * 4, [1, 0, 0, 0], [2, 0, 0, 0]]
    first, second = np.zeros((4, 3), dtype=object), np.zeros((4, 3), dtype=object)
    first[0, 0] = second[1, 0] = second[2, 1] = 1
    second[3, 2] = Fraction(1, 2)
    return MonomialProgram(exponents, np.array([first, second]))


def ridge(rng):
    return RidgeProgram(fractions(rng, 2, 2, 2), fractions(rng, 2, 2), fractions(rng, 2, 3))


def spherical(rng):
    return SphericalProgram(MonomialProgram(monomial_exponents(2, 1), rng.integers(-3, 4, (2, 2, 3))))


def rotations(rng):
    return SphericalProgram(
        MonomialProgram(np.eye(3, dtype=int), [[[0, 1, 0], [-1, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 1], [0, -1, 0]]])
    )


def parallel(rng):
    # One field, and a multiple of it.
    c = fractions(rng, 1, 2, 6)
    return MonomialProgram(monomial_exponents(2, 2), np.concatenate([c, 3 * c]))


CASES = [
    (quadratic, 1, 3), (quadratic, 3, 5), (quadratic, 6, 4), (linear, 2, 4), (linear, 1, 3), (affine, 3, 4),
    (commuting, 2, 4), (heisenberg, 1, 3), (heisenberg, 3, 4), (engel, 1, 4), (engel, 2, 5), (ridge, 4, 4),
    (spherical, 4, 3), (rotations, 2, 4), (parallel, 3, 4),
]  # fmt: skip


@pytest.fixture
def rng():
    return np.random.default_rng(9)


@pytest.mark.parametrize(("family", "count", "depth"), CASES)
def test_ranks_are_those_of_explicit_brackets(family, count, depth, rng):
    program = family(rng)
    points = fractions(rng, count, program.dim) + Fraction(1, 7)
    expected = Brackets(program).ranks(points, depth)
    # Tangent to spheres there is no more than (m - 1) N.
    full = (program.dim - (program.manifold == "sphere")) * count
    if full in expected:
        expected = expected[: expected.index(full) + 1]
    for seed in range(3):
        growth = growth_vector(program, points, depth, seed=seed)
        assert list(growth.ranks) == expected
        assert growth.full_rank == full


@pytest.mark.parametrize(
    ("family", "count", "expected"),
    [
        (heisenberg, 1, (2, 3)), (heisenberg, 3, (2, 3, 3, 3)), (engel, 1, (2, 3, 4)), (engel, 2, (2, 3, 4, 4)),
        (commuting, 2, (2, 2, 2, 2)), (rotations, 2, (2, 3, 3, 3)), (rotations, 1, (2,)),
        (parallel, 1, (1, 1, 1, 1)), (parallel, 3, (1, 1, 1, 1)),
    ],
)  # fmt: skip
def test_growth_that_is_known(family, count, expected, rng):
    program = family(rng)
    points = fractions(rng, count, program.dim) + Fraction(1, 7)
    assert growth_vector(program, points, 4, seed=1).ranks == expected


@pytest.mark.parametrize(
    ("m", "count", "depth", "expected"),
    [(4, 10, 3, (5, 15, 40)), (4, 10, 8, (5, 15, 40)), (10, 10, 4, (5, 15, 55, 100))],
)
def test_five_random_quadratic_fields(m, count, depth, expected, rng):
    program = MonomialProgram(monomial_exponents(m, 2), rng.standard_normal((5, m, (m + 1) * (m + 2) // 2)))
    growth = growth_vector(program, rng.standard_normal((count, m)), depth, seed=2)
    assert growth.ranks == expected
    assert growth.full_rank == m * count


def test_full_rank_ends_a_growth(rng):
    assert growth_vector(affine(rng), [[1, 2]], 4, seed=3).ranks == (2,)
    assert growth_vector(five_fields(2), [[1, 2], [3, 5]], 6, seed=3).ranks[-1] == 4


def test_depth_one_is_the_rank_of_the_fields(rng):
    program, points = quadratic(rng), fractions(rng, 4, 2)
    rows = program.evaluate(points).transpose(1, 0, 2).reshape(2, -1)
    expected = DomainMatrix([[rational(v) for v in row] for row in rows], rows.shape, QQ).rank()
    assert growth_vector(program, points, 1, seed=4).ranks == (expected,)


@pytest.mark.parametrize(
    ("family", "nilpotents"), [(quadratic, 3), (affine, 3), (engel, 3), (ridge, 2), (spherical, 2), (linear, 0)]
)
def test_rows_are_nested_brackets(family, nilpotents, rng):
    program = family(rng)
    points = fractions(rng, 2, program.dim) + Fraction(1, 7)
    rows = _random_rows(program, exact_array(points), nilpotents, P, np.random.default_rng(5))
    again = np.random.default_rng(5)
    weights = [again.integers(0, P, (1, program.count))[0] for _ in range(nilpotents)]
    algebra = Brackets(program)
    directions = [algebra.combination(w) for w in weights]
    expected = [[] for _ in range(nilpotents + 1)]
    for subset in range(2**nilpotents):
        inside = [bit for bit in range(nilpotents) if subset >> bit & 1]
        for W in algebra.fields:
            for bit in reversed(inside):
                W = algebra.bracket(directions[bit], W)
            expected[len(inside)].append(residues(algebra.stacked(W, points)))
    assert [(found.astype(np.int64) % P).tolist() for found in rows] == expected


def test_expressions_are_read():
    x, y = sympy.symbols("x y")
    assert growth_vector([[1, 0], [0, x**3]], [[0, 5]], 6, symbols=(x, y), seed=6).ranks == (1, 1, 1, 2)


def test_a_report_tells_how_to_repeat_it(rng):
    program, points = quadratic(rng), fractions(rng, 3, 2)
    drawn = growth_vector(program, points, 4)
    assert growth_vector(program, points, 4, seed=drawn.seed) == drawn
    assert sympy.isprime(drawn.prime)
    assert 2**19 < drawn.prime < 2**20
    assert growth_vector(program, points, 4).seed != drawn.seed
    ranks = ", ".join(map(str, drawn.ranks))
    assert str(drawn) == f"{ranks} of 6 (modulo {drawn.prime}, {drawn.draws} draws)"


def test_points_that_coincide_count_once(rng):
    program = quadratic(rng)
    assert growth_vector(program, [[1, 2], [1, 2]], 3, seed=7).ranks == (2, 2, 2)


@pytest.mark.parametrize("depth", [0, -1, 11])
def test_depths_are_few(depth, rng):
    with pytest.raises(ValueError, match=f"max_depth is {depth}, expected 1 to 10"):
        growth_vector(quadratic(rng), [[1, 2]], depth)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([1, 2], r"points have shape \(2,\), expected \(N, 2\)"),
        ([[1, 2, 3]], r"points have shape \(1, 3\), expected \(N, 2\)"),
        (np.zeros((0, 2)), r"points have shape \(0, 2\), expected \(N, 2\) with N >= 1"),
        ([[0.0, 1.0], [np.nan, 0.0]], "points: row 1 holds nan"),
    ],
)
def test_points_are_rows_of_the_space(points, message, rng):
    with pytest.raises(ValueError, match=message):
        growth_vector(quadratic(rng), points, 2)


def test_other_fields_and_places_are_refused(rng):
    with pytest.raises(TypeError, match="fields are a float"):
        growth_vector(1.0, [[1, 2]], 2)
    with pytest.raises(ValueError, match="need symbols"):
        growth_vector([[1, 0]], [[1, 2]], 2)
    with pytest.raises(ValueError, match="row 1 is 0"):
        growth_vector(spherical(rng), [[1, 2], [0, 0]], 2)
    with pytest.raises(ValueError, match="outside the ball"):
        growth_vector(RestrictedProgram(quadratic(rng), 1), [[1, 2]], 2)


def test_ranks_that_meet_a_bound_are_values(rng):
    program = MonomialProgram(monomial_exponents(2, 2), rng.integers(-9, 10, (5, 2, 6)))
    growth = growth_vector(program, rng.integers(-99, 100, (50, 2)), 8, seed=0)
    assert growth.ranks == (5, 15, 30, 42, 56, 72, 90, 100)
    assert all(growth.known)
    assert ["Witt" in bound.reason for bound in growth.bounds[:3]] == [True, True, False]
    assert growth.bounds[2].reason == "all polynomial fields of degree 4"
    assert str(growth).startswith("5, 15, 30, 42, 56, 72, 90, 100 of 100")
    # Heisenberg's algebra ends at dimension 3, which no bound here knows of.
    x, y, z = sympy.symbols("x y z")
    growth = growth_vector([[1, 0, -y / 2], [0, 1, x / 2]], [[0, 0, 0], [1, 2, 3]], 4, symbols=(x, y, z), seed=0)
    assert growth.known == (True, True, False, False)
    assert str(growth).startswith("2, 3, >=3, >=3 of 6")
