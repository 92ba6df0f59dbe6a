"""What matrices generate, and the proof of the explicit five."""

import numpy as np
import pytest

from theory import five_diagonal, five_fields, universal
from theory.matrices import matrix_algebra_dimension


def cyclic(m):
    return np.roll(np.eye(m, dtype=int), 1, axis=0)


@pytest.mark.parametrize("m", [2, 3, 4, 5, 6, 8])
def test_the_matrices_of_the_five_generate_all_traceless_ones(m):
    assert matrix_algebra_dimension(np.stack([np.diag(five_diagonal(m)), cyclic(m)])) == m * m - 1


@pytest.mark.parametrize("m", [4, 6, 8])
def test_an_equally_spaced_diagonal_is_found_out(m):
    diagonal = np.diag([2 * i - m - 1 for i in range(1, m + 1)])
    assert matrix_algebra_dimension(np.stack([diagonal, cyclic(m)])) == m * (m + 1) // 2


@pytest.mark.parametrize(
    ("matrices", "dimension"),
    [
        # Rotations of space; the affine line; diagonal matrices; strictly upper triangular ones.
        ([[[0, -1, 0], [1, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, -1], [0, 1, 0]]], 3),
        ([[[1, 0], [0, 0]], [[0, 1], [0, 0]]], 2),
        ([[[1, 0], [0, 2]], [[3, 0], [0, 5]]], 2),
        ([[[0, 1, 0], [0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 1], [0, 0, 0]]], 3),
        ([[[0, 0], [0, 0]]], 0),
    ],
)
def test_known_algebras(matrices, dimension):
    assert matrix_algebra_dimension(matrices) == dimension


@pytest.mark.parametrize(("m", "degree", "dimension"), [(2, 8, 90), (3, 6, 252), (4, 4, 280), (5, 3, 280)])
def test_all_polynomial_fields_of_a_degree_are_brackets_of_the_five(m, degree, dimension):
    certificate = universal(five_fields(m), min_degree=degree, max_degree=degree, seed=0)
    assert certificate.proved
    assert (certificate.rank, certificate.full_rank, certificate.degree) == (dimension, dimension, degree)


def test_shapes_that_are_no_matrices():
    with pytest.raises(ValueError, match=r"matrices have shape \(2, 3\)"):
        matrix_algebra_dimension(np.ones((2, 3), dtype=int))
