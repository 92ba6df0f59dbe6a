"""Nested brackets of given combinations of the fields at points, without expanding any."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from theory.exact import ExactArray
from theory.multidual import MultiDual
from theory.program import Program
from theory.rowspace import Residues, centred


def nested_brackets(program: Program, points: ExactArray, directions: Sequence[Residues], p: int) -> Residues:
    """[U_a, [U_b, .. [U_c, V_j]]] at N points for all a < b < .. < c, U_l = sum_i directions[l][0, i] V_i.

    With nilpotents s_l, X <- X + s_l U_l(X) and Psi <- Psi (I - s_l DU_l(X)) are exact flows and pullbacks, and this
    bracket is the coefficient of s_a s_b .. s_c in Psi V_j(X).

    Args:
        program: the fields.
        points: exact, (N, m).
        directions: L rows of centred residues, (1, d) each.
        p: a prime below 2**20.

    Returns:
        (2**L, d, N m): the bits of the first index say which U_l take part, so that the last entry has all.
    """
    nilpotents = len(directions)
    x = MultiDual.of(centred(points.residues(p), p), nilpotents, p)
    count, m = x.shape
    psi = MultiDual.of(np.broadcast_to(np.eye(m), (count, m, m)).copy(), nilpotents, p)
    for bit, direction in enumerate(directions):
        weights = MultiDual.of(direction, nilpotents, p)
        values = program.values(x)
        moved = values.transpose(0, 2, 1).linear(weights).reshape(count, m)
        psi = psi - (psi @ program.jacobian(x, weights)[:, 0]).times(bit)
        x = x + moved.times(bit)
    pulled = (psi @ program.values(x).transpose(0, 2, 1)).transpose(2, 0, 1)
    return pulled.values.reshape(2**nilpotents, program.count, count * m)
