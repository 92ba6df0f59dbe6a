"""When an iteration for rest or of a linear problem has met its tolerance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cde_nets.solver.status import Status
from cde_nets.solver.tolerance import Tolerance


def norms(x: Tensor) -> Tensor:
    """The 2-norm of every row of packed states, shape (rows,)."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=1)
    return norm


def code(residual: Tensor, size: Tensor, tolerance: Tolerance) -> Tensor:
    """CONVERGED where |residual| <= atol + rtol |size|, else RUNNING; where one is not finite DIVERGED.

    Args:
        residual: the undamped residual's norm, shape (rows,).
        size: what rtol is relative to: |f(z)| at rest, |g| of a linear problem, shape (rows,).
        tolerance: with plain numbers.
    """
    met = residual <= enough(size, tolerance)
    # RUNNING is 0. An image whose norm overflows would meet any tolerance relative to it.
    return (met * int(Status.CONVERGED)).masked_fill(lost(residual, size), int(Status.DIVERGED))


def enough(size: Tensor, tolerance: Tolerance) -> Tensor:
    """The largest residual that meets the tolerance, shape (rows,)."""
    return tolerance.rtol * size + tolerance.atol


def lost(residual: Tensor, size: Tensor) -> Tensor:
    """The rows where one of two norms is not finite, shape (rows,)."""
    # The larger of two norms, or NaN where one is: one look at both.
    return ~(torch.maximum(residual, size) < math.inf)
