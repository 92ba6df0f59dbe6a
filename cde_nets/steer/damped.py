"""Damped least squares: controls that bring the ends of flows to targets, from controls nearby."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.steer.endpoint import Endpoint, Linearized

# Steps in a row that bring less than a hundredth, before an attempt is given up.
_PATIENCE = 8


@dataclass(frozen=True)
class Attempt:
    """Where damped least squares ended.

    Attributes:
        values: of the control, shape (M, d).
        residual: the largest entry of |X_1 - target|.
        steps: accepted ones.
        rejected: those that blew up or did not bring the ends nearer.
        blown_up: of these, how many left every bounded set.
        damping: mu at the end, with which to go on; None at the start.
        linearized: the ends of these values, and their Jacobian, where they were computed.
        late: whether it was the deadline that ended it.
    """

    values: Float[Tensor, "steps count"]
    residual: float
    steps: int = 0
    rejected: int = 0
    blown_up: int = 0
    damping: float | None = None
    linearized: Linearized | None = None
    late: bool = False


def approach(
    endpoint: Endpoint,
    values: Float[Tensor, "steps count"],
    target: Float[Tensor, "points dim"],
    *,
    tolerance: float,
    most: int,
    deadline: float,
    damping: float | None = None,
    known: Linearized | None = None,
) -> Attempt:
    """Levenberg and Marquardt's method on X_1(values) = target, for more numbers than outputs.

    Each step is -J^T (J J^T + mu I)^{-1} r, the shortest that does as much; mu follows how well the linear prediction
    held (J. Nocedal and S. Wright, Numerical Optimization, second edition, chapter 10). Steps that blow up are
    rejected, and shorter ones tried.

    Args:
        endpoint: the map.
        values: where to start; its flow must not blow up.
        target: where the points should end.
        tolerance: of the residual.
        most: evaluations; more while each step at least halves what is left.
        deadline: by `time.monotonic`.
        damping: mu to begin with, from an attempt that goes on.
        known: `endpoint.linearized(values)`, where it is at hand.
    """
    found = endpoint.linearized(values) if known is None else known
    if found is None:
        return Attempt(values, float("inf"), blown_up=1)
    x, jacobian = found
    r = (x - target).flatten()
    gram = jacobian @ jacobian.mT
    scale = float(gram.diagonal().mean()) or 1.0
    identity = torch.eye(len(r), dtype=r.dtype, device=r.device)
    mu = 1e-3 * scale if damping is None else damping
    grow, steps, rejected, blown_up, idle = 2.0, 0, 0, 0, 0
    converging = late = False
    # Where J J^T is more than floats hold, no mu will do.
    while (steps + rejected < most or converging) and math.isfinite(scale):
        if float(r.abs().amax()) <= tolerance or idle == _PATIENCE or mu > 1e8 * scale:
            break
        late = time.monotonic() > deadline
        if late:
            break
        converging = False
        factor, failed = torch.linalg.cholesky_ex(gram + mu * identity)
        if int(failed):
            mu *= 10
            continue
        step = -(jacobian.mT @ torch.cholesky_solve(r[:, None], factor))[:, 0]
        before = float(r @ r)
        moved = values + step.reshape(values.shape)
        again = endpoint.linearized(moved)
        left = None if again is None else (again[0] - target).flatten()
        predicted = before - float((r + jacobian @ step).square().sum())
        gain = -1.0 if left is None else (before - float(left @ left)) / max(predicted, 1e-300)
        if again is None or gain < 1e-3:
            rejected, blown_up = rejected + 1, blown_up + (again is None)
            mu, grow = max(mu, 1e-12 * scale) * grow, 2 * grow
            continue
        values, steps, grow = moved, steps + 1, 2.0
        x, jacobian = again
        r, gram = (x - target).flatten(), jacobian @ jacobian.mT
        mu = max(mu * (0.1 if gain > 0.9 else 0.5 if gain > 0.6 else 1.0 if gain > 0.2 else 2.0), 1e-17 * scale)
        converging = float(r @ r) < 0.25 * before
        idle = idle + 1 if float(r @ r) > 0.98 * before else 0
    return Attempt(values, float(r.abs().amax()), steps, rejected, blown_up, mu, (x, jacobian), late)
