"""Accessibility against explicit brackets, Kalman's matrix, simulation and a textbook's examples."""

import json
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import product

import numpy as np
import pytest
import sympy
from scipy.integrate import solve_ivp
from sympy.polys.matrices import DomainMatrix

from theory import (
    Certificate,
    MonomialProgram,
    RestrictedProgram,
    RidgeProgram,
    SphericalProgram,
    check_accessibility,
    check_points,
    evaluate_at,
    exact_array,
    lie_bracket,
    monomial_exponents,
)
from theory.checker import check
from theory.curve import Curve
from theory.kalman import _rank_exact, _rank_modulo
from theory.primes import random_prime
from theory.rowspace import centred

x, y, z = sympy.symbols("x y z")
XY = (x, y)


def known(drift, fields, points, symbols=XY, **options):
    return check_accessibility(drift, fields, points, symbols=symbols, seed=1, **options)


def ranks(found):
    return found.weak.rank, found.strong.rank


# Against explicit brackets


def independent(rows):
    """The numbers of rows of rationals that span all of them."""
    columns = [[sympy.QQ(v.p, v.q) for v in row] for row in rows]
    matrix = DomainMatrix(columns, (len(columns), len(columns[0])), sympy.QQ)
    return matrix.transpose().rref()[1]


def reduced(fields, symbols):
    """Some of the fields, that span all of them."""
    parts = [[sympy.Poly(c, *symbols) for c in V] for V in fields]
    keys = sorted({(j, a) for V in parts for j, f in enumerate(V) for a in f.monoms()})
    return [fields[k] for k in independent([[V[j].coeff_monomial(a) for j, a in keys] for V in parts])]


def brackets(letters, last, symbols, depth, enough=lambda found: False):
    """Fields that span all [g_1, [g_2, .. g_k]] of at most `depth` letters that end in one of `last`."""
    found, level = list(last), list(last)
    while (depth := depth - 1) and level and not enough(found):
        level = [W for V, U in product(letters, level) if any(W := lie_bracket(V, U, symbols))]
        level = reduced(level, symbols) if level else []
        found += level
    return found


def algebras(drift, fields, symbols, depth):
    """Of all fields, and the ideal of the controlled ones."""
    letters = [drift, *fields]
    return [brackets(letters, last, symbols, depth) for last in (letters, fields)]


def rank(fields, symbols, points):
    return len(independent([[sympy.sympify(v) for v in evaluate_at(V, symbols, points)] for V in fields]))


def system(seed):
    """A sparse quadratic drift, one or two fields, and points with fractions as coordinates, different ones."""
    rng = np.random.default_rng(seed)
    m, count, d = [(2, 1, 1), (3, 1, 1), (2, 2, 1), (3, 1, 2), (2, 2, 2), (1, 2, 1)][seed % 6]
    symbols = sympy.symbols(f"x:{m}")
    monomials = [sympy.Mul(*(s ** int(e) for s, e in zip(symbols, a, strict=True))) for a in monomial_exponents(m, 2)]

    def field(density):
        kept = rng.random((m, len(monomials))) < density
        return [sum(int(rng.integers(-3, 4)) * f for f, k in zip(monomials, row, strict=True) if k) for row in kept]

    drift, fields = field(0.4), [field(0.15) for _ in range(d)]
    points = [[Fraction(int(rng.integers(-4, 5)), int(rng.integers(1, 4))) + n for _ in range(m)] for n in range(count)]
    points[0] = [0] * m if seed % 4 == 0 else points[0]
    return drift, fields, points, symbols


@cache
def explicit(seed):
    """The ranks of both algebras, by brackets of at most four letters; none is formed once they are full."""
    drift, fields, points, symbols = system(seed)

    def ranked(last):
        def full(found):
            return rank(found, symbols, points) == len(symbols) * len(points)

        return rank(brackets([drift, *fields], last, symbols, 4, full), symbols, points)

    return ranked([drift, *fields]), ranked(fields)


@pytest.mark.parametrize("seed", range(24))
def test_both_ranks_are_those_of_explicit_brackets(seed):
    drift, fields, points, symbols = system(seed)
    found = known(drift, fields, points, symbols)
    assert ranks(found) == explicit(seed)
    assert (found.weak.proved, found.strong.proved) == tuple(r == len(symbols) * len(points) for r in explicit(seed))


def test_those_systems_are_of_all_sorts():
    full = [len(system(seed)[3]) * len(system(seed)[2]) for seed in range(24)]
    sorts = [
        (weak == n, strong == n, weak - strong)
        for n, (weak, strong) in zip(full, map(explicit, range(24)), strict=True)
    ]
    assert {(True, True, 0), (True, False, 1), (False, False, 1), (False, False, 0)} <= set(sorts)


@pytest.mark.parametrize("seed", range(2))
def test_curves_without_the_drift_lie_in_the_ideal_and_span_it(seed):
    rng = np.random.default_rng(seed)
    p, orders = random_prime(rng), 3
    points = rng.integers(-9, 10, (8, 2)).tolist()
    program = MonomialProgram(monomial_exponents(2, 2), rng.integers(-3, 4, (3, 2, 6)))
    *fields, drift = program.to_sympy(XY)
    ideal = [evaluate_at(V, XY, points) for V in brackets([drift, *fields], fields, XY, orders)]
    rows = []
    for _ in range(9):
        controls = centred(rng.integers(0, p, (3, 3)), p)
        curve = Curve(program, exact_array(points), controls, orders, p)
        rows += [row for _ in range(orders) for row in curve.coefficients()[:-1].astype(int).tolist()]

    def modular(matrix):
        entries = [[sympy.GF(p)(int(v)) for v in row] for row in matrix]
        return DomainMatrix(entries, (len(entries), 16), sympy.GF(p)).rank()

    # Of the free Lie algebra of three letters: 2 + 3 + 8, and the drift is none of them.
    assert modular(rows) == modular(ideal) == modular(rows + ideal) == 13
    assert modular([*rows, evaluate_at(drift, XY, points)]) == 14


# Classical examples, by hand


def test_a_drift_to_one_side_is_accessible_and_not_controllable():
    # [f_1, [f_1, f_0]] = (2, 0): both algebras are full at the origin, yet x' = y**2 >= 0.
    found = known([y**2, 0], [[0, 1]], [[0, 0]])
    assert ranks(found) == (2, 2)
    assert found.weak.proved
    assert found.strong.proved
    assert found.controllable is None
    assert (found.kalman.rank, found.kalman.full_rank, found.kalman.affine) == (1, 2, False)
    rng = np.random.default_rng(0)
    ends = []
    for _ in range(40):
        a, w = rng.normal(0, 5, 3), rng.uniform(0, 9, 3)
        path = solve_ivp(lambda t, s, a=a, w=w: [s[1] ** 2, a @ np.cos(w * t)], (0, 1), [0, 0], rtol=1e-9, atol=1e-12)
        ends.append(path.y[:, -1])
    ends = np.array(ends)
    # What is attained has interior, and lies on one side of where it began.
    assert ends[:, 0].min() > 0
    assert ends[:, 1].min() < -0.1 < 0.1 < ends[:, 1].max()
    assert np.linalg.matrix_rank(ends - ends[0]) == 2


def test_time_as_a_coordinate_is_weakly_accessible_only():
    found = known([1, 0], [[0, 1]], [[0, 0]])
    assert ranks(found) == (2, 1)
    assert (found.weak.proved, found.strong.proved) == (True, False)
    assert found.strong.impossible == "the rank is at most 1: Kalman's, as the system is affine"
    assert found.controllable is False
    # And where it is not affine, so that Kalman says nothing.
    found = known([1, 0, x], [[0, 1, 0], [0, 0, y]], [[0, 0, 0]], (x, y, z))
    assert ranks(found) == (3, 2)
    assert found.controllable is None
    assert "in times up to T has interior" in str(found)
    assert "exactly the time T" not in str(found)


@pytest.mark.parametrize("point", [[0, 0], [3, 4]])
def test_the_double_integrator_is_controllable(point):
    found = known([y, 0], [[0, 1]], [point])
    assert ranks(found) == (2, 2)
    assert (found.kalman.rank, found.kalman.affine, found.controllable) == (2, True, True)
    assert "any state to any other" in found.reason


def test_two_double_integrators_with_one_control_keep_their_difference():
    found = known([y, 0], [[0, 1]], [[0, 0], [1, 3]])
    # The constants (1, 0, 1, 0) and (0, 1, 0, 1), and the drift (0, 0, 3, 0).
    assert ranks(found) == (3, 2)
    assert found.strong.impossible
    assert found.controllable is False
    assert "difference of two points" in found.reason


def test_a_linear_system_that_cannot_be_controlled():
    # Both coordinates decay alike, and the control moves them alike.
    for point, weak in (([1, 2], 2), ([1, 1], 1)):
        found = known([-x, -y], [[1, 1]], [point])
        assert ranks(found) == (weak, 1)
        assert (found.kalman.rank, found.controllable) == (1, False)


def test_a_car_that_only_drives_forward_has_the_ranks_of_one_that_turns_back():
    # Its heading (p, q) keeps its length: three of four dimensions. [turn, forward] = (-q, p, 0, 0) up to the sign.
    s = sympy.symbols("x y p q")
    forward, turn = [s[2], s[3], 0, 0], [0, 0, -s[3], s[2]]
    on_circle = [[0, 0, 1, 0]]
    both = known([0] * 4, [forward, turn], on_circle, s)
    assert ranks(both) == (3, 3)
    assert ranks(known(forward, [turn], on_circle, s)) == (3, 3)


def test_controls_that_can_cancel_the_drift():
    found = known([3 - x * y, 2 * x**3], [[1, 2 * x**3], [x * y - 2, 0]], [[1, 2]])
    # f_0 = f_1 - f_2.
    assert found.strong.proved
    assert found.controllable is True
    assert "Chow" in found.reason
    # By other numbers, or with other functions, it cannot.
    assert known([3 - x * y, x**3], [[1, 2 * x**3], [x * y - 2, 0]], [[1, 2]]).controllable is None
    assert known([x**4, 0], [[1, 2 * x**3], [x * y - 2, 0]], [[1, 2]]).controllable is None
    # What does not span stays undecided, or is plain.
    assert known([2 * y, -2 * x], [[y, -x], [y**2, -x * y]], [[1, 2]]).controllable is None
    vanishing = known([0, 0], [[x, 0], [0, y**2]], [[0, 0]])
    assert vanishing.controllable is False
    assert "all fields vanish at point 0" in vanishing.reason


def test_a_pendulum_at_rest_by_its_linear_part():
    # A polynomial pendulum, x'' = -x + x**3 / 6 + u, at rest and on its way.
    drift, field = [y, -x + x**3 / 6], [[0, 1 + x**2]]
    rest, moving = known(drift, field, [[0, 0]]), known(drift, field, [[1, 2]])
    assert (rest.kalman.rank, rest.kalman.affine, rest.controllable) == (2, False, True)
    assert "the drift vanishes" in rest.reason
    assert moving.strong.proved
    assert (moving.kalman, moving.controllable) == (None, None)


def test_two_points_at_rest_are_controlled_together():
    # Rest at -1, 0 and 1, with slopes 2, -1, 2: B = (1, 1) and A = diag(-1, 2) are controllable, two equal slopes not.
    drift, one = [x**3 - x], [[1]]
    both = check_accessibility(drift, one, [[0], [1]], symbols=(x,), seed=1)
    assert (both.kalman.rank, both.kalman.full_rank, both.controllable) == (2, 2, True)
    alike = check_accessibility(drift, one, [[-1], [1]], symbols=(x,), seed=1)
    assert (alike.kalman.rank, alike.kalman.full_rank, alike.controllable) == (1, 2, None)
    # Brackets of higher depth tell them apart nevertheless.
    assert alike.strong.rank == 2


# Kalman


def matrices(seed):
    """Integers, of a block triangular system for every other seed: Kalman's rank is then deficient."""
    rng = np.random.default_rng(seed)
    m, d = 2 + seed % 4, 1 + seed % 2
    A, B = rng.integers(-3, 4, (m, m)), rng.integers(-3, 4, (m, d))
    if seed % 2:
        k = m // 2
        A[k:, :k], B[k:] = 0, 0
        T = np.eye(m, dtype=int) + np.tril(rng.integers(-2, 3, (m, m)), -1)
        inverse = np.round(np.linalg.inv(T)).astype(int)
        assert (T @ inverse == np.eye(m)).all()
        A, B = T @ A @ inverse, T @ B
    return A, B


def kalman(A, B):
    A, B = sympy.Matrix(A), sympy.Matrix(B)
    return sympy.Matrix.hstack(*(A**k * B for k in range(len(A[:, 0])))).rank()


@pytest.mark.parametrize("seed", range(16))
def test_of_linear_systems_the_strong_rank_is_kalmans_anywhere(seed):
    A, B = matrices(seed)
    m, d = B.shape
    expected = kalman(A, B)
    assert expected == np.linalg.matrix_rank(np.hstack([np.linalg.matrix_power(A, k) @ B for k in range(m)]))
    drift = MonomialProgram(np.eye(m, dtype=int), A[None])
    fields = MonomialProgram(np.zeros((1, m), dtype=int), B.T[:, :, None])
    points = np.random.default_rng(seed).integers(-5, 6, (3, m))
    points[1] = 0
    for point in points[:2].tolist():
        found = check_accessibility(drift, fields, [point], seed=seed)
        assert found.strong.rank == found.kalman.rank == expected
        assert found.strong.proved == (expected == m) == found.controllable
        assert (
            found.weak.rank
            == sympy.Matrix.hstack(
                *(sympy.Matrix(A) ** k * sympy.Matrix(B) for k in range(m)), sympy.Matrix(A) * sympy.Matrix(point)
            ).rank()
        )
    together = check_accessibility(drift, fields, [[0] * m, [1] * m], seed=seed)
    assert together.strong.rank == together.kalman.rank == expected
    assert together.controllable is False
    assert d == fields.count


def test_the_tests_have_both_sorts_of_linear_systems():
    full = [kalman(*matrices(seed)) == len(matrices(seed)[0]) for seed in range(16)]
    assert 5 <= sum(full) <= 11


@pytest.mark.parametrize("seed", range(8))
def test_kalmans_rank_modulo_a_prime_and_exactly(seed):
    A, B = (np.vectorize(Fraction)(part) / 3 for part in matrices(seed))
    assert _rank_exact(A, B) == kalman(*matrices(seed)) == _rank_modulo(A, B, 1048573)
    # A prime may divide what a proof needs.
    assert _rank_modulo(np.array([[Fraction(7)]]), np.array([[Fraction(7)]]), 7) == 0


def test_kalmans_rank_of_a_large_system_is_not_guessed():
    # A chain of 40 integrators with its head cut off: full of no rank, and too large to be decided exactly.
    m = 40
    chain = np.eye(m, k=1, dtype=int)
    drift, last = MonomialProgram(np.eye(m, dtype=int), chain[None]), np.zeros((1, m, 1), dtype=int)
    last[0, -2] = 1
    found = check_accessibility(drift, MonomialProgram(np.zeros((1, m), dtype=int), last), [[1] * m], seed=1)
    assert (found.kalman, found.controllable) == (None, None)
    assert "not known to be full or deficient" in found.reason
    last[0, -2:, 0] = 0, 1
    found = check_accessibility(drift, MonomialProgram(np.zeros((1, m), dtype=int), last), [[1] * m], seed=1)
    assert (found.strong.rank, found.kalman.rank, found.controllable) == (m, m, True)


# Without a drift, and other families


@pytest.mark.parametrize(
    ("fields", "points"),
    [
        ([[1, 0], [0, x**3]], [[0, 5]]),
        ([[1, 0], [0, x]], [[0, 0], [1, 2]]),
        ([[y, -x], [x, y]], [[1, 2], [3, 4], [0, 1]]),
        ([[y, -x], [2 * y, -2 * x]], [[1, 2]]),
    ],
)
def test_without_a_drift_both_ranks_are_those_of_the_fields(fields, points):
    found = known([0, 0], fields, points)
    alone = check_points(fields, points, symbols=XY, seed=1)
    assert ranks(found) == (alone.rank, alone.rank)
    assert found.strong.proved == alone.proved
    assert found.controllable == (True if alone.proved else None)


def test_families_of_any_kind_take_a_drift():
    rng = np.random.default_rng(0)
    ridge = RidgeProgram(rng.integers(-3, 4, (2, 2, 2)), rng.integers(-3, 4, (2, 2)), [[0, 1, 1], [1, 0, 2]])
    drift = MonomialProgram([[1, 0], [0, 2]], [[[1, 2], [0, 1]]])
    points = [[1, 2], [0, -1]]
    expected = algebras(drift.to_sympy(XY)[0], ridge.to_sympy(XY), XY, 3)
    found = check_accessibility(drift, ridge, points, seed=1)
    assert ranks(found) == tuple(rank(V, XY, points) for V in expected)
    assert found.controllable is None


def test_in_a_ball_nothing_is_said_of_what_lies_outside():
    base = MonomialProgram([[1, 0]], [[[1], [0]]])
    still = MonomialProgram([[1, 0]], [[[0], [0]]])
    found = check_accessibility(RestrictedProgram(still, 2), RestrictedProgram(base, 2), [[0, 0]], seed=1)
    assert found.strong.scope == "points of the ball"
    assert found.weak.impossible
    assert found.controllable is None
    assert check_accessibility(still, base, [[0, 0]], seed=1).controllable is False
    with pytest.raises(ValueError, match="outside the ball"):
        check_accessibility(RestrictedProgram(still, 2), RestrictedProgram(base, 2), [[3, 0]])


def test_on_spheres_the_full_rank_is_theirs():
    def rotation(a, b):
        W = np.zeros((1, 3, 3), dtype=int)
        W[0, a, b], W[0, b, a] = 1, -1
        return SphericalProgram(MonomialProgram(np.eye(3, dtype=int), W))

    # Turning about one axis as a drift, and about another as a control: at the pole of the drift it vanishes.
    found = check_accessibility(rotation(0, 1), rotation(1, 2), [[0, 0, 5]], seed=1)
    assert (found.strong.rank, found.strong.full_rank, found.strong.scope) == (2, 2, "sphere")
    # A = ((0, 1), (-1, 0)) and b = (0, 5) on the tangent plane.
    assert (found.kalman.rank, found.kalman.full_rank, found.controllable) == (2, 2, True)
    alone = check_accessibility(rotation(0, 1), rotation(0, 1), [[1, 0, 5]], seed=1)
    assert ranks(alone) == (1, 1)
    assert alone.controllable is None


# Certificates


def test_both_certificates_are_proved_again_from_json():
    found = known([y**2, x], [[0, 1]], [[0, 0], [1, Fraction(1, 3)]])
    assert found.strong.claim == "strong accessibility"
    for certificate in (found.weak, found.strong):
        again = Certificate.from_json(certificate.to_json())
        assert again == certificate
        assert str(again) == str(certificate)
        assert again.to_json() == certificate.to_json()
        verified = again.verify(seed=2)
        assert (verified.proved, verified.rank, verified.claim) == (
            certificate.proved, certificate.rank, certificate.claim
        )  # fmt: skip
        assert verified.runs != certificate.runs
    assert "strong accessibility holds there" in str(found.strong)


def test_the_same_seed_is_the_same_answer():
    args = ([y**2, x], [[0, 1]], [[0, 0]])
    assert known(*args) == known(*args)
    one, two = (check_accessibility(*args, symbols=XY) for _ in range(2))
    assert one.strong.seed == one.weak.seed != two.strong.seed


def test_the_checker_takes_the_weak_claim_and_refuses_the_strong_one():
    found = known([1, 0], [[0, 1], [0, x]], [[0, 0]])
    assert check(json.loads(found.weak.to_json())) == (
        f"checked: rank 2 of 2 at 1 points of R^2, modulo {found.weak.runs[-1].prime}"
    )
    strong = json.loads(known([y, 0], [[0, 1]], [[0, 0]]).strong.to_json())
    for claim in ("strong accessibility", "points"):
        with pytest.raises(ValueError, match="unknown kind 'controlled, with a drift'"):
            check(strong | {"claim": claim})
    with pytest.raises(ValueError, match="'not proved'"):
        check(json.loads(found.strong.to_json()))


def test_a_claim_is_not_turned_into_another():
    found = known([1, 0], [[0, 1]], [[0, 0]])
    weak, strong = (json.loads(c.to_json()) for c in (found.weak, found.strong))
    with pytest.raises(ValueError, match="fields of the kind 'union', expected 'controlled, with a drift'"):
        Certificate.from_json(json.dumps(weak | {"claim": "strong accessibility"}))
    with pytest.raises(ValueError, match="fields of the kind 'controlled, with a drift'"):
        Certificate.from_json(json.dumps(strong | {"claim": "points"}))

    def edited(**changes):
        system = strong["data"]["fields"]
        return json.dumps(strong | {"data": strong["data"] | {"fields": system | changes}})

    two = strong["data"]["fields"]["drift"] | {"coefficients": [[["1"], ["0"]], [["0"], ["1"]]]}
    with pytest.raises(ValueError, match="a drift of 2 fields, expected one"):
        Certificate.from_json(edited(drift=two))
    with pytest.raises(ValueError, match="is no certificate"):
        Certificate.from_json(edited(drift=None))
    with pytest.raises(ValueError, match="about points and has none"):
        Certificate.from_json(json.dumps(strong | {"data": strong["data"] | {"points": None}}))
    other = strong["data"]["fields"]["drift"] | {"coefficients": [[["0"], ["1"]]]}
    with pytest.raises(ValueError, match="their digests differ"):
        Certificate.from_json(edited(drift=other)).verify()


def test_time_that_is_over_is_said():
    found = known([y, 0], [[0, 1]], [[0, 0]], time_limit=0)
    assert not found.strong.proved
    assert "stopped after 0 s" in str(found.strong)
    # What Kalman proves needs no curve.
    assert found.controllable is True


def test_progress_is_told_of_both_ranks():
    told = []
    known([y, 0], [[0, 1]], [[0, 0]], progress=lambda rank, full: told.append((rank, full)))
    assert told[-1] == (2, 2)
    assert told.count((2, 2)) == 2


# Words


def test_what_is_proved_and_what_it_does_not_say():
    text = str(known([y**2, 0], [[0, 1]], [[0, 0]]))
    first, second, third, last = text.split("\n")
    assert first.startswith("Weak accessibility. Proved: rank 2 of 2 modulo ")
    assert second.startswith("Strong accessibility. Proved: rank 2 of 2 modulo ")
    assert third == (
        "Accessible: what is attained from here at exactly the time T has interior, for every T > 0 that is small "
        "enough. That alone is not controllability: a drift may carry all of it to one side, and where it started need "
        "not be inside."
    )
    assert last == (
        "Controllability is not decided: the drift vanishes at the points, where Kalman's rank is 1 of 2: the linear "
        "part does not decide it."
    )
    linear = str(known([y, 0], [[0, 1]], [[0, 0]]))
    assert linear.endswith(
        "Controllable: the system is affine and Kalman's rank is 2 of 2: any state to any other, in any time T > 0."
    )
    stuck = str(known([x, 0], [[1, 0]], [[1, 2]]))
    assert "Accessible" not in stuck
    assert stuck.endswith("Kalman's rank is 1 of 2: other coordinates move by themselves.")


def test_strong_accessibility_alone_is_enough_to_say_so():
    # Where bad luck hides the weak rank, which is never below the strong one.
    found = known([y, 0], [[0, 1]], [[0, 0]])
    unlucky = replace(found, weak=replace(found.weak, proved=False, rank=1))
    assert "exactly the time T" in str(unlucky)


# Bad input


LINE = MonomialProgram([[1]], [[[1]]])
PLANE = MonomialProgram(np.eye(2, dtype=int), np.ones((2, 2, 2), dtype=int))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: known([1, 2, 3], [[0, 1]], [[0, 0]]), ValueError, "the drift has 3 components on 2 coordinates"),
        (lambda: check_accessibility(LINE, PLANE, [[0, 0]]), ValueError, r"drift lives on R\^1 and the fields on R\^2"),
        (lambda: check_accessibility(PLANE, PLANE, [[0, 0]]), ValueError, "the drift has 2 fields, expected one"),
        (lambda: known([0, 0], PLANE, [[0, 0]], symbols=None), ValueError, "need symbols"),
        (lambda: known(None, [[0, 1]], [[0, 0]]), TypeError, "the drift is a NoneType, expected m SymPy expressions"),
        (lambda: known("xy", [[0, 1]], [[0, 0]]), TypeError, "the drift is a str"),
        (lambda: known([sympy.sin(x), 0], [[0, 1]], [[0, 0]]), ValueError, "is no polynomial in x, y"),
        (lambda: known([y, 0], [], [[0, 0]]), ValueError, "expected fields as lists of 2 expressions"),
        (lambda: known([y, 0], 1.0, [[0, 0]]), TypeError, "fields are a float"),
        (lambda: known([y, 0], [[0, 1]], [[1, 2], [0, 0], [1, 2]]), ValueError, "rows 0 and 2 are the same point"),
        (lambda: known([y, 0], [[0, 1]], [[0.0, float("nan")]]), ValueError, "points: row 0 holds nan"),
        (lambda: known([y, 0], [[0, 1]], [0, 0]), ValueError, r"points have shape \(2,\), expected \(N, 2\)"),
        (lambda: known([y, 0], [[0, 1]], np.zeros((0, 2))), ValueError, "with N >= 1"),
        (lambda: known([y, 0], [[0, 1]], [[0, 0]], primes=0), ValueError, "primes is 0"),
        (lambda: known([y, 0], [[0, 1]], [[0, 0]], time_limit=-1), ValueError, "time_limit is -1"),
        (lambda: check_accessibility(SphericalProgram(PLANE), PLANE, [[1, 0]]), ValueError, "the drift has 2 fields"),
    ],
)  # fmt: skip
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_drift_off_the_spheres_of_the_fields_is_refused():
    one = MonomialProgram(np.eye(2, dtype=int), [[[0, 1], [1, 0]]])
    with pytest.raises(ValueError, match="expected one space and one manifold for all"):
        check_accessibility(one, SphericalProgram(PLANE), [[1, 0]])


@pytest.mark.parametrize("power", [2, 5, 7, 8, 12])
def test_brackets_as_deep_as_a_power_are_found(power):
    # ad of d/dy, so many times, takes y**power d/dx to power! d/dx, and fewer times to zero at the origin.
    for seed in range(3):
        found = check_accessibility([y**power, 0], [[0, 1]], [[0, 0]], symbols=XY, seed=seed)
        assert ranks(found) == (2, 2)
        assert found.strong.proved
        assert check_points([[y**power, 0], [0, 1]], [[0, 0]], symbols=XY, seed=seed).proved
