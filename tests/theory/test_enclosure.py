"""Proofs against roots known in closed form, exact Jacobians by SymPy, and Newton's method at 300 digits."""

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sympy

from theory import MonomialProgram, RestrictedProgram, SphericalProgram, enclose, enclosure, exact_array

pytest.importorskip("flint")

from theory.balls import Balls, require_flint
from theory.discrete import DiscreteFlow

EULER = ([[]], [1])
HEUN = ([[], [1]], [Fraction(1, 2), Fraction(1, 2)])
RK4 = (
    [[], [Fraction(1, 2)], [0, Fraction(1, 2)], [0, 0, 1]],
    [Fraction(1, 6), Fraction(1, 3), Fraction(1, 3), Fraction(1, 6)],
)
X = sympy.symbols("x_1:3")
# Quadratic fields on the plane.
PLANE = [[X[1], X[0] ** 2 - 1], [1 + X[0] * X[1], -X[0]], [X[1] ** 2, 3 + X[0]]]


def scalar(controls, y=1.0, x=1.0, field=None, method=EULER, **options):
    """The linear field x d/dx on the line, and one point, unless said."""
    t = sympy.Symbol("t")
    fields = [[t if field is None else field(t)]]
    a, b = method
    return enclose(fields, [[x]], [[y]], np.reshape(controls, (-1, 1)), a=a, b=b, symbols=(t,), **options)


def flow(fields, symbols, x, u, method, substeps=1):
    """The ends of a one-step method, in the numbers that the arguments are: written anew, one number at a time."""
    a, b = method
    steps = len(u) * substeps
    call = sympy.lambdify(symbols, fields, "sympy")

    def moved(state, row, slopes):
        return [s + sum(c * k[j] for c, k in zip(row, slopes, strict=True)) / steps for j, s in enumerate(state)]

    ends = []
    for point in x:
        state = list(point)
        for weights in np.repeat(np.array(u, dtype=object), substeps, axis=0):
            slopes = []
            for row in a:
                found = call(*moved(state, row, slopes))
                slopes.append(
                    [sum(w * c for w, c in zip(weights, part, strict=True)) for part in zip(*found, strict=True)]
                )
            state = moved(state, b, slopes)
        ends.append(state)
    return ends


def precise(numbers):
    """Nested lists of floats or Fractions as mpmath's, at its precision."""
    if isinstance(numbers, list | tuple | np.ndarray):
        return [precise(part) for part in numbers]
    exact = Fraction(numbers)
    return mpmath.mpf(exact.numerator) / exact.denominator


def test_the_root_of_one_euler_step_is_enclosed_to_the_last_digit():
    # 3 (1 + u) = 3 + 1, so that u = 1/3, which no float is.
    found = scalar([1 / 3], y=1.0, x=3.0)
    distance = abs(Fraction(1, 3) - Fraction(1 / 3))
    assert found.proved
    assert distance <= Fraction(found.radius) <= distance * (1 + Fraction(1, 10**12))
    residual = abs(3 * Fraction(1 / 3) - 1)
    assert residual <= Fraction(found.residual) <= residual * (1 + Fraction(1, 10**12))
    assert (found.unknowns, found.equations, found.precision) == (1, 1, 128)
    assert found.contraction < 1e-10
    assert found.reason == ""


def test_controls_that_solve_exactly_are_found_to():
    # (1 + 1/2)(1 + 1/4) = 15/8 by two Euler steps, all dyadic.
    found = scalar([1.0, 0.5], y=7 / 8)
    assert found.proved
    assert found.radius < 1e-35
    assert found.residual < 1e-35


def test_substeps_and_lambda():
    # Two half steps and lambda 2: 2 ((1 + u/2)**2 - 1) = 5/2 at u = 1.
    found = scalar([1 + 2**-30], y=2.5, lam=2.0, substeps=2)
    assert found.proved
    assert math.isclose(found.radius, 2**-30, rel_tol=1e-12)
    residual = 2 * ((1 + Fraction(1 + 2**-30) / 2) ** 2 - 1) - Fraction(5, 2)
    assert residual <= Fraction(found.residual) <= residual * (1 + Fraction(1, 10**12))


@pytest.mark.parametrize("kind", [float, Fraction])
def test_coefficients_are_the_numbers_that_are_given(kind):
    # x' = u moves by u sum(b), and three floats 1/3 do not add up to 1.
    b = [kind(Fraction(1, 3))] * 3
    found = scalar([1.0], field=lambda t: 1, method=([[], [1], [0, 1]], b))
    distance = abs(1 / sum(Fraction(c) for c in b) - 1)
    assert found.proved
    assert distance <= Fraction(found.radius) <= distance * (1 + Fraction(1, 10**12)) + Fraction(1, 10**35)
    assert (distance > 0) == (kind is float)


def test_the_isolation_stops_before_the_next_solution():
    # Heun's step of x' = u x multiplies by 1 + u + u**2 / 2 = ((1 + u)**2 + 1) / 2: the roots are -1 + s and -1 - s.
    s = 2.0**-10
    found = scalar([-1 + s + 2**-40], y=(s**2 + 1) / 2 - 1, method=HEUN)
    assert found.proved
    assert math.isclose(found.radius, 2**-40, rel_tol=1e-9)
    assert s / 100 < found.isolation < 2 * s
    # J = 1 + u is s at the root, and B = 1 / s. Over a box of radius r of the slice J lies within r / s of s, so that
    # q = r / s**2; what J moves by no more than (1 - q) r has moved by no more than (1 - q) r / (s + r / s).
    q = found.contraction
    assert 0.1 < q < 1
    assert math.isclose(found.isolation, s * q * (1 - q) / (1 + q), rel_tol=1e-6)


@pytest.mark.parametrize("u", [-1.6, -1.0, 0.0, 3.0])
def test_what_has_no_solution_is_never_proved(u):
    # A step of the fourth order multiplies by 1 + u + .. + u**4 / 24, which is at least 0.27.
    for y in (-2.0, -0.8):
        found = scalar([u], y=y, method=RK4)
        assert not found.proved
        assert found.radius == math.inf
        assert found.isolation == 0
        assert found.reason


def test_a_contraction_that_leaves_its_box_proves_nothing():
    # ((1 + u)**2 + 1) / 2 stays above a target just below 1/2, though at 1 + u = s Newton's map contracts where the
    # ends change by less than s**2: on the very first box.
    s = 1.02 * 2.0**-8
    found = scalar([-1 + s], y=(1 - 2.0**-18) / 2 - 1, method=HEUN)
    assert s**2 > enclosure._FIRST
    assert not found.proved


def test_a_linear_field_cannot_move_two_points_on_a_line_apart_at_will():
    t = sympy.Symbol("t")
    # 1 to 2 and 2 to 5: but a linear flow doubles both.
    found = enclose([[t]], [[1], [2]], [[1], [3]], [[0.5], [0.25]], a=[[]], b=[1], symbols=(t,))
    assert not found
    assert "full rank" in found.reason


def test_a_radius_below_the_true_distance_is_not_proved():
    u = 1 / 3 + 1e-9
    distance = float(abs(Fraction(1, 3) - Fraction(u)))
    assert not scalar([u], x=3.0, radius=0.999 * distance)
    assert scalar([u], x=3.0, radius=1.001 * distance)


def test_controls_far_from_a_solution_are_not_proved_near():
    found = scalar([1 / 3 + 1e-2], x=3.0, radius=1e-6)
    assert not found.proved
    assert found.residual > 1e-2
    assert "not within the radius 1e-06" in found.reason


def plane(seed, method, intervals=2, fields=2):
    """Two points, and controls that solve up to some 1e-9, by targets from a flow nearby."""
    rng = np.random.default_rng(seed)
    x, u = rng.uniform(-1, 1, (2, 2)), rng.uniform(-1, 1, (intervals, fields))
    with mpmath.workdps(30):
        ends = flow(PLANE[:fields], X, precise(x), precise(u), precise(method))
    return x, np.array(ends, dtype=float) - x, u + rng.uniform(-1e-9, 1e-9, u.shape)


@pytest.mark.parametrize("name", ["heun", "rk4"])
def test_newton_at_300_digits_finds_the_solution_within_the_radius(name):
    # As many numbers as equations: the slice is all of space, and the solution is the only one.
    method = {"heun": HEUN, "rk4": RK4}[name]
    x, y, u = plane(3, method)
    found = enclose(PLANE[:2], x, y, u, a=method[0], b=method[1], symbols=X)
    assert found.proved
    with mpmath.workdps(300):
        start, wanted, values, exact = map(precise, (x, y, u, method))

        def error(*z):
            ends = flow(PLANE[:2], X, start, [z[:2], z[2:]], exact)
            rows = zip(ends, start, wanted, strict=True)
            return [e - s - w for row in rows for e, s, w in zip(*row, strict=True)]

        given = [c for row in values for c in row]
        root = mpmath.findroot(error, given, tol=1e-280, maxsteps=30)
        distance = max(abs(r - g) for r, g in zip(root, given, strict=True))
        assert 1e-10 < distance <= mpmath.mpf(found.radius)
        # .. and no further than that: the radius is sharp.
        assert mpmath.mpf(found.radius) < distance * (1 + mpmath.mpf(10) ** -12)


def test_the_bound_does_not_depend_on_the_precision():
    method = RK4
    x, y, u = plane(5, method, intervals=6, fields=3)
    proofs = [enclose(PLANE, x, y, u, a=method[0], b=method[1], symbols=X, precision=p) for p in (64, 128, 1000)]
    assert all(proofs)
    assert proofs[0].radius >= proofs[1].radius >= proofs[2].radius
    assert math.isclose(proofs[0].radius, proofs[2].radius, rel_tol=1e-4)
    assert proofs[1].unknowns == 18
    assert proofs[1].equations == 4


class Dual:
    """A value and its derivative, both exact."""

    def __init__(self, value, slope=0):
        self.value, self.slope = Fraction(value), Fraction(slope)

    def __add__(self, other):
        other = other if isinstance(other, Dual) else Dual(other)
        return Dual(self.value + other.value, self.slope + other.slope)

    def __mul__(self, other):
        other = other if isinstance(other, Dual) else Dual(other)
        return Dual(self.value * other.value, self.slope * other.value + self.value * other.slope)

    def __sub__(self, other):
        return self + other * -1

    def __neg__(self):
        return self * -1

    def __pow__(self, power):
        return math.prod([self] * power, start=Dual(1))

    def __truediv__(self, number):
        return self * (1 / Fraction(number))

    __radd__, __rmul__ = __add__, __mul__


@pytest.mark.parametrize("radius", [Fraction(0), Fraction(1, 128)])
def test_the_jacobian_of_the_flow_is_enclosed(radius):
    program, points, intervals, substeps = enclosure.read_fields(PLANE[:2], X), 2, 2, 2
    x = [[Fraction(1, 3), Fraction(-1, 2)], [Fraction(1, 4), Fraction(1)]]
    u = np.array([[Fraction(1, 2), Fraction(-1, 4)], [Fraction(5, 8), Fraction(1, 8)]])
    rows = tuple(exact_array(np.array(row, dtype=object)) for row in HEUN[0])
    with require_flint().ctx.workprec(128):
        start = Balls.of(exact_array(x))
        discrete = DiscreteFlow(program, start, rows, exact_array(np.array(HEUN[1])), intervals, substeps)
        radii = Balls.of(exact_array(np.full((2, 2), radius)))
        ends, jacobian = discrete.enclosed(Balls.of(exact_array(u)), radii)
    assert ends.shape == (points, 2)
    assert jacobian.shape == (points * 2, 4)
    for shift in ([0, 0, 0, 0], [1, 1, 1, 1], [-1, 1, 0, -1]):
        inside = u.ravel() + radius * np.array(shift)
        for k in range(4):
            moving = np.array([Dual(c, i == k) for i, c in enumerate(inside)]).reshape(2, 2)
            rows = flow(PLANE[:2], X, [[Dual(c) for c in row] for row in x], moving, HEUN, substeps)
            found = [number for row in rows for number in row]
            for ball, number in zip(ends.values.flat, found, strict=True):
                assert abs(number.value - fraction(ball.mid())) <= fraction(ball.rad())
            for ball, number in zip(jacobian.values[:, k], found, strict=True):
                assert abs(number.slope - fraction(ball.mid())) <= fraction(ball.rad())
                assert ball.rad() < (1e-30 if radius == 0 else 0.5)


def enclosed(controls, radius, method, x=Fraction(1), field=lambda t: t):
    """Ends and Jacobian of one point and one field on the line, the controls within the radius of those given."""
    t = sympy.Symbol("t")
    program = enclosure.read_fields([[field(t)]], (t,))
    a, b = (tuple(exact_array(np.array(row, dtype=object)) for row in method[0]), np.array(method[1], dtype=object))
    with require_flint().ctx.workprec(128):
        discrete = DiscreteFlow(program, Balls.of(exact_array([[x]])), a, exact_array(b), len(controls))
        u = Balls.of(exact_array(np.array(controls, dtype=object)[:, None]))
        return discrete.enclosed(u, Balls.of(exact_array(np.full((len(controls), 1), radius))))


def holds(ball, number):
    return abs(number - fraction(ball.mid())) <= fraction(ball.rad())


def test_a_jacobian_over_a_box_holds_those_at_its_ends():
    r = Fraction(1, 8)
    # One step of Heun's method along x' = u x from 1 ends at 1 + u + u**2 / 2.
    ends, jacobian = enclosed([Fraction(1)], r, HEUN)
    for u in (1 - r, Fraction(1), 1 + r):
        assert holds(ends.values[0, 0], 1 + u + u**2 / 2)
        assert holds(jacobian.values[0, 0], 1 + u)
    # Two Euler steps of length 1/2 end at (1 + u_1/2)(1 + u_2/2).
    ends, jacobian = enclosed([Fraction(1), Fraction(1)], r, EULER)
    for one, two in [(1 - r, 1 + r), (1 + r, 1 - r), (1 + r, 1 + r), (1 - r, 1 - r)]:
        assert holds(ends.values[0, 0], (1 + one / 2) * (1 + two / 2))
        assert holds(jacobian.values[0, 0], (1 + two / 2) / 2)
        assert holds(jacobian.values[0, 1], (1 + one / 2) / 2)


def test_points_that_no_ball_of_radius_zero_holds_keep_their_rounding():
    # A control of zero leaves 1/3 where it is, and adds no rounding of its own.
    third = Fraction(1, 3)
    ends, _ = enclosed([Fraction(0)], Fraction(0), EULER, x=third, field=lambda t: 1)
    assert fraction(ends.values[0, 0].mid()) != third
    assert holds(ends.values[0, 0], third)


def fraction(number):
    man, exp = number.man_exp()
    return Fraction(int(man)) * Fraction(2) ** int(exp)


def test_any_slice_of_full_rank_will_do_and_one_of_less_proves_nothing(monkeypatch):
    method = RK4
    x, y, u = plane(7, method, intervals=4)
    honest, rng = enclosure._pseudo_inverse, np.random.default_rng(0)

    def roughly(jacobian):
        found = honest(jacobian)
        return found * (1 + 0.01 * rng.standard_normal(found.shape))

    def projected(jacobian):
        left, sizes, right = np.linalg.svd(honest(jacobian), full_matrices=False)
        sizes[-1] = 0
        return (left * sizes) @ right

    for other, proved in ((roughly, True), (projected, False)):
        monkeypatch.setattr(enclosure, "_pseudo_inverse", other)
        found = enclose(PLANE[:2], x, y, u, a=method[0], b=method[1], symbols=X)
        assert found.proved is proved
    assert "full rank" in found.reason


def test_fields_tangent_to_spheres_are_rational_and_may_be_used():
    program = SphericalProgram(
        MonomialProgram([[1, 0], [0, 1], [0, 0]], np.array([[[0, 1, 1], [2, 0, 1]], [[1, 1, 0], [0, 1, 2]]]))
    )
    x, u = [[Fraction(1), Fraction(1, 2)]], [[Fraction(1, 2), Fraction(-1, 4)], [Fraction(1, 8), Fraction(3, 4)]]
    with mpmath.workdps(50):
        (end,) = flow(program.to_sympy(X), X, precise(x), precise(u), EULER)
        y = [[Fraction(str(e)) - s for e, s in zip(end, x[0], strict=True)]]
    found = enclose(program, x, y, u, a=[[]], b=[1])
    assert found.proved
    assert found.radius < 1e-30


def test_flows_that_grow_without_bound_are_not_proved():
    found = scalar([1e200] * 8, field=lambda t: t**2, method=RK4)
    assert not found.proved
    assert found.residual == math.inf or found.residual > 1e300
    assert found.reason


def test_a_time_limit_stops_the_proof():
    found = scalar([1 / 3], x=3.0, time_limit=0)
    assert not found.proved
    assert "time limit" in found.reason


def test_statements_are_rounded_to_the_side_where_they_hold():
    found = enclosure.Enclosure(True, 3.1234e-11, 2.99e-5, 1e-12, 0.0101, 480, 10, 128, 1.0)
    assert str(found) == (
        "Proved: exact controls lie within 3.2e-11 of these 480 numbers, and in a slice of 10 dimensions no others "
        "within 2.9e-05 of them (contraction 0.011, 128 bits)."
    )
    assert str(scalar([0.0], y=-2.0, method=RK4)).startswith("Not proved: ")
    assert "false" not in str(scalar([0.0], y=-2.0, method=RK4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"controls": [[math.nan]]}, "controls: row 0 holds nan"),
        ({"controls": [1.0]}, r"controls have shape \(1,\)"),
        ({"controls": [[1.0, 2.0]]}, "of 1 fields"),
        ({"x": [[1.0], [2.0]], "y": [[1.0], [2.0]]}, "1 numbers for 2 equations"),
        ({"y": [[1.0], [2.0]]}, r"y have shape \(2, 1\), expected \(1, 1\)"),
        ({"x": [[math.inf]]}, "x: row 0 holds inf"),
        ({"a": [[], [1]]}, "a has 2 rows for 1 weights"),
        ({"a": [[1]]}, "explicit"),
        ({"b": [math.nan]}, "b: row 0 holds nan"),
        ({"lam": 0.0}, "lam is 0"),
        ({"lam": math.nan}, "lam: the value is nan"),
        ({"lam": [1.0, 2.0]}, "expected one positive number"),
        ({"substeps": 0}, "substeps is 0"),
        ({"precision": 53}, "precision is 53 bits"),
        ({"radius": -1e-9}, "radius is -1e-09"),
        ({"radius": math.nan}, "radius is nan"),
        ({"time_limit": -1}, "time_limit is -1"),
        ({"fields": [[sympy.tanh(sympy.Symbol("t"))]]}, "no polynomial"),
        ({"fields": RestrictedProgram(MonomialProgram([[1]], [[[1]]]), 2)}, "without a cutoff"),
    ],
)
def test_bad_input_is_refused_before_work(change, message):
    t = sympy.Symbol("t")
    given = {"fields": [[t]], "x": [[1.0]], "y": [[1.0]], "controls": [[0.5]], "a": [[]], "b": [1], "symbols": (t,)}
    given |= change
    with pytest.raises(ValueError, match=message):
        enclose(given.pop("fields"), given.pop("x"), given.pop("y"), given.pop("controls"), **given)
