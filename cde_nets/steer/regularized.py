"""Short controls that come near the targets: Gauss's and Newton's method with a penalty that is let go."""

from __future__ import annotations

import math
import time

import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.steer.damped import Attempt
from cde_nets.steer.endpoint import Endpoint

# The penalty's weight as a share of the mean square of the Jacobian's rows: where it begins and ends, and how it falls.
_FROM, _TO, _FALL = 0.1, 1e-6, 0.5
# Steps shorter than this share of the whole are not tried.
_SHORTEST = 1e-2


def calm(
    endpoint: Endpoint,
    values: Float[Tensor, "steps count"],
    target: Float[Tensor, "points dim"],
    *,
    tolerance: float,
    most: int,
    deadline: float,
) -> Attempt:
    """The iteratively regularised Gauss-Newton method for the shortest u with X_1(u) = target.

    Each step goes towards the minimiser of |r + J du|^2 + mu |u + du|^2, and mu falls from step to step (A.
    Bakushinskii, "The problem of the convergence of the iteratively regularized Gauss-Newton method", 1992). It comes
    near controls of little energy, along which flows are smooth and coarse steps right; the last of the way is left to
    `cde_nets.steer.damped.approach`, as a penalty that is nearly gone slows this method down.

    Args:
        endpoint: the map.
        values: where to start; its flow must not blow up. Where does not matter much, but at zero the Jacobian is poor.
        target: where the points should end.
        tolerance: of the residual.
        most: evaluations.
        deadline: by `time.monotonic`.
    """
    found = endpoint.linearized(values)
    if found is None:
        return Attempt(values, float("inf"), blown_up=1)
    x, jacobian = found
    r = (x - target).flatten()
    scale = float(jacobian.square().sum()) / len(r) or 1.0
    identity = torch.eye(len(r), dtype=r.dtype, device=r.device)
    mu, steps, rejected, blown_up = _FROM * scale, 0, 0, 0
    while (
        math.isfinite(scale)
        and mu > _TO * scale
        and steps + rejected < most
        and float(r.abs().amax()) > tolerance
        and time.monotonic() < deadline
    ):
        u = values.flatten()
        wanted = torch.linalg.solve(jacobian @ jacobian.mT + mu * identity, jacobian @ u - r)
        step = (jacobian.mT @ wanted - u).reshape(values.shape)
        before, share, taken = float(r @ r + mu * (u @ u)), 1.0, False
        while not taken and share > _SHORTEST and steps + rejected < most and time.monotonic() < deadline:
            moved = values + share * step
            again = endpoint.linearized(moved)
            left = None if again is None else (again[0] - target).flatten()
            taken = left is not None and float(left @ left + mu * moved.square().sum()) < before * (1 - 1e-4 * share)
            if again is not None and left is not None and taken:
                values, steps, r, x, jacobian = moved, steps + 1, left, *again
            else:
                share, rejected, blown_up = share / 3, rejected + 1, blown_up + (again is None)
        # Slowly where steps had to be short: a path that is followed closely is not lost.
        mu *= _FALL if share > 0.3 else _FALL**0.25 if taken else 0.3
    return Attempt(values, float(r.abs().amax()), steps, rejected, blown_up, linearized=(x, jacobian))
