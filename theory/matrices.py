"""The Lie algebra that matrices generate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from theory.effort import fresh_seed
from theory.exact import ExactArray, exact_array
from theory.primes import modulo_some_prime
from theory.rowspace import Residues, RowSpace, centred, product, reduce


def matrix_algebra_dimension(matrices: npt.ArrayLike | ExactArray, *, seed: int | None = None) -> int:
    """The dimension of the span of matrices and all their commutators, modulo a random prime.

    A proved lower bound of the dimension over the rationals; where the matrices are traceless and it is m**2 - 1, they
    generate all traceless matrices.

    Args:
        matrices: (k, m, m) numbers.
        seed: of the prime.

    Raises:
        ValueError: another shape.
    """
    given = exact_array(matrices, "matrices")
    if len(given.shape) != 3 or given.shape[1] != given.shape[2] or not given.shape[0]:
        raise ValueError(f"matrices have shape {given.shape}, expected (k, m, m)")
    rng = np.random.default_rng(fresh_seed(seed))
    return modulo_some_prime(rng, lambda p: _dimension(centred(given.residues(p), p), p))


def _dimension(generators: Residues, p: int) -> int:
    m = generators.shape[1]
    space = RowSpace(m * m, p)
    new = generators
    while len(new):
        before = space.rank
        space.add(new.reshape(-1, m * m))
        # Commutators with the generators reach all of the algebra.
        basis = space.basis(before).reshape(-1, 1, m, m)
        new = reduce(product(generators, basis, p) - product(basis, generators, p), p).reshape(-1, m, m)
    return space.rank
