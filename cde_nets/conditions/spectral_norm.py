"""The largest singular value of J: the local factor of contraction."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cde_nets.conditions.estimate import Estimate, once
from cde_nets.conditions.krylov import begin, largest, ritz
from cde_nets.options import suggesting
from cde_nets.solver.convergence import norms
from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.linear.check import over
from cde_nets.solver.status import Status

MOST = 256


@suggesting
def spectral_norm(
    problem: FixedPointProblem,
    z: Any,
    *,
    tolerance: float | None = None,
    max_steps: int | None = None,
    seed: int = 0,
) -> Estimate:
    """|J|_2 a row: near z the map is a contraction, in the Euclidean norm, where this is below 1.

    By Lanczos' process on J^T J with full orthogonalisation, which in exact arithmetic is Golub and Kahan's
    ("Calculating the singular values and pseudo-inverse of a matrix", 1965). The value |J v|, with v the Ritz vector of
    norm 1, never exceeds |J|_2, and misses it by at most the residual |J^T u - |J v| v| with u = J v / |J v| as long as
    no larger singular value is hidden from the start.

    It is differentiable, in z and in all that f depends on, with v held: exact up to the residual over the gap to the
    next singular value. Where the largest is not simple it is a subgradient. It cannot be differentiated again.

    Cost: two products a step, and one more.

    Args:
        problem: its z0 is not used; only how it is built.
        z: the rest point, built as z0.
        tolerance: of the residual, relative to the norm; eps^(2/3) where None.
        max_steps: the most steps; the least of 256 and the numbers of a row where None.
        seed: of the start.

    Raises:
        ValueError: an option out of its range, or a state that is complex, of half precision or not built as z0.
    """
    point, settings = begin(problem, z, tolerance, max_steps, seed, MOST)
    with torch.no_grad():
        at, inner = point.z.detach(), point.problem
        _, transposed = inner.transposed(at)
        push = inner.pushing(at)

        def product(v: Tensor) -> Tensor:
            return transposed(push(v))

        pair = ritz(product, at, point.alive, largest, settings)
    point = point.keep(pair.status != Status.DIVERGED)
    value = norms(point.problem.pushforward(point.z, pair.vector))
    # |J^T J v - theta v| over |J v|: in the units of J.
    size = value.detach()
    residual = torch.where(size > 0, over(pair.residual, size, size > 0), pair.residual)
    return Estimate(once(point.only(value)), pair.status, residual, point.problem.products)
