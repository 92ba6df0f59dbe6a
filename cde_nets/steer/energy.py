"""Shorter controls with the same ends: down the energy along the solutions."""

from __future__ import annotations

import time

import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.steer.damped import Attempt, approach
from cde_nets.steer.endpoint import Endpoint

# A control is called short where no more than this share of it could be left out to first order, or where a step brings
# no more than this share of its energy.
_SHARE, _GAIN = 2e-2, 5e-3
_STRIDE, _SHORTEST, _MOST = 0.5, 1e-2, 20
# On the way targets need not be met more closely than this; at the end they are.
_ON_THE_WAY = 1e-6


def shorten(
    endpoint: Endpoint,
    values: Float[Tensor, "steps count"],
    target: Float[Tensor, "points dim"],
    *,
    tolerance: float,
    deadline: float,
) -> Attempt:
    """From a solution of X_1(values) = target to one whose energy int |u|^2 dt is a local minimum, or near one.

    At a minimum u is orthogonal to the kernel of the Jacobian J (Lagrange). So the part of u in the kernel, u minus
    J^+ J u, is left out as far as damped least squares finds back to the targets: a projected gradient method.

    Args:
        endpoint: the map.
        values: a solution.
        target: where the points end.
        tolerance: of the residual.
        deadline: by `time.monotonic`.

    Returns:
        A solution of no more energy; values themselves, with an infinite residual, where none was found. Steps and
        rejected ones count those of the least squares.
    """
    first, now, stride = values, values, _STRIDE
    steps = rejected = blown_up = 0
    while stride > _SHORTEST and time.monotonic() < deadline:
        free = _free(endpoint, now)
        if float(free.norm()) <= _SHARE * float(now.norm()):
            break
        moved = now - stride * free
        loose = max(tolerance, _ON_THE_WAY)
        attempt = approach(endpoint, moved, target, tolerance=loose, most=_MOST, deadline=deadline)
        steps, rejected = steps + attempt.steps, rejected + attempt.rejected
        blown_up += attempt.blown_up
        gain = 1 - float(attempt.values.square().sum()) / float(now.square().sum())
        if attempt.residual > loose or gain <= 0:
            stride /= 4
            continue
        now, stride = attempt.values, min(1.0, 2 * stride)
        if gain < _GAIN:
            break
    # The way to the targets is short now; its time is not counted, as without it all would be lost.
    last = approach(endpoint, now, target, tolerance=tolerance, most=_MOST, deadline=float("inf"))
    steps, rejected, blown_up = steps + last.steps, rejected + last.rejected, blown_up + last.blown_up
    if last.residual > tolerance or float(last.values.norm()) > float(first.norm()):
        return Attempt(first, float("inf"), steps, rejected, blown_up)
    return Attempt(last.values, last.residual, steps, rejected, blown_up)


def _free(endpoint: Endpoint, values: Tensor) -> Tensor:
    """The part of the values in the kernel of the Jacobian: what moves no end, to first order."""
    linearized = endpoint.linearized(values)
    assert linearized is not None
    # Rows of Q span what J sees; a pseudo-inverse of J J^T would square its condition.
    q, _ = torch.linalg.qr(linearized[1].mT)
    u = values.flatten()
    free: Tensor = u - q @ (q.mT @ u)
    return free.reshape(values.shape)
