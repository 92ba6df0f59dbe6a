"""Every program against SymPy, against itself modulo primes, and over another ring."""

import copy
from fractions import Fraction

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from theory import (
    ConvolutionProgram,
    MonomialProgram,
    Rationals,
    RestrictedProgram,
    RidgeProgram,
    SphericalProgram,
    exact_array,
    monomial_exponents,
)

P = 1048573


def numbers(rng, shape, kind):
    """Random coefficients as floats, integers or Fractions."""
    if kind == "int":
        return rng.integers(-5, 6, shape)
    if kind == "fraction":
        n, q = rng.integers(-9, 10, shape), rng.integers(1, 8, shape)
        return np.frompyfunc(lambda a, b: Fraction(int(a), int(b)), 2, 1)(n, q)
    return rng.standard_normal(shape).astype(kind)


def monomial(rng, kind):
    return MonomialProgram(monomial_exponents(3, 2), numbers(rng, (4, 3, 10), kind))


def sparse_monomial(rng, kind):
    # Monomials whose divisors are missing, out of order, and no constant.
    return MonomialProgram([[0, 3, 1], [1, 0, 0], [2, 0, 2], [0, 0, 5]], numbers(rng, (2, 3, 4), kind))


def constant(rng, kind):
    return MonomialProgram([[0, 0]], numbers(rng, (3, 2, 1), kind))


def ridge(rng, kind):
    return RidgeProgram(numbers(rng, (3, 2, 2), kind), numbers(rng, (3, 2), kind), numbers(rng, (3, 4), kind))


def flat_ridge(rng, kind):
    return RidgeProgram(numbers(rng, (2, 2, 2), kind), numbers(rng, (2, 2), kind), numbers(rng, (2, 1), kind))


def dense(rng, kind):
    return ConvolutionProgram(
        (2, 1, 3), numbers(rng, (2, 2, 2, 3, 3), kind), None, None,
        numbers(rng, (2, 2), kind), numbers(rng, (3,), kind), numbers(rng, (2, 3), kind),
    )  # fmt: skip


def row(rng, kind):
    return ConvolutionProgram(
        (2, 3, 1), numbers(rng, (3, 2, 3, 3), kind), [1, 0, 1], None,
        numbers(rng, (3,), kind), numbers(rng, (2,), kind), numbers(rng, (3, 3), kind),
    )  # fmt: skip


def stencil(rng, kind):
    return ConvolutionProgram(
        (3, 2, 2), numbers(rng, (4, 3, 3), kind), [0, 2, 1, 2], [1, 1, 0, 2],
        numbers(rng, (4,), kind), numbers(rng, (3,), kind), numbers(rng, (4, 3), kind),
    )  # fmt: skip


def spherical(rng, kind):
    return SphericalProgram(monomial(rng, kind))


def spherical_ridge(rng, kind):
    return SphericalProgram(ridge(rng, kind))


def restricted(rng, kind):
    return RestrictedProgram(ridge(rng, kind), 10**6)


FAMILIES = [
    monomial, sparse_monomial, constant, ridge, flat_ridge, dense, row, stencil, spherical, spherical_ridge, restricted
]  # fmt: skip
SMALL = [monomial, sparse_monomial, constant, ridge, flat_ridge, spherical, spherical_ridge, restricted]


def substituted(expressions, symbols, point):
    values = {s: sympy.Rational(x.numerator, x.denominator) for s, x in zip(symbols, point, strict=True)}
    return [[Fraction(*sympy.fraction(e.subs(values))) if e != 0 else 0 for e in field] for field in expressions]


def residue(value, p):
    return value.numerator * pow(value.denominator, -1, p) % p


@pytest.fixture
def rng():
    return np.random.default_rng(20)


@pytest.mark.parametrize("kind", ["int", "fraction", "float32"])
@pytest.mark.parametrize("family", FAMILIES)
def test_evaluate_is_substitution_in_sympy(family, kind, rng):
    program = family(rng, kind)
    points = numbers(rng, (2, program.dim), "fraction") + Fraction(1, 3)
    symbols = sympy.symbols(f"a:{program.dim}")
    expressions = program.to_sympy(symbols)
    assert [len(expressions), len(expressions[0])] == [program.count, program.dim]
    values = program.evaluate(points)
    assert values.shape == (2, program.count, program.dim)
    assert all(isinstance(v, Fraction) for v in values.flat)
    for n in range(2):
        assert values[n].tolist() == substituted(expressions, symbols, points[n])


@pytest.mark.parametrize("kind", ["int", "fraction"])
@pytest.mark.parametrize("family", FAMILIES)
def test_jacobian_product_is_sympys(family, kind, rng):
    program = family(rng, kind)
    points = numbers(rng, (1, program.dim), "fraction") + Fraction(1, 3)
    directions = numbers(rng, (1, program.dim), "fraction")
    symbols = sympy.symbols(f"x_1:{program.dim + 1}")
    v = [sympy.Rational(t.numerator, t.denominator) for t in directions[0]]
    products = [
        [sympy.Add(*(sympy.diff(e, s) * t for s, t in zip(symbols, v, strict=True))) for e in field]
        for field in program.to_sympy()
    ]
    assert program.jacobian_product(points, directions)[0].tolist() == substituted(products, symbols, points[0])


@pytest.mark.parametrize("p", [101, P, 2**31 - 1])
@pytest.mark.parametrize("kind", ["int", "fraction", "float16", "float32", "float64"])
@pytest.mark.parametrize("family", FAMILIES)
def test_residues_are_those_of_the_fractions(family, kind, p, rng):
    program = family(rng, kind)
    points = rng.standard_normal((3, program.dim)).astype(np.float32)
    directions = rng.integers(-4, 5, (3, program.dim))
    for exact, modular in [
        (program.evaluate(points), program.evaluate(points, p)),
        (program.jacobian_product(points, directions), program.jacobian_product(points, directions, modulus=p)),
    ]:
        assert modular.dtype == np.int64
        assert modular.tolist() == np.frompyfunc(lambda f: residue(f, p), 1, 1)(exact).tolist()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_polynomials_at_arbitrary_numbers(data):
    value = st.one_of(
        st.integers(-(10**20), 10**20), st.fractions(max_denominator=50), st.floats(-1e300, 1e300, allow_nan=False)
    )
    draw = lambda n: data.draw(st.lists(value, min_size=n, max_size=n))  # noqa: E731
    exponents = [[0, 0], [2, 1], [0, 3]]
    c = [[draw(3), draw(3)]]
    program = MonomialProgram(exponents, c)
    x, v = draw(2), draw(2)
    a, b = Fraction(x[0]), Fraction(x[1])
    s, t = Fraction(v[0]), Fraction(v[1])
    c = [[Fraction(e) for e in row] for row in c[0]]
    assert program.evaluate([x])[0, 0].tolist() == [r[0] + r[1] * a * a * b + r[2] * b**3 for r in c]
    slopes = [r[1] * (2 * a * b * s + a * a * t) + r[2] * 3 * b * b * t for r in c]
    assert program.jacobian_product([x], [v])[0, 0].tolist() == slopes


class Dual(Rationals):
    """x + e v with e**2 = 0, on two rationals: the ring interface serves more than numbers."""

    def __init__(self, value, slope):
        self.value, self.slope = value, slope

    shape = property(lambda self: self.value.shape)

    def constant(self, numbers):
        c = self.value.constant(numbers)
        return Dual(c, c - c)

    def __add__(self, other):
        return Dual(self.value + other.value, self.slope + other.slope)

    def __sub__(self, other):
        return Dual(self.value - other.value, self.slope - other.slope)

    def __mul__(self, other):
        return Dual(self.value * other.value, self.value * other.slope + self.slope * other.value)

    def __getitem__(self, index):
        return Dual(self.value[index], self.slope[index])

    def reshape(self, *shape):
        return Dual(self.value.reshape(*shape), self.slope.reshape(*shape))

    def linear(self, matrix):
        return Dual(self.value.linear(matrix.value), self.slope.linear(matrix.value))

    def gather(self, index):
        return Dual(self.value.gather(index), self.slope.gather(index))

    def sum(self):
        return Dual(self.value.sum(), self.slope.sum())

    def reciprocal(self):
        inverse = self.value.reciprocal()
        return Dual(inverse, (self.slope - self.slope - self.slope) * inverse * inverse)


@pytest.mark.parametrize("family", FAMILIES)
def test_values_over_dual_numbers_give_the_jacobian_product(family, rng):
    program = family(rng, "fraction")
    x, v = (exact_array(numbers(rng, (1, program.dim), "fraction") + 1) for _ in range(2))
    dual = program.values(Dual(Rationals.of(x), Rationals.of(v)))
    assert dual.value.fractions().tolist() == program.evaluate(x).tolist()
    assert dual.slope.fractions().tolist() == program.jacobian_product(x, v).tolist()


@pytest.mark.parametrize("family", [spherical, spherical_ridge])
def test_spherical_fields_are_tangent(family, rng):
    program = family(rng, "float32")
    x = rng.standard_normal((4, program.dim))
    exact = exact_array(x).fractions()
    assert ((exact[:, None, :] * program.evaluate(x)).sum(axis=-1) == 0).all()
    assert ((exact_array(x).residues(P)[:, None, :] * program.evaluate(x, P) % P).sum(axis=-1) % P == 0).all()
    assert program.manifold == "sphere"
    assert program.degree == program.base.degree


def test_spherical_errors(rng):
    program = spherical(rng, "int")
    with pytest.raises(ValueError, match="row 1 is 0"):
        program.evaluate([[1, 2, 3], [0, 0, 0]])
    # 1 + 4 + 9 = 14 is zero modulo 7 while the point is not.
    assert program.evaluate([[1, 2, 3]]).shape == (1, 4, 3)
    with pytest.raises(ValueError, match=r"row 0 has \|x\|\*\*2 = 0 modulo 7.*another prime or another point"):
        program.jacobian_product([[1, 2, 3]], [[1, 0, 0]], 7)


def test_restricted_is_exact_at_the_boundary(rng):
    base = ridge(rng, "float32")
    program = RestrictedProgram(base, 5)
    points = [[3, 4], [Fraction(-7, 5), Fraction(24, 5)]]  # |x| is exactly 5
    assert program.evaluate(points).tolist() == base.evaluate(points).tolist()
    assert program.jacobian_product(points, points, P).tolist() == base.jacobian_product(points, points, P).tolist()
    outside = [[0, 0], [3, 4 + Fraction(1, 10**40)]]
    for modulus in (None, P):
        with pytest.raises(ValueError, match=r"row 1 has \|x\| = 5.*outside the ball \|x\| <= 5"):
            program.evaluate(outside, modulus)
    with pytest.raises(ValueError, match=r"row 0 has \|x\| = 1e\+200"):
        program.evaluate([[1e200, 0]])


@pytest.mark.parametrize("radius", [0, -1, np.nan, np.inf])
def test_a_radius_is_positive(radius, rng):
    with pytest.raises(ValueError, match="radius"):
        RestrictedProgram(ridge(rng, "int"), radius)


def test_wrappers_compose(rng):
    base = ridge(rng, "float32")
    program = SphericalProgram(RestrictedProgram(base, 2))
    assert program.evaluate([[1, 1]]).tolist() == SphericalProgram(base).evaluate([[1, 1]]).tolist()
    with pytest.raises(ValueError, match="outside the ball"):
        program.evaluate([[2, 1]])
    other = RestrictedProgram(SphericalProgram(base), 2)
    assert other.manifold == "sphere"
    with pytest.raises(ValueError, match="row 0 is 0"):
        other.evaluate([[0, 0]])
    assert len({base.digest(), program.digest(), other.digest(), RestrictedProgram(base, 2).digest()}) == 4
    assert RestrictedProgram(base, 2).digest() == RestrictedProgram(base, 2.0).digest()
    assert RestrictedProgram(base, 2).digest() != RestrictedProgram(base, 3).digest()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_digest_knows_the_program(family):
    same = [family(np.random.default_rng(1), "float32") for _ in range(2)]
    assert same[0].digest() == same[1].digest() == copy.deepcopy(same[0]).digest()
    assert len(same[0].digest()) == 64
    assert same[0].digest() != family(np.random.default_rng(2), "float32").digest()


def test_a_digest_depends_on_numbers_not_on_memory(rng):
    e, c = monomial_exponents(3, 2), rng.standard_normal((4, 3, 10)).astype(np.float32)
    digest = MonomialProgram(e, c).digest()
    strided = np.repeat(c, 2, axis=1)[:, ::2]
    for other in (np.asfortranarray(c), strided, c.astype(np.float64), c.tolist(), exact_array(c).fractions()):
        assert MonomialProgram(np.asfortranarray(e.astype(np.int32)), other).digest() == digest
    changed = c.copy()
    changed[2, 1, 7] = np.nextafter(changed[2, 1, 7], np.float32(9))
    assert MonomialProgram(e, changed).digest() != digest
    assert MonomialProgram(e[::-1], c).digest() != digest


def test_the_program_keeps_its_own_numbers(rng):
    e, c = monomial_exponents(2, 1), rng.integers(-3, 4, (1, 2, 3))
    program = MonomialProgram(e, c)
    before = program.evaluate([[1, 2]]).tolist()
    e[:], c[:] = 0, 0
    assert program.evaluate([[1, 2]]).tolist() == before


def test_changing_the_modulus_back_and_forth(rng):
    program = ridge(rng, "float32")
    x = rng.standard_normal((2, 2))
    first = program.evaluate(x, P)
    assert program.evaluate(x, 101).max() < 101
    assert program.evaluate(x, P).tolist() == first.tolist()


@pytest.mark.parametrize(("kind", "name"), [("float32", "float32"), ("float64", "float64"), ("int", None)])
def test_dtype_is_named(kind, name, rng):
    assert ridge(rng, kind).dtype == name
    assert SphericalProgram(ridge(rng, kind)).dtype == name
    assert MonomialProgram([[1]], np.ones((1, 1, 1)), dtype="bfloat16").dtype == "bfloat16"


def test_float32_coefficients_are_the_ones_that_run():
    program = MonomialProgram([[0]], np.full((1, 1, 1), 0.1, dtype=np.float32))
    assert program.evaluate([[0]]).item() == Fraction(13421773, 2**27)


@pytest.mark.parametrize(
    ("family", "degree", "text"),
    [
        (monomial, 2, "MonomialProgram: 4 fields on R^3 of degree 2, 10 monomials, float32 coefficients"),
        (ridge, 3, "RidgeProgram: 3 fields on R^2 of degree 3, sigma(Cx + b), float32 coefficients"),
        (
            row,
            2,
            "ConvolutionProgram: 3 fields on R^6 of degree 2, row 3 by 3 kernels on 2 channels of 3 by 1, float32",
        ),
        (dense, 4, "ConvolutionProgram: 2 fields on R^6 of degree 4, dense 3 by 3"),
        (
            spherical,
            2,
            "SphericalProgram: 4 fields on R^3 of degree 2, tangent to spheres, of a MonomialProgram with 10",
        ),
        (restricted, 3, "RestrictedProgram: 3 fields on R^2 of degree 3, for |x| <= 1e+06, of a RidgeProgram with"),
    ],
)
def test_the_readable_line(family, degree, text, rng):
    program = family(rng, "float32")
    assert program.degree == degree
    assert str(program).startswith(text)
    assert repr(program) == f"<{program}>"


@pytest.mark.parametrize("family", SMALL)
def test_no_points(family, rng):
    program = family(rng, "int")
    for modulus in (None, P):
        assert program.evaluate(np.zeros((0, program.dim)), modulus).shape == (0, program.count, program.dim)


def test_errors_at_the_door(rng):
    program = ridge(rng, "fraction")
    with pytest.raises(ValueError, match=r"points have shape \(3,\), expected \(N, 2\)"):
        program.evaluate([1, 2, 3])
    with pytest.raises(ValueError, match=r"points have shape \(1, 3\), expected \(N, 2\)"):
        program.evaluate([[1, 2, 3]])
    with pytest.raises(ValueError, match="points: row 1 holds nan"):
        program.evaluate(np.array([[1, 2], [np.nan, 0]]))
    with pytest.raises(ValueError, match="directions: row 0 holds inf"):
        program.jacobian_product([[1, 2]], [[np.inf, 0]])
    with pytest.raises(ValueError, match="1 points but 2 directions"):
        program.jacobian_product([[1, 2]], [[1, 2], [3, 4]])
    with pytest.raises(ValueError, match=r"points: the entry \(0, 1\), 3/7,.*take another prime"):
        program.evaluate([[1, Fraction(3, 7)]], 7)
    with pytest.raises(ValueError, match=r"matrices.*divisible by 3"):
        RidgeProgram([[[Fraction(1, 3)]]], [[0]], [[0, 1]]).evaluate([[1]], 3)
    with pytest.raises(ValueError, match="modulus is 6, expected a prime"):
        program.evaluate([[1, 2]], 6)
    with pytest.raises(TypeError, match=r"modulus is 7\.0, expected a prime"):
        program.evaluate([[1, 2]], 7.0)
    with pytest.raises(ValueError, match="1 symbols, expected 2"):
        program.to_sympy(sympy.symbols("x:1"))


def test_errors_of_the_polynomials():
    one = np.ones((1, 2, 2))
    with pytest.raises(ValueError, match=r"row 1 is \[0, -1\], expected non-negative"):
        MonomialProgram([[0, 1], [0, -1]], one)
    with pytest.raises(ValueError, match=r"\[1, 0\] stands twice"):
        MonomialProgram([[1, 0], [1, 0]], one)
    with pytest.raises(ValueError, match="dtype float64, expected integers"):
        MonomialProgram([[1.0, 0.0]], one)
    with pytest.raises(ValueError, match=r"coefficients have shape \(1, 2, 2\), expected \(any, 2, 3\)"):
        MonomialProgram(monomial_exponents(2, 1), one)
    with pytest.raises(ValueError, match="coefficients: row 0 holds nan"):
        MonomialProgram([[1, 0], [0, 1]], one * np.nan)
    with pytest.raises(ValueError, match=r"matrices have shape \(1, 2, 3\), expected \(1, 2, 2\)"):
        RidgeProgram(np.ones((1, 2, 3)), np.ones((1, 2)), np.ones((1, 2)))
    with pytest.raises(ValueError, match=r"offsets have shape \(2, 1\), expected \(1, 2\)"):
        RidgeProgram(one, np.ones((2, 1)), np.ones((1, 2)))
    with pytest.raises(ValueError, match=r"polynomials have shape \(1, 0\), expected \(1, any\)"):
        RidgeProgram(one, np.ones((1, 2)), np.ones((1, 0)))
