"""Words of independent brackets, against explicit brackets in SymPy."""

from fractions import Fraction

import numpy as np
import pytest
import sympy
from sympy.polys.matrices import DomainMatrix

import theory
from theory.brackets import nesting_text
from theory.exact import exact_array
from theory.spanning import MOST_DEPTH, are_independent, independent_words
from theory.words import right_normed

P = 1048573


def quadratic(seed, m=2, d=3):
    rng = np.random.default_rng(seed)
    exponents = theory.monomial_exponents(m, 2)
    return theory.MonomialProgram(exponents, rng.integers(-5, 6, (d, m, len(exponents)))), rng


def explicit_rank(program, words, points):
    """The rank over the rationals of the brackets, expanded by SymPy."""
    symbols = list(sympy.symbols(f"x_1:{program.dim + 1}"))
    fields = program.to_sympy(symbols)
    rows = []
    for word in words:
        W = fields[word[-1]]
        for letter in reversed(word[:-1]):
            W = theory.lie_bracket(fields[letter], W, symbols)
        # Exact, of SymPy's rational numbers, and many times as quick as to substitute them.
        values = sympy.lambdify(symbols, list(W), "sympy")
        rows.append([value for point in points for value in values(*map(sympy.Rational, point))])
    return DomainMatrix.from_Matrix(sympy.Matrix(rows)).to_field().rank()


@pytest.mark.parametrize(("m", "d", "count"), [(2, 2, 3), (2, 3, 4), (3, 2, 3), (3, 5, 6)])
def test_explicit_brackets_of_the_words_have_full_rank(m, d, count):
    program, rng = quadratic(m * 10 + d, m, d)
    points = [[Fraction(int(v), 7) for v in rng.integers(-20, 20, m)] for _ in range(count)]
    certificate = theory.check_points(program, points, words=True, seed=1)
    assert len(set(certificate.words)) == len(certificate.words) == certificate.full_rank
    assert explicit_rank(program, certificate.words, points) == m * count


def test_short_words_come_first_and_no_longer_ones_than_needed():
    program, rng = quadratic(0, 2, 5)
    points = rng.integers(-9, 10, (10, 2))
    certificate = theory.check_points(program, points, words=True, seed=0)
    ranks = theory.growth_vector(program, points, 6, seed=0).ranks
    lengths = [len(word) for word in certificate.words]
    assert lengths == sorted(lengths)
    assert tuple(sum(length <= n for length in lengths) for n in range(1, len(ranks) + 1)) == ranks


def test_on_the_sphere_as_many_as_its_dimension():
    base, rng = quadratic(2, 3, 3)
    program = theory.SphericalProgram(base)
    points = rng.integers(1, 9, (2, 3))
    certificate = theory.check_points(program, points, words=True, seed=0)
    assert len(certificate.words) == 4
    assert explicit_rank(program, certificate.words, points.tolist()) == 4


def test_none_are_told_where_nothing_is_proved():
    x, y = sympy.symbols("x y")
    linear = theory.read_fields([[y, -x], [x, 2 * y]], (x, y))
    certificate = theory.check_points(linear, [[0, 1], [1, 2], [-1, 3]], words=True, seed=0)
    assert not certificate.proved
    assert certificate.words == ()
    words = independent_words([linear], exact_array([[0, 1], [1, 2], [-1, 3]]), P, 6, 5, np.random.default_rng(0))
    assert explicit_rank(linear, words, [[0, 1], [1, 2], [-1, 3]]) == len(words) == 4


def test_dependent_words_are_found_out():
    program, rng = quadratic(5, 2, 2)
    points = exact_array(rng.integers(-9, 10, (2, 2)))
    assert are_independent([program], points, [(0,), (1,), (0, 1)], P)
    assert not are_independent([program], points, [(0,), (1,), (0, 1), (1, 0)], P)
    assert not are_independent([program], points, [(0, 0)], P)


def test_verify_tries_the_same_words_with_another_prime():
    program, rng = quadratic(6, 2, 3)
    certificate = theory.check_points(program, rng.integers(-9, 10, (4, 2)), words=True, seed=0)
    again = certificate.verify(seed=9)
    assert again.words == certificate.words
    assert again.runs[-1].prime != certificate.runs[-1].prime


def test_words_survive_json():
    program, rng = quadratic(6, 2, 3)
    certificate = theory.check_points(program, rng.integers(-9, 10, (4, 2)), words=True, seed=0)
    again = theory.Certificate.from_json(certificate.to_json())
    assert again.words == certificate.words
    assert again.verify(seed=3).words == certificate.words


def test_many_words_are_sampled():
    # On the line quadratic fields are sl(2): three words, and the search ends.
    program, rng = quadratic(8, 1, 2)
    assert len(independent_words([program], exact_array([[1], [2], [3], [4]]), P, 4, 6, rng)) == 3
    # Of 5**5 prefixes of length 5 some are drawn.
    program, rng = quadratic(9, 2, 5)
    points = rng.integers(-99, 100, (30, 2))
    certificate = theory.check_points(program, points, words=True, seed=0)
    assert len(certificate.words) == 60
    assert max(map(len, certificate.words)) <= MOST_DEPTH


def test_words_are_written_as_nested_brackets():
    assert nesting_text(right_normed((0, 2, 1))) == "[V_1, [V_3, V_2]]"
    assert nesting_text(right_normed((0, 1)), latex=True) == r"\left[V_{1}, V_{2}\right]"
    program, rng = quadratic(6, 2, 3)
    certificate = theory.check_points(program, rng.integers(-9, 10, (2, 2)), words=True, seed=0)
    assert certificate.brackets() == ["V_1", "V_2", "V_3", "[V_1, V_2]"]
    assert theory.universal(theory.two_fields(2), seed=0).brackets()[:3] == ["V_1", "V_2", "[V_2, V_1]"]
