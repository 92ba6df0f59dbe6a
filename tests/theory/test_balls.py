"""Balls against exact rationals, floats rounded outwards against Fractions, and turned boxes against exact orbits."""

import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

import theory.balls
from theory import ConvolutionProgram, MonomialProgram, RidgeProgram, SphericalProgram, UnionProgram, exact_array
from theory.balls import Balls, lower, require_flint, upper


def arb(value, radius=0):
    flint = require_flint()
    return flint.arb(flint.arb(flint.fmpq(value.numerator, value.denominator)), radius)


def holds(balls, numbers):
    """Whether each ball holds its exact number, compared as Fractions: flint's own test encloses a fraction first."""
    assert balls.shape == numbers.shape
    pairs = zip(balls.values.flat, numbers.flat, strict=True)
    return all(abs(n - fraction(ball.mid())) <= fraction(ball.rad()) for ball, n in pairs)


def fraction(number):
    """A ball of radius 0 as the number it is."""
    man, exp = number.man_exp()
    return Fraction(int(man)) * Fraction(2) ** int(exp)


def widest(balls):
    return max(float(ball.rad()) for ball in balls.values.flat)


def rationals(rng, *shape):
    out = np.empty(shape, dtype=object)
    out.ravel()[:] = [Fraction(int(n), int(q)) for n, q in rng.integers(1, 50, (math.prod(shape), 2))]
    return out - 1


@pytest.fixture
def rng():
    return np.random.default_rng(8)


@pytest.fixture
def precise():
    flint = pytest.importorskip("flint")
    with flint.ctx.workprec(128):
        yield


def families(rng):
    exponents = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [0, 3]])
    monomial = MonomialProgram(exponents, rationals(rng, 3, 2, 5))
    ridge = RidgeProgram(rationals(rng, 2, 2, 2), rationals(rng, 2, 2), rationals(rng, 2, 4))
    image = ConvolutionProgram(
        (1, 1, 2), rationals(rng, 2, 1, 1, 3, 3), None, None, rationals(rng, 2, 1), [0, 1, 2], rationals(rng, 2, 3)
    )
    return [monomial, ridge, image, SphericalProgram(monomial), UnionProgram([monomial, ridge])]


@pytest.mark.parametrize("case", range(5))
def test_programs_over_balls_hold_their_exact_values(precise, rng, case):
    program = families(rng)[case]
    x, v = rationals(rng, 4, 2), rationals(rng, 4, 2)
    values = program.values(Balls.of(exact_array(x)))
    slopes = program.derivative(Balls.of(exact_array(x)), Balls.of(exact_array(v)))
    assert holds(values, program.evaluate(x))
    assert holds(slopes, program.jacobian_product(x, v))
    assert widest(values) < 1e-25
    assert widest(slopes) < 1e-25


@pytest.mark.parametrize("case", range(5))
def test_jacobians_over_wide_balls_hold_those_of_all_points_inside(precise, rng, case):
    program = families(rng)[case]
    x, u = rationals(rng, 3, 2), rationals(rng, program.count)
    radius = Fraction(1, 1024)
    radii = Balls.of(exact_array(np.full((3, 2), radius, dtype=object)))
    _, slope = program.linearized(Balls.of(exact_array(x)).widened(radii), Balls.of(exact_array(u)))
    for corner in ([1, 1], [1, -1], [0, 0], [Fraction(-1, 3), 1]):
        inside = x + np.array(corner, dtype=object) * radius
        columns = [program.jacobian_product(inside, np.tile(unit, (3, 1))) for unit in np.eye(2, dtype=int)]
        exact = np.stack([np.tensordot(column, u, (1, 0)) for column in columns], axis=-1)
        assert holds(slope.dense(), exact)


def test_sums_and_products_hold_those_of_the_ends(precise, rng):
    a, b = rationals(rng, 3, 4), rationals(rng, 3, 4)
    r = Fraction(1, 7)
    wide = [Balls.of(exact_array(n)).widened(Balls.of(exact_array(np.full((3, 4), r)))) for n in (a, b)]
    for s in (-r, r):
        for t in (-r, r):
            assert holds(wide[0] + wide[1], a + s + b + t)
            assert holds(wide[0] - wide[1], a + s - b - t)
            assert holds(wide[0] * wide[1], (a + s) * (b + t))
            assert holds(wide[0].linear(wide[1]), (a + s) @ (b + t).T)
            assert holds(wide[0].sum(), (a + s).sum(axis=-1))


def test_products_and_inverses_of_matrices(precise, rng):
    a, b = rationals(rng, 2, 3, 3), rationals(rng, 2, 3, 3)
    one, two = Balls.of(exact_array(a)), Balls.of(exact_array(b))
    assert holds(one @ two, np.matmul(a, b))
    unit = np.broadcast_to(np.array([[Fraction(int(i == j)) for j in range(3)] for i in range(3)]), (2, 3, 3))
    product = one.inverses() @ one
    assert holds(product, unit)
    assert widest(product) < 1e-25


def test_matrices_that_may_be_singular_have_no_inverse(precise):
    with pytest.raises(ZeroDivisionError):
        Balls.of(exact_array([[[1, 2], [2, 4]]])).inverses()


def test_floats_and_centres_are_exact(precise, rng):
    numbers = rng.standard_normal(5)
    balls = Balls.floats(numbers)
    assert all(ball.is_exact() for ball in balls.values)
    assert holds(balls, exact_array(numbers).fractions())
    thirds = Balls.of(exact_array([Fraction(1, 3)]))
    assert not thirds.values[0].is_exact()
    assert thirds.centres().values[0].is_exact()
    assert thirds.rounded()[0] == 1 / 3


def test_what_may_be_zero_has_no_reciprocal(precise):
    balls = Balls.of(exact_array([Fraction(1, 4), Fraction(1, 3)]))
    assert holds(balls.reciprocal(), np.array([Fraction(4), Fraction(3)]))
    with pytest.raises(ZeroDivisionError, match="holds 0"):
        balls.widened(Balls.of(exact_array([0, Fraction(1, 2)]))).reciprocal()


def test_the_largest_magnitude_counts_radii_and_nans(precise):
    balls = Balls(np.array([arb(Fraction(-5), 1), arb(Fraction(3))], dtype=object))
    assert balls.largest() >= 6
    assert balls.largest() < 6.001
    assert balls.are_finite()
    lost = Balls(np.array([require_flint().arb("nan"), arb(Fraction(1))], dtype=object))
    assert not lost.are_finite()
    assert not lost.largest() < 1e300
    assert not lost[::-1].largest() < 1e300


@pytest.mark.parametrize(
    "value", [Fraction(1, 3), Fraction(-1, 3), Fraction(1, 10), Fraction(2**60 + 1), Fraction(0), Fraction(1, 3**700)]
)
def test_floats_are_rounded_outwards(precise, value):
    most, least = upper(arb(value)), lower(arb(value))
    assert Fraction(least) <= value <= Fraction(most)
    assert most <= math.nextafter(float(value), math.inf)
    assert least >= math.nextafter(float(value), -math.inf)


def test_rounding_outwards_beyond_the_range_of_floats(precise):
    huge, tiny = Fraction(2**2000), Fraction(1, 2**2000)
    assert upper(arb(huge)) == math.inf
    assert lower(arb(-huge)) == -math.inf
    assert upper(arb(tiny)) == 5e-324
    assert lower(arb(tiny)) <= 0
    assert upper(require_flint().arb("nan")) == math.inf


def test_turned_boxes_hold_orbits_and_do_not_wrap(precise):
    from theory.lohner import Turned

    # Rotations by the angle of (3, 4, 5): boxes along the axes would grow by 7/5 at each step.
    turn = np.array([[Fraction(3, 5), Fraction(-4, 5)], [Fraction(4, 5), Fraction(3, 5)]])
    matrix, steps, r = Balls.of(exact_array(turn[None])), 60, Fraction(1, 1000)
    start = Balls.of(exact_array(np.zeros((1, 2, 1), dtype=int)))
    wide = start.widened(Balls.of(exact_array(np.full((1, 2, 1), r))))
    turned = Turned.zero(1, 2, 1).moved(matrix, wide)
    orbits = [np.array([s * r, t * r]) for s in (-1, 1) for t in (-1, 1)]
    for _ in range(steps):
        turned = turned.moved(matrix, start)
        orbits = [turn @ orbit for orbit in orbits]
    assert all(holds(turned.hull()[0, :, 0], orbit) for orbit in orbits)
    assert upper(turned.hull().largest()) < 3e-3


def test_without_flint_the_error_names_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "flint", None)
    with pytest.raises(ImportError, match=r'pip install "cde-nets\[proof\]"'):
        theory.balls.require_flint()


def test_theory_does_not_import_flint():
    code = "import sys, theory; assert 'flint' not in sys.modules and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
