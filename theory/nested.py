"""Nested brackets of given combinations of the fields at points, without expanding any."""

from __future__ import annotations

from collections.abc import Sequence

from theory.exact import ExactArray
from theory.multidual import MultiDual
from theory.program import Program
from theory.rowspace import Residues, centred


def nested_brackets(program: Program, points: ExactArray, directions: Sequence[Residues], p: int) -> Residues:
    """[U_a, [U_b, .. [U_c, V_j]]] at N points for all a < b < .. < c, U_l = sum_i directions[l][0, i] V_i.

    With nilpotents s_l, X <- X + s_l U_l(X) and W <- W - s_l DU_l(X) W, the last one first, are exact flows and
    pullbacks, and this bracket is the coefficient of s_a s_b .. s_c in what V_j(X) is pulled back to.

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
    slopes = []
    for bit, direction in enumerate(directions):
        values, slope = program.linearized(x, MultiDual.of(direction[0], nilpotents, p))
        weights = MultiDual.of(direction, nilpotents, p)
        slopes.append(slope)
        x = x + values.transpose(0, 2, 1).linear(weights).reshape(count, m).times(bit)
    pulled = program.values(x).transpose(0, 2, 1)
    for bit, slope in reversed([*enumerate(slopes)]):
        pulled = pulled - slope.times(pulled).times(bit)
    return pulled.transpose(2, 0, 1).values.reshape(2**nilpotents, program.count, count * m)
