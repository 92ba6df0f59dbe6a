"""Combinations of brackets that are given fields: multiplied out with SymPy; none that hold modulo p alone."""

import time
from fractions import Fraction

import numpy as np
import pytest
import sympy

import theory
from theory.closure import GradedClosure
from theory.lifting import as_dicts, bracket, generators, lift
from theory.primes import random_prime

x, y = sympy.symbols("x y")


def right_normed(fields, word, symbols):
    found = fields[word[-1]]
    for letter in reversed(word[:-1]):
        found = theory.lie_bracket(fields[letter], found, symbols)
    return found


def assert_identity(certificate, program):
    """The combinations of explicit SymPy brackets are the generators."""
    symbols = list(sympy.symbols(f"x_1:{program.dim + 1}"))
    fields = program.to_sympy(symbols)
    brackets = [right_normed(fields, word, symbols) for word in certificate.lift.words]
    for row, target in zip(certificate.lift.combinations, generators(program.dim).to_sympy(symbols), strict=True):
        for a in range(program.dim):
            total = sum(sympy.Rational(c) * W[a] for c, W in zip(row, brackets, strict=True))
            assert sympy.expand(total - target[a]) == 0


@pytest.mark.parametrize("m", [2, 3, 4])
def test_two_fields_generate_the_explicit_five(m):
    program = theory.two_fields(m)
    certificate = theory.universal(program, seed=m)
    assert certificate.proved
    assert certificate.scope == "polynomial"
    assert (certificate.rank, certificate.full_rank, certificate.degree) == (5, 5, None)
    assert certificate.depth == max(map(len, certificate.lift.words)) == m + 3
    assert "exactly over the rationals" in str(certificate)
    assert_identity(certificate, program)


@pytest.mark.parametrize("m", [6, 10])
def test_two_fields_are_enough_in_higher_dimensions(m):
    assert theory.universal(theory.two_fields(m), seed=0).proved


def test_parts_of_the_second_field_are_told_apart():
    # The proof of two_fields: the brackets with Ax multiply the parts by different numbers.
    for m in range(2, 65):
        diagonal = theory.five_diagonal(m)
        numbers = [diagonal[j - 1] - diagonal[j] for j in range(m)]
        numbers += [-diagonal[-1], 2 * diagonal[-1] - diagonal[0], diagonal[-1]]
        assert len(set(numbers)) == m + 3


def test_neither_of_the_two_is_enough():
    program = theory.two_fields(3)
    for i in range(2):
        one = theory.MonomialProgram(program.exponents, program.coefficients[i : i + 1])
        assert not theory.universal(one, seed=0).proved


def test_on_the_line_two_fields_are_enough():
    certificate = theory.universal([[x], [1 + x**3]], symbols=(x,), seed=0)
    assert certificate.proved
    assert "keeps the order" in str(certificate)
    assert_identity(certificate, theory.read_fields([[x], [1 + x**3]], (x,)))


def test_after_a_change_of_coordinates_no_degree_is_filled_and_the_fields_still_generate_all():
    # (x, y) -> (x + y**2, y) carries polynomial fields to polynomial fields, but their highest parts to few.
    five = theory.five_fields(2).to_sympy((x, y))
    back = {x: x - y**2, y: y}
    moved = [[sympy.expand((V[0] + 2 * y * V[1]).subs(back)), sympy.expand(V[1].subs(back))] for V in five]
    certificate = theory.universal(moved, symbols=(x, y), seed=0)
    assert certificate.proved
    assert certificate.lift is not None
    assert_identity(certificate, theory.read_fields(moved, (x, y)))


def test_fractions_and_floats_are_combined_exactly():
    two = theory.two_fields(2)
    c = two.coefficients.fractions()
    scaled = theory.MonomialProgram(two.exponents, np.array([c[0] * Fraction(3, 7), c[1] * Fraction(0.1)]))
    certificate = theory.universal(scaled, seed=0)
    assert certificate.proved
    assert_identity(certificate, scaled)


@pytest.mark.parametrize("seed", range(5))
def test_containment_modulo_p_is_not_enough(seed):
    # (1 - p x_1) V_i are the two fields modulo p; over the rationals all their brackets vanish at x_1 = 1/p.
    p = random_prime(np.random.default_rng(seed))
    symbols = (x, y)
    fields = [[sympy.expand((1 - p * x) * c) for c in V] for V in theory.two_fields(2).to_sympy(symbols)]
    program = theory.read_fields(fields, symbols)
    words = [(0,), (1,), (0, 1), (0, 0, 1), (0, 0, 0, 1), (0, 0, 0, 0, 1)]
    assert lift(theory.two_fields(2), words, p) is not None
    assert lift(program, words, p) is None


def test_words_stand_for_themselves_whatever_stands_beside_them():
    words = [(0, 0, 0, 0, 1), (0, 0, 1), (1,), (0, 0, 0, 1), (0, 1), (0,)]
    assert lift(theory.two_fields(2), words, 1048573).words == tuple(words)


def test_what_is_not_contained_is_not_found():
    assert lift(theory.two_fields(2), [(0,), (1,), (0, 1)], 1048573) is None


def test_exact_brackets_are_sympys():
    rng = np.random.default_rng(0)
    exponents = theory.monomial_exponents(2, 3)
    program = theory.MonomialProgram(exponents, rng.integers(-9, 10, (2, 2, len(exponents))))
    V, W = program.to_sympy((x, y))
    expected = theory.lie_bracket(V, W, (x, y))
    found = bracket(*as_dicts(program))
    for a in range(2):
        assert sympy.expand(sum(c * x ** e[0] * y ** e[1] for (b, e), c in found.items() if b == a) - expected[a]) == 0


def test_words_of_the_closure_span_what_it_found():
    rng = np.random.default_rng(1)
    exponents = theory.monomial_exponents(2, 2)
    program = theory.MonomialProgram(exponents, rng.integers(-3, 4, (2, 2, len(exponents))))
    closure = GradedClosure(program, 1048573, 5)
    last = list(closure.levels())[-1]
    words = closure.words(last.degree)
    assert len(words) == len(set(words)) == last.space.rank
    fields = program.to_sympy((x, y))
    rows = []
    for word in words:
        polynomials = [sympy.Poly(c, x, y) for c in right_normed(fields, word, (x, y))]
        rows.append([p.coeff_monomial(x**a * y**b) for p in polynomials for a in range(6) for b in range(6 - a)])
    assert sympy.Matrix(rows).rank() == len(words)


def test_the_certificate_survives_json():
    certificate = theory.universal(theory.two_fields(2), seed=1)
    again = theory.Certificate.from_json(certificate.to_json())
    assert again == certificate
    assert again.verify(seed=5).lift is not None


def test_after_the_deadline_nothing_is_lifted():
    words = [(0, 0, 0, 0, 1), (0, 0, 1), (1,), (0, 0, 0, 1), (0, 1), (0,)]
    assert lift(theory.two_fields(2), words, 1048573, deadline=time.monotonic() + 60) is not None
    assert lift(theory.two_fields(2), words, 1048573, deadline=time.monotonic()) is None
