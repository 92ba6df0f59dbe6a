"""The explicit five."""

from fractions import Fraction
from math import gcd

import numpy as np
import pytest
import sympy

from theory import five_fields

P = 1048573


def linear_part(program, i):
    m = program.dim
    eye = np.eye(m, dtype=int)
    return program.jacobian_product(np.zeros((m, m), dtype=int), eye)[:, i].T


def insert(basis, vector, p):
    """Reduce a vector modulo p by an echelon basis {pivot: row}; keep and report what is new."""
    for pivot, row in basis.items():
        if vector[pivot]:
            vector = [(a - vector[pivot] * b) % p for a, b in zip(vector, row, strict=True)]
    pivot = next((j for j, a in enumerate(vector) if a), None)
    if pivot is None:
        return False
    inverse = pow(vector[pivot], -1, p)
    basis[pivot] = [a * inverse % p for a in vector]
    return True


def lie_dimension(matrices, p=P):
    """The dimension modulo p of the span of all commutators: a lower bound of the dimension over Q."""
    basis, found, queue = {}, [], [np.array(a, dtype=object) for a in matrices]
    while queue:
        a = queue.pop()
        if insert(basis, [int(t) % p for t in a.flat], p):
            queue += [(a @ b - b @ a) % p for b in found]
            found.append(a)
    return len(found)


@pytest.mark.parametrize("m", range(2, 7))
def test_the_matrices_generate_all_traceless_ones(m):
    program = five_fields(m)
    A, B = linear_part(program, 0), linear_part(program, 1)
    assert np.trace(A) == np.trace(B) == 0
    # Traceless: m**2 - 1 is an upper bound; modulo a prime it is a lower bound.
    assert lie_dimension([A, B]) == m * m - 1


@pytest.mark.parametrize(("m", "dimension"), [(2, 3), (4, 10), (6, 21)])
def test_an_equally_spaced_diagonal_would_not_do(m, dimension):
    A = np.diag([2 * i - m + 1 for i in range(m)])
    B = np.roll(np.eye(m, dtype=int), 1, axis=0)
    assert lie_dimension([A, B]) == dimension == m * (m + 1) // 2


@pytest.mark.parametrize("m", [2, 3, 5, 8])
def test_the_fields_are_the_formulas(m):
    x = sympy.symbols(f"x_1:{m + 1}")
    fields = five_fields(m).to_sympy(x)
    squares = [Fraction(i * i) - Fraction((m + 1) * (2 * m + 1), 6) for i in range(1, m + 1)]
    A = linear_part(five_fields(m), 0)
    diagonal = np.diag(A)
    assert np.count_nonzero(A) == np.count_nonzero(diagonal)
    ratio = diagonal[0] / squares[0]
    assert ratio > 0
    assert [ratio * s for s in squares] == diagonal.tolist()
    assert gcd(*(int(a) for a in diagonal)) == 1
    assert fields[0] == [int(a) * t for a, t in zip(diagonal, x, strict=True)]
    assert fields[1] == [x[-1], *x[:-1]]
    assert fields[2] == [0] * (m - 1) + [1]
    assert fields[3] == [x[-1] ** 2] + [0] * (m - 1)
    assert fields[4] == [t * x[-1] for t in x]


def test_its_face():
    program = five_fields(3)
    assert (program.dim, program.count, program.degree, program.dtype) == (3, 5, 2, None)
    assert len(program.exponents) == 2 * 3 + 1
    assert program.digest() == five_fields(3).digest()


@pytest.mark.parametrize("m", [1, 0, -2])
def test_the_line_is_excluded(m):
    with pytest.raises(ValueError, match=r"expected m >= 2: on the line .* keeps the order"):
        five_fields(m)
