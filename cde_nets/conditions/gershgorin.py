"""A bound from below of the smallest eigenvalue of (I - J)^T (I - J), and the hinge that pushes it up."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from cde_nets.conditions.dense import jacobian
from cde_nets.conditions.point import Point
from cde_nets.options import suggest, suggesting, within
from cde_nets.solver.fixed_point import FixedPointProblem

NORMS = ("infinity", "frobenius")


@suggesting
def gershgorin_bound(problem: FixedPointProblem, z: Any, norm: str = "infinity") -> Tensor:
    """A number a row which lambda_min(A), A = (I - J)^T (I - J), is not below: 1 - |A - I|, by Gershgorin's circles.

    lambda_min(A) >= 1 - |A - I|_inf >= 1 - sqrt(n) |A - I|_F, equation (4) of the appendix of Liao et al., "Reviving
    and improving recurrent back-propagation", 2018, with |.|_inf the largest sum of moduli in a row. A bound above 0
    proves that I - J is regular; one that is not proves nothing, and 1 is the most it can be.

    Differentiable, to any order, in z and in all that f depends on; a subgradient where two sums are the largest. A row
    where z, f(z) or J is not finite gives NaN, and nothing to what rows share.

    Cost: J is written out, by as many products as a row has numbers n, all at once through torch.func.vmap, which f
    must allow; then n^3 of work, and memory of n^2 a row.

    Args:
        problem: its z0 is not used; only how it is built.
        z: the rest point, built as z0.
        norm: "infinity", or "frobenius", the looser one, which is smooth where A is not I.

    Returns:
        Shape (rows,).

    Raises:
        ValueError: another norm, or a state that is complex, of half precision or not built as z0.
    """
    if norm not in NORMS:
        raise ValueError(f"gershgorin_bound has no norm {norm!r}{suggest(norm, NORMS)}")
    point, J = jacobian(Point.of(problem, z))
    # A - I without the subtraction of what is nearly equal.
    rest = J.mT @ J - J - J.mT
    if norm == "infinity":
        size = rest.abs().sum(2).amax(1)
    else:
        size = math.sqrt(J.shape[1]) * torch.linalg.vector_norm(rest, dim=(1, 2))
    return point.only(1 - size)


@suggesting
def gershgorin_hinge(problem: FixedPointProblem, z: Any, margin: float, norm: str = "infinity") -> Tensor:
    """The loss max(0, margin - bound) a row: where it is 0, lambda_min((I - J)^T (I - J)) >= margin.

    The appendix's term, max(0, sqrt(n) |A - I|_F - 1), is the one with margin 0. It rests as soon as the bound is 0,
    which a singular I - J may have: only a margin above 0 keeps away from that.

    Args:
        problem: as for `gershgorin_bound`.
        z: likewise.
        margin: from 0 to 1, which no bound exceeds.
        norm: as for `gershgorin_bound`.

    Returns:
        Shape (rows,); NaN as `gershgorin_bound`.

    Raises:
        ValueError: a margin outside [0, 1], and as `gershgorin_bound`.
    """
    within("margin", margin, 0.0, 1.0, closed=True)
    return torch.relu(margin - gershgorin_bound(problem, z, norm))
