"""Brackets as SymPy expressions: the sign convention, the laws of a Lie algebra, the bases."""

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from theory.brackets import evaluate_at, lie_algebra, lie_bracket
from theory.words import witt

X = sympy.symbols("x y z")


@st.composite
def fields(draw, degree=2):
    """A polynomial field on R^3 with few small coefficients."""
    monomials = [
        sympy.Mul(*(x**e for x, e in zip(X, a, strict=True))) for a in ((0, 0, 0), (1, 0, 0), (0, 1, 1), (0, 0, 2))
    ]
    return [sum(draw(st.integers(-2, 2)) * phi for phi in monomials) for _ in X]


def same(one, two):
    return all(sympy.expand(a - b) == 0 for a, b in zip(one, two, strict=True))


def test_of_linear_fields_it_is_the_commutator_the_other_way_round():
    A, B = sympy.Matrix([[1, 2], [0, 3]]), sympy.Matrix([[0, 1], [4, 1]])
    x = sympy.Matrix(X[:2])
    assert same(lie_bracket(list(A * x), list(B * x), X[:2]), list((B * A - A * B) * x))


def test_the_flows_around_a_square_end_along_the_bracket():
    # e^{-tA} e^{-tB} e^{tA} e^{tB} x = x + t^2 (AB - BA) x + ..: B first, and [V, W] = (BA - AB) x for V = Ax, W = Bx.
    t = sympy.symbols("t")
    A, B = sympy.Matrix([[0, 1], [0, 0]]), sympy.Matrix([[0, 0], [1, 0]])
    round_trip = (-t * A).exp() * (-t * B).exp() * (t * A).exp() * (t * B).exp()
    second = round_trip.diff(t, 2).subs(t, 0) / 2
    x = sympy.Matrix(X[:2])
    assert same(list(second * x), [-v for v in lie_bracket(list(A * x), list(B * x), X[:2])])


@given(fields(), fields())
@settings(max_examples=20, deadline=None)
def test_antisymmetry(V, W):
    assert same(lie_bracket(V, W, X), [-v for v in lie_bracket(W, V, X)])


@given(fields(), fields(), fields())
@settings(max_examples=10, deadline=None)
def test_jacobi(U, V, W):
    turns = [
        lie_bracket(U, lie_bracket(V, W, X), X),
        lie_bracket(V, lie_bracket(W, U, X), X),
        lie_bracket(W, lie_bracket(U, V, X), X),
    ]
    assert same([sum(parts) for parts in zip(*turns, strict=True)], [0, 0, 0])


@given(fields(), fields())
@settings(max_examples=10, deadline=None)
def test_leibniz(V, W):
    # [V, f W] = f [V, W] + (V f) W.
    f = X[0] * X[1] + X[2]
    along = sum(sympy.diff(f, x) * v for x, v in zip(X, V, strict=True))
    want = [f * b + along * w for b, w in zip(lie_bracket(V, W, X), W, strict=True)]
    assert same(lie_bracket(V, [f * w for w in W], X), want)


@given(fields(), fields(), st.integers(-3, 3))
@settings(max_examples=10, deadline=None)
def test_it_is_linear_in_each_field(V, W, c):
    U = [X[1], X[0] * X[2], sympy.Integer(1)]
    got = lie_bracket([c * v + u for v, u in zip(V, U, strict=True)], W, X)
    want = [c * a + b for a, b in zip(lie_bracket(V, W, X), lie_bracket(U, W, X), strict=True)]
    assert same(got, want)


def generic():
    x, y = X[:2]
    return [[1 + y**3, x**2 * y], [x * y + y**2, 1 + x**3]], (x, y)


def test_of_fields_without_relations_there_are_as_many_brackets_as_witt_says():
    V, symbols = generic()
    depths = [bracket.depth for bracket in lie_algebra(V, symbols, 4)]
    assert [depths.count(n) for n in range(1, 5)] == [witt(2, n) for n in range(1, 5)]


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_both_bases_span_the_same(depth):
    V, symbols = generic()

    def vectors(brackets):
        monomials = [symbols[0] ** a * symbols[1] ** b for a in range(14) for b in range(14 - a)]
        return [
            [sympy.Poly(part, *symbols).coeff_monomial(phi) for part in bracket.components for phi in monomials]
            for bracket in brackets
        ]

    lyndon, left = (vectors(lie_algebra(V, symbols, depth, basis=basis)) for basis in ("lyndon", "left"))
    rank = sympy.polys.matrices.DomainMatrix.from_list_sympy
    ranks = [
        rank(len(m), len(m[0]), [[sympy.sympify(v) for v in row] for row in m]).convert_to(sympy.QQ).rank()
        for m in (lyndon, left, lyndon + left)
    ]
    assert ranks[0] == ranks[1] == ranks[2] == len(lyndon)


def test_brackets_that_vanish_are_left_out():
    x, y = X[:2]
    assert [str(b) for b in lie_algebra([[x, y], [2 * x, 2 * y]], (x, y), 4)] == ["V_1", "V_2"]


def test_a_bracket_is_written_as_it_is_nested():
    V, symbols = generic()
    third = lie_algebra(V, symbols, 3)[3]
    assert (str(third), third.word) == ("[V_1, [V_1, V_2]]", (0, 0, 1))
    assert third.latex() == r"\left[V_{1}, \left[V_{1}, V_{2}\right]\right]"
    want = lie_bracket(V[0], lie_bracket(V[0], V[1], symbols), symbols)
    assert same(third.components, want)


def test_evaluation_is_exact_and_stacked():
    x, y = X[:2]
    half = sympy.Rational(1, 2)
    assert evaluate_at([x * y, 1], (x, y), [(half, 3), (2, half)]) == [3 * half, 1, 1, 1]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: lie_bracket([1, 2], [1], X[:2]), "fields of 2 and 1 components on 2 coordinates"),
        (lambda: lie_algebra([[1, 2]], X, 2), "lists of 3 expressions"),
        (lambda: lie_algebra([[1, 2]], X[:2], 0), "depth is 0"),
        (lambda: lie_algebra([[1, 2]], X[:2], 2, basis="hal"), "expected one of lyndon, left"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
