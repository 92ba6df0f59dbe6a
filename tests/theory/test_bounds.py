"""Upper bounds of ranks, against explicit brackets, and what they exclude."""

from fractions import Fraction

import numpy as np
import pytest
import sympy

import theory
from theory.bounds import at_points, by_depth, universality
from theory.exact import exact_array

x, y, z = sympy.symbols("x y z")


def program(*fields, symbols=(x, y)):
    return theory.read_fields(fields, symbols)


POINTS = exact_array([[0, 1], [1, 2], [-1, 3], [2, 2]])


@pytest.mark.parametrize(
    ("fields", "rank"),
    [
        ([[y, -x], [x, 2 * y]], 4),
        ([[y, -x], [x, 2 * y], [1, 0]], 6),
        ([[x**2, y]], 1),
        ([[x * (y - 1), x**2], [x**3, x]], 6),
        ([[y, -x], [x**2, 1]], 8),
    ],
    ids=["linear", "affine", "one", "a common zero", "none"],
)
def test_what_a_family_spans_at_most(fields, rank):
    made = program(*fields)
    bound = at_points(made, POINTS)
    assert bound.rank == rank
    certificate = theory.check_points(made, POINTS, seed=0)
    assert certificate.rank <= rank
    assert bool(certificate.impossible) == (rank < 8) == (not certificate.proved)


def test_on_spheres():
    made = theory.SphericalProgram(program([y, 1], [x * y, x]))
    assert at_points(made, POINTS).rank == 4
    assert by_depth(made, 4, 1).rank == 2
    assert by_depth(made, 4, 5).rank == 4


def test_a_cutoff_does_not_raise_bounds():
    inside = theory.RestrictedProgram(program([y, -x], [x, 2 * y]), 10)
    # Linear fields are seen as affine ones through the cutoff.
    assert at_points(inside, POINTS).rank == 6


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_brackets_of_a_depth_span_no_more_than_their_number_and_their_degree(depth):
    rng = np.random.default_rng(depth)
    made = theory.MonomialProgram(theory.monomial_exponents(2, 2), rng.integers(-9, 10, (3, 2, 6)))
    points = [[Fraction(int(a), 7), int(b)] for a, b in rng.integers(-99, 100, (20, 2))]
    fields = made.to_sympy((x, y))
    rows = []
    for W in theory.lie_algebra(fields, (x, y), depth):
        # Exact, of SymPy's rational numbers, and many times as quick as to substitute them.
        values = sympy.lambdify((x, y), list(W.components), "sympy")
        rows.append([value for point in points for value in values(*map(sympy.Rational, point))])
    assert (
        sympy.polys.matrices.DomainMatrix.from_Matrix(sympy.Matrix(rows)).to_field().rank()
        == by_depth(made, 20, depth).rank
    )


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ([[x**2, y]], "one field"),
        ([[y, 1], [x, y], [1, 2 * x]], "affine"),
        ([[y**2, x], [x * y, -(y**2) / 2], [x, 2 * y]], "divergence"),
    ],
)
def test_what_cannot_be_universal(fields, word):
    made = program(*fields)
    assert word in universality(made)
    certificate = theory.universal(made, seed=0, max_degree=4)
    assert not certificate
    assert word in str(certificate)


def test_of_universal_families_nothing_is_said():
    for m in (2, 3):
        assert universality(theory.five_fields(m)) == universality(theory.two_fields(m)) == ""
    assert theory.universal(theory.two_fields(2), seed=0).impossible == ""


def test_where_the_degree_is_too_low_the_certificate_says_which_was_tried():
    rng = np.random.default_rng(0)
    exponents = theory.monomial_exponents(3, 2)
    made = theory.MonomialProgram(exponents, rng.integers(-9, 10, (2, 3, len(exponents))))
    certificate = theory.universal(made, seed=0, max_degree=6)
    assert certificate.impossible == ""
    assert "degrees up to 6 were tried" in str(certificate)
