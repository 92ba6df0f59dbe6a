"""The smallest eigenvalue of (I - J)^T (I - J), which the implicit function theorem wants above 0, and its hinge."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from cde_nets.conditions.estimate import Estimate, once
from cde_nets.conditions.krylov import begin, ritz, smallest
from cde_nets.errors import ConvergenceWarning
from cde_nets.options import suggesting, within
from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.status import Status

# Small eigenvalues show late: a row of so many numbers is looked at whole if need be.
MOST = 512


@suggesting
def smallest_eigenvalue(
    problem: FixedPointProblem,
    z: Any,
    *,
    tolerance: float | None = None,
    max_steps: int | None = None,
    seed: int = 0,
) -> Estimate:
    """lambda_min(A) a row, A = (I - J)^T (I - J): the square of the smallest singular value of I - J.

    By Lanczos' process with full orthogonalisation. The value is |v - J v|^2 with v the Ritz vector of norm 1: never
    below lambda_min, and above it by at most the residual |A v - value v|, and by residual^2 over the gap to the next
    eigenvalue, as long as no smaller one is hidden. Where the small eigenvalues lie close together beside large ones
    they show only when the space is nearly all of R^n; it is grown until they do, to n where n is at most 512.

    The value is differentiable, in z and in all that f depends on, with v held (Hellmann, "Einfuehrung in die
    Quantenchemie", 1937; Feynman, "Forces in molecules", 1939): v^T dA v is the derivative where v is the eigenvector,
    and its relative error is of the order residual / gap where it is nearly so. No graph goes through the process
    itself, as it does in the appendix of Liao et al., 2018. A multiple eigenvalue has no derivative: this is then one
    element of the superdifferential (lambda_min is concave in A), for the v that the start leads to. It cannot be
    differentiated again.

    Cost: two products a step and one more; memory rows * steps * numbers.

    Args:
        problem: its z0 is not used; only how it is built.
        z: the rest point, built as z0.
        tolerance: of the residual, relative to the value, down to the rounding of A; eps^(2/3) where None: 4e-11 in
            double precision, 2e-5 in single.
        max_steps: the most steps; the least of 512 and the numbers of a row where None. Where they were not enough the
            status says MAX_STEPS, and the value is an upper bound.
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
            image = v - push(v)
            return image - transposed(image)

        pair = ritz(product, at, point.alive, smallest, settings)
    point = point.keep(pair.status != Status.DIVERGED)
    v = pair.vector
    value = (v - point.problem.pushforward(point.z, v)).square().sum(1)
    return Estimate(once(point.only(value)), pair.status, pair.residual, point.problem.products)


@suggesting
def eigenvalue_hinge(
    problem: FixedPointProblem,
    z: Any,
    eps: float,
    *,
    tolerance: float | None = None,
    max_steps: int | None = None,
    seed: int = 0,
) -> Tensor:
    """The loss max(0, eps - lambda_min) a row, which keeps (I - J)^T (I - J) away from singular matrices.

    The appendix of Liao et al., 2018, has max(0, -lambda_min), which is 0 whatever J is: the matrix is positive
    semidefinite, and lambda_min never negative. So eps must be above 0; the conditioning of the backward pass is then
    |I - J|_2 / sqrt(eps) at most where the loss is 0.

    Args:
        problem: as for `smallest_eigenvalue`.
        z: likewise.
        eps: above 0.
        tolerance: as for `smallest_eigenvalue`.
        max_steps: likewise.
        seed: likewise.

    Returns:
        Shape (rows,); NaN in rows that diverged. Warns (ConvergenceWarning) where max_steps was not enough: the loss is
        then too small.

    Raises:
        ValueError: eps not above 0, and as `smallest_eigenvalue`.
    """
    within("eps", eps, 0.0)
    found = smallest_eigenvalue(problem, z, tolerance=tolerance, max_steps=max_steps, seed=seed)
    unmet = found.status == Status.MAX_STEPS
    if bool(unmet.any()):
        message = (
            f"The smallest eigenvalue was not found in {int(unmet.sum())} of {len(unmet)} rows, to a residual of "
            f"{float(found.residual[unmet].max()):.3g}: the hinge is too small there. Raise max_steps or tolerance."
        )
        # Past the wrapper that names the nearest option.
        warnings.warn(message, ConvergenceWarning, stacklevel=3)
    return torch.relu(eps - found.value)
