"""Fields pulled back along curves against explicit brackets in SymPy."""

import gc
import weakref
from fractions import Fraction
from math import factorial

import numpy as np
import pytest
import sympy
from sympy import GF, QQ
from sympy.polys.matrices import DomainMatrix

import theory.curve
from theory import (
    ConvolutionProgram,
    MonomialProgram,
    RidgeProgram,
    SphericalProgram,
    UnionProgram,
    exact_array,
    monomial_exponents,
)
from theory.checker import read, rows_along
from theory.curve import Curve, products
from theory.data import to_data
from theory.rowspace import centred

P = 1048573


def residue(value, p=P):
    return int(value.numerator) * pow(int(value.denominator), -1, p) % p


def rational(value):
    """A number of SymPy's field QQ, whichever library it takes its integers from."""
    value = Fraction(value)
    return QQ(value.numerator, value.denominator)


class Brackets:
    """Fields with coefficients in Q(x, t); those of controls are polynomials in t."""

    def __init__(self, program):
        symbols = sympy.symbols(f"x_1:{program.dim + 1} t")
        self.field = QQ.frac_field(*symbols)
        self.m, self.gens = program.dim, self.field.gens
        self.fields = [[self.field.from_sympy(c) for c in V] for V in program.to_sympy(symbols[:-1])]

    def bracket(self, V, W):
        """[V, W] = DW V - DV W."""
        x = self.gens[: self.m]
        return [
            sum((W[a].diff(s) * V[b] - V[a].diff(s) * W[b] for b, s in enumerate(x)), self.field.zero)
            for a in range(self.m)
        ]

    def velocity(self, controls):
        """sum_i u_i(t) V_i with u_i(t) = sum_k controls[k, i] t**k."""
        t = self.gens[-1]
        u = [sum((int(c) * t**k for k, c in enumerate(column)), self.field.zero) for column in controls.T]
        return [sum((w * V[a] for w, V in zip(u, self.fields, strict=True)), self.field.zero) for a in range(self.m)]

    def at(self, W, point, p=P):
        """The residues of a field at a point and t = 0."""
        values = list(zip(self.field.field.ring.gens, [*map(rational, point), QQ(0)], strict=True))
        return [residue(c.numer.evaluate(values), p) * pow(residue(c.denom.evaluate(values), p), -1, p) % p for c in W]

    def stacked(self, W, points, p=P):
        return [value for point in points for value in self.at(W, point, p)]

    def up_to(self, depth):
        """All [V_i, [V_j, .. V_k]], by depth."""
        levels = [self.fields]
        for _ in range(depth - 1):
            levels.append([self.bracket(V, W) for V in self.fields for W in levels[-1]])
        return levels


def rank(rows, p=P):
    field = GF(p)
    rows = [[field(int(v) % p) for v in row] for row in rows]
    return DomainMatrix(rows, (len(rows), len(rows[0])), field).rank()


def rows_of(program, points, controls, orders, p=P):
    """Coefficients of W as integers in [0, p), shape (orders, d, N m)."""
    curve = Curve(program, exact_array(points), centred(np.asarray(controls), p), orders, p)
    return np.array([curve.coefficients() for _ in range(orders)]).astype(np.int64) % p


def fractions(rng, *shape):
    n, q = rng.integers(-5, 6, shape), rng.integers(1, 4, shape)
    return np.frompyfunc(lambda a, b: Fraction(int(a), int(b)), 2, 1)(n, q)


def quadratic(rng):
    return MonomialProgram(monomial_exponents(2, 2), fractions(rng, 2, 2, 6))


def linear(rng):
    return MonomialProgram(np.eye(3, dtype=int), fractions(rng, 3, 3, 3))


def ridge(rng):
    return RidgeProgram(fractions(rng, 2, 2, 2), fractions(rng, 2, 2), fractions(rng, 2, 4))


def spherical(rng):
    return SphericalProgram(MonomialProgram(monomial_exponents(2, 1), rng.integers(-3, 4, (2, 2, 3))))


def union(rng):
    return UnionProgram([quadratic(rng), RidgeProgram(fractions(rng, 1, 2, 2), fractions(rng, 1, 2), [[1, 2, 1]])])


def image(rng):
    # Two channels of one by two pixels: small enough for SymPy, and larger than what the kernels see of it.
    def part(*lead):
        return ConvolutionProgram(
            (2, 1, 2), fractions(rng, 1, *lead, 2, 1, 1), [1] if not lead else None, None,
            fractions(rng, 1, *lead), [1, 1, 2], fractions(rng, 1, 3),
        )  # fmt: skip

    return UnionProgram([part(), part(2)])


def line(rng):
    return MonomialProgram([[0], [2]], fractions(rng, 2, 1, 2))


FAMILIES = [quadratic, linear, ridge, spherical, union, image, line]


@pytest.fixture
def rng():
    return np.random.default_rng(8)


@pytest.fixture(autouse=True, params=["vectors", "frame"])
def way(request, monkeypatch):
    """Each of the two ways, whichever has fewer products."""
    monkeypatch.setattr(theory.curve, "products", lambda *sizes: (1, 2) if request.param == "frame" else (2, 1))
    return request.param


@pytest.mark.parametrize("degree", [0, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_orders_are_explicit_brackets(family, degree, rng):
    program = family(rng)
    points, controls = fractions(rng, 3, program.dim) + Fraction(1, 7), rng.integers(-4, 5, (degree + 1, program.count))
    algebra = Brackets(program)
    f = [algebra.velocity(row[None]) for row in (controls if degree else [*controls, *np.zeros_like(controls)])[:2]]
    found = rows_of(program, points, controls, 3)
    for j, V in enumerate(algebra.fields):
        first, turned = algebra.bracket(f[0], V), algebra.bracket(f[1], V)
        second = [(a + b) / 2 for a, b in zip(algebra.bracket(f[0], first), turned, strict=True)]
        for n, W in enumerate([V, first, second]):
            assert found[n, j].tolist() == algebra.stacked(W, points)


@pytest.mark.parametrize("family", [quadratic, linear, spherical, line])
def test_an_order_is_a_derivative_along_the_flow(family, rng):
    # d/dt of a field pulled back is the field [velocity, W] + dW/dt pulled back; at t = 0 it is itself.
    program = family(rng)
    points, controls = fractions(rng, 2, program.dim) + Fraction(1, 7), rng.integers(-4, 5, (3, program.count))
    algebra = Brackets(program)
    f, t = algebra.velocity(controls), algebra.gens[-1]
    orders = 4
    found = rows_of(program, points, controls, orders)
    for j, W in enumerate(algebra.fields):
        for n in range(orders):
            expected = [value * pow(factorial(n), -1, P) % P for value in algebra.stacked(W, points)]
            assert found[n, j].tolist() == expected
            W = [a + b.diff(t) for a, b in zip(algebra.bracket(f, W), W, strict=True)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("degree", [0, 1, 2, 5])
def test_one_field_adds_nothing(family, degree, rng):
    # sum_i u_i W_i' = 0: its coefficient of t**n is the sum over k of u_k (n - k + 1) W of order n - k + 1.
    program = family(rng)
    controls = rng.integers(0, P, (degree + 1, program.count))
    orders = 9
    found = rows_of(program, fractions(rng, 3, program.dim) + Fraction(1, 7), controls, orders).astype(object)
    assert found[1:].any() == (program.count > 1)
    for n in range(orders - 1):
        total = sum((n - k + 1) * (controls[k].astype(object) @ found[n - k + 1]) for k in range(min(n, degree) + 1))
        assert not (total % P).any()


@pytest.mark.parametrize(
    ("family", "depth", "count"), [(quadratic, 4, 6), (linear, 3, 6), (ridge, 3, 4), (spherical, 3, 5)]
)
def test_curves_span_the_brackets_up_to_their_depth(family, depth, count, rng):
    program = family(rng)
    points = fractions(rng, count, program.dim) + Fraction(1, 7)
    algebra = Brackets(program)
    levels = [[algebra.stacked(W, points) for W in level] for level in algebra.up_to(depth)]
    curves = [rows_of(program, points, rng.integers(0, P, (3, program.count)), depth) for _ in range(9)]
    ranks = []
    for n in range(1, depth + 1):
        brackets = [row for level in levels[:n] for row in level]
        rows = [row for curve in curves for order in curve[:n] for row in order]
        ranks.append(rank(brackets))
        assert rank(rows) == rank([*brackets, *rows]) == ranks[-1]
    assert program.count == ranks[0] < ranks[-1] <= program.dim * count
    if family is quadratic:
        assert ranks == [2, 3, 5, 8]


def test_orders_depend_neither_on_later_ones_nor_on_other_points(rng):
    program, controls = quadratic(rng), rng.integers(0, P, (3, 2))
    points = fractions(rng, 4, 2)
    found = rows_of(program, points, controls, 7)
    assert rows_of(program, points, controls, 3).tolist() == found[:3].tolist()
    assert rows_of(program, points, controls, 1).tolist() == found[:1].tolist()
    assert rows_of(program, points[2:3], controls, 7).tolist() == found[:, :, 4:6].tolist()


def test_commuting_fields_do_not_move(rng):
    # Diagonal linear fields: all brackets are zero, whatever the curve.
    program = MonomialProgram(np.eye(3, dtype=int), [np.diag([1, 2, 3]), np.diag([0, 5, -1])])
    points = fractions(rng, 3, 3)
    found = rows_of(program, points, rng.integers(0, P, (3, 2)), 6)
    assert found[0].tolist() == (program.evaluate(points, P).transpose(1, 0, 2).reshape(2, -1)).tolist()
    assert not found[1:].any()


def test_heisenbergs_third_field_and_no_more():
    x, y, z = sympy.symbols("x y z")
    program = MonomialProgram(
        [[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[[2, 0, 0], [0, 0, 0], [0, 0, -1]], [[0, 0, 0], [2, 0, 0], [0, 1, 0]]]
    )
    assert program.to_sympy([x, y, z]) == [[2, 0, -y], [0, 2, x]]
    u = np.array([[3, 5], [7, 11], [0, 1]])
    found = rows_of(program, [[1, 2, 3], [-1, 0, 4]], u, 5)
    # [V_1, V_2] = (0, 0, 4) and W_1' = -4 u_2 d/dz, W_2' = 4 u_1 d/dz.
    for n in range(1, 5):
        for j, sign in enumerate([-4, 4]):
            c = sign * (u[n - 1, 1 - j] if n <= 3 else 0)
            expected = [0, 0, c * pow(n, -1, P) % P]
            assert found[n, j].tolist() == [int(v) for v in expected * 2]


@pytest.mark.parametrize("p", [11, 101, 65537])
def test_smaller_primes(p, rng):
    program = MonomialProgram(monomial_exponents(2, 2), rng.integers(-3, 4, (2, 2, 6)))
    points, controls = rng.integers(-9, 10, (2, 2)).tolist(), rng.integers(0, p, (3, 2))
    algebra = Brackets(program)
    f, t = algebra.velocity(controls), algebra.gens[-1]
    found = rows_of(program, points, controls, 4, p)
    for j, W in enumerate(algebra.fields):
        for n in range(4):
            expected = [value * pow(factorial(n), -1, p) % p for value in algebra.stacked(W, points, p)]
            assert found[n, j].tolist() == expected
            W = [a + b.diff(t) for a, b in zip(algebra.bracket(f, W), W, strict=True)]


def test_far_orders_are_exact():
    # Against the recursion in Python's integers on the line, with extreme controls.
    fields, u = [[1, 2, 3], [-4, 0, P // 2]], [[P // 2, -(P // 2)], [P // 2 + 1, 1]]
    orders = 40
    found = rows_of(MonomialProgram([[0], [1], [2]], [[c] for c in fields]), [[P // 2]], u, orders)

    def times(r, s):
        return [sum(r[k] * s[n - k] for k in range(n + 1)) for n in range(len(s))]

    def combined(parts):
        return [sum(c * part[n] for c, part in parts) % P for n in range(len(parts[0][1]))]

    x, psi = [P // 2], [1]
    for n in range(orders):
        one = [1] + [0] * n
        values = [combined([(c[0], one), (c[1], x), (c[2], times(x, x))]) for c in fields]
        slopes = [combined([(c[1], one), (2 * c[2], x)]) for c in fields]
        assert found[n, :, 0].tolist() == [times(psi, V)[n] % P for V in values]
        controls = [[row[j] for row in u] + [0] * n for j in range(2)]
        velocity, slope = ([sum(c) for c in zip(*map(times, controls, f), strict=True)] for f in (values, slopes))
        x.append(velocity[n] * pow(n + 1, -1, P) % P)
        psi.append(-times(psi, slope)[n] * pow(n + 1, -1, P) % P)


@pytest.mark.parametrize("shape", [(2, 4, 5), (1, 2, 7)])
def test_on_images_and_spheres_it_is_what_the_checker_finds_with_plain_matrices(shape, rng):
    def part(size, d, **kind):
        lead = {"row": (d, shape[0]), "dense": (d, shape[0], shape[0])}[kind["name"]]
        return ConvolutionProgram(
            shape, rng.integers(-5, 6, (*lead, size, size)), np.arange(d) % shape[0] if kind["name"] == "row" else None,
            None, rng.integers(-5, 6, lead[:-1]), [0, 1, 1], rng.integers(-5, 6, (d, 3)),
        )  # fmt: skip

    # Two families with one pattern and one with another.
    program = SphericalProgram(UnionProgram([part(3, 3, name="row"), part(3, 2, name="dense"), part(1, 2, name="row")]))
    points, controls = rng.integers(-9, 10, (2, program.dim)), rng.integers(0, P, (3, program.count))
    found = rows_of(program, points, controls, 5)
    data = to_data(program, exact_array(points))
    expected = rows_along(read(data["fields"], points.tolist(), P), points % P, controls, 5, P)
    assert found.reshape(expected.shape).tolist() == expected.tolist()


def test_nothing_is_left_of_a_curve_without_the_collector_of_cycles(rng):
    program = spherical(rng)
    gc.disable()
    try:
        curve = Curve(program, exact_array([[1, 2], [3, 4]]), centred(rng.integers(0, P, (3, 2)), P), 4, P)
        for _ in range(4):
            curve.coefficients()
        held = weakref.ref(curve._values.coefficient(3))
        assert held() is not None
        del curve
        assert held() is None
    finally:
        gc.enable()


def test_products_are_counted():
    # Coefficient k of a product of series takes k + 1 products. A frame is multiplied up to order K - 2, fields at
    # level 0, too, at level 1 up to order K - 3, and so on. With fields a frame takes as many, the unit matrix aside.
    for orders in range(1, 8):
        frame = sum(k + 1 for k in range(orders - 1))
        levels = sum(k + 1 for level in range(orders - 1) for k in range(orders - 1 - level))
        assert products(orders, 7, 3, 20) == (frame * 49 * (7 + 3), levels * 20 * 3)
