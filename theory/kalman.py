"""Kalman's rank of linear systems, and of the linear part of others, exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from theory.closure import degrees
from theory.exact import ExactArray, exact_array
from theory.primes import modulo_some_prime
from theory.program import Program
from theory.programs.monomial import MonomialProgram
from theory.rings import Rationals
from theory.rowspace import RowSpace, centred, product

# Numbers that are computed as fractions; and the size of matrices whose deficient rank is found over the rationals.
_MOST, _MOST_ROWS = 20_000, 32


@dataclass(frozen=True)
class Kalman:
    """The rank of [B, AB, A**2 B, ..], exact, for the linear part A x + B u of a system at some points.

    R. E. Kalman, Y. C. Ho and K. S. Narendra, "Controllability of linear dynamical systems", Contributions to
    Differential Equations 1, 1963.

    Attributes:
        rank: Kalman's.
        full_rank: the rows of A and B: m for an affine system; m N for points at which the drift vanishes.
        affine: whether the system is affine, f_0 = A x + c and f_i = b_i, and so all there is to know.
    """

    rank: int
    full_rank: int
    affine: bool


def kalman_rank(drift: Program, fields: Program, points: ExactArray, seed: int) -> Kalman | None:
    """The rank of [B, AB, A**2 B, ..] for an affine system, or at points where the drift vanishes.

    At points the linear part is that of all of them, A = diag(Df_0(x_1), .., Df_0(x_N)) and B the stacked fields. An
    affine system's is the same at each, and is taken at one.

    Args:
        drift: f_0.
        fields: f_1..f_d.
        points: exact, (N, m).
        seed: of the prime that is tried before the rationals.

    Returns:
        The rank; None where there is no such linear part, where it has more than some 20,000 numbers, and where the
        rank is deficient modulo a prime and there are more than 32 rows to find it over the rationals.
    """
    affine = is_affine(drift, fields)
    x = points[:1] if affine else points
    count, m = x.shape
    if count * m * max(count * m, fields.count) > _MOST or not (affine or _vanishes(drift, x)):
        return None
    jacobians, n = drift.jacobian(Rationals.of(x)).fractions()[:, 0], count * m
    A = np.full((n, n), 0, dtype=object)
    for k in range(count):
        A[k * m : (k + 1) * m, k * m : (k + 1) * m] = jacobians[k]
    B = fields.evaluate(x).transpose(0, 2, 1).reshape(n, -1)
    rank = modulo_some_prime(np.random.default_rng(seed), lambda p: _rank_modulo(A, B, p))
    target = (m - 1) * count if fields.manifold == "sphere" else n
    if rank < target:
        if n > _MOST_ROWS:
            return None
        rank = _rank_exact(A, B)
    return Kalman(rank, target, affine)


def _rank_modulo(A: npt.NDArray[np.object_], B: npt.NDArray[np.object_], p: int) -> int:
    """Modulo p: at most the rank."""
    turn, rows = (centred(exact_array(part, "linear part").residues(p), p).T for part in (A, B))
    space = RowSpace(len(A), p)
    while len(kept := space.keep(rows)):
        rows = product(rows[kept], turn, p)
    return space.rank


def _rank_exact(A: npt.NDArray[np.object_], B: npt.NDArray[np.object_]) -> int:
    from sympy import QQ
    from sympy.polys.matrices import DomainMatrix

    turn, new = (
        DomainMatrix([[QQ(v.numerator, v.denominator) for v in row] for row in part.tolist()], part.shape, QQ)
        for part in (A, B)
    )
    found, rank, before = new, new.rank(), -1
    while before < rank:
        new = turn * new
        found, before = found.hstack(new), rank
        rank = found.rank()
    return int(rank)


def is_affine(drift: Program, fields: Program) -> bool:
    """Whether f_0 = A x + c and all f_i are constant, as far as that can be read off coefficients."""
    if not (isinstance(drift, MonomialProgram) and isinstance(fields, MonomialProgram)):
        return False
    return max(degrees(drift)) <= 1 and max(degrees(fields)) == 0


def _vanishes(drift: Program, points: ExactArray) -> bool:
    # Modulo a prime first: what is not zero there is not zero, and fractions may be slow.
    residues = modulo_some_prime(np.random.default_rng(0), lambda p: drift.evaluate(points, p))
    return not residues.any() and not drift.evaluate(points).any()
