"""Shorter controls with the same ends: down the energy along the solutions."""

from __future__ import annotations

import time

import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.steer.damped import Attempt, approach
from cde_nets.steer.endpoint import Endpoint, Linearized

# A control is called short where no more than this share of it could be left out to first order, or where a step brings
# no more than this share of its energy.
_SHARE, _GAIN = 2e-2, 5e-3
_STRIDE, _SHORTEST, _MOST = 0.5, 1e-2, 20
# On the way targets need not be met more closely than this; at the end they are.
_ON_THE_WAY = 1e-6
# Evaluations for which time is kept back: the end of the way converges quadratically.
_KEPT = 5


def shorten(
    endpoint: Endpoint,
    values: Float[Tensor, "steps count"],
    target: Float[Tensor, "points dim"],
    *,
    tolerance: float,
    deadline: float,
    known: Linearized | None = None,
) -> Attempt:
    """From a solution of X_1(values) = target to one whose energy int |u|^2 dt is a local minimum, or near one.

    At a minimum u is orthogonal to the kernel of the Jacobian J (Lagrange). So the part of u in the kernel, u minus
    J^+ J u, is left out as far as damped least squares finds back to the targets: a projected gradient method.

    Args:
        endpoint: the map.
        values: a solution.
        target: where the points end.
        tolerance: of the residual.
        deadline: by `time.monotonic`; what the last of the way to the targets needs is kept back.
        known: `endpoint.linearized(values)`, where it is at hand.

    Returns:
        A solution of no more energy; values themselves, with an infinite residual, where none was found. Steps and
        rejected ones count those of the least squares; late where the deadline came before a minimum.
    """
    first, now, stride = values, values, _STRIDE
    steps = rejected = blown_up = 0
    slowest, late = 0.0, False
    while stride > _SHORTEST:
        begun = time.monotonic()
        # Without the last of the way all would be lost.
        late = begun + _KEPT * slowest > deadline
        if late:
            break
        if known is None:
            known = endpoint.linearized(now)
            assert known is not None
        free = _free(known[1], now)
        if float(free.norm()) <= _SHARE * float(now.norm()):
            break
        moved = now - stride * free
        loose = max(tolerance, _ON_THE_WAY)
        attempt = approach(endpoint, moved, target, tolerance=loose, most=_MOST, deadline=deadline - _KEPT * slowest)
        steps, rejected = steps + attempt.steps, rejected + attempt.rejected
        blown_up += attempt.blown_up
        slowest = max(slowest, (time.monotonic() - begun) / (1 + attempt.steps + attempt.rejected))
        gain = 1 - float(attempt.values.square().sum()) / float(now.square().sum())
        if attempt.residual > loose or gain <= 0:
            stride /= 4
            continue
        now, known, stride = attempt.values, attempt.linearized, min(1.0, 2 * stride)
        if gain < _GAIN:
            break
    last = approach(endpoint, now, target, tolerance=tolerance, most=_MOST, deadline=deadline, known=known)
    steps, rejected, blown_up = steps + last.steps, rejected + last.rejected, blown_up + last.blown_up
    late = late or last.late
    if last.residual > tolerance or float(last.values.norm()) > float(first.norm()):
        return Attempt(first, float("inf"), steps, rejected, blown_up, late=late)
    return Attempt(last.values, last.residual, steps, rejected, blown_up, linearized=last.linearized, late=late)


def _free(jacobian: Tensor, values: Tensor) -> Tensor:
    """The part of the values in the kernel of the Jacobian: what moves no end, to first order."""
    # Rows of Q span what J sees; a pseudo-inverse of J J^T would square its condition.
    q, _ = torch.linalg.qr(jacobian.mT)
    u = values.flatten()
    free: Tensor = u - q @ (q.mT @ u)
    return free.reshape(values.shape)
