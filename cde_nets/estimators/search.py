"""Minimising an objective of a module's parameters by L-BFGS, the same to the bit every time."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor, nn

# Steps and gradients that L-BFGS remembers.
MEMORY = 20
# What a line search is told of a point where the objective is no number.
REFUSED = 1e30


def lbfgs(
    parameters: Iterable[nn.Parameter],
    objective: Callable[[], Tensor],
    *,
    max_iter: int,
    tol: float,
    tell: Callable[[int, float], None],
) -> list[float]:
    """Change the parameters so that the objective is small; the objective after every iteration.

    Args:
        parameters: what to change, in place.
        objective: a scalar with a graph.
        max_iter: iterations at most; a line search seldom needs more than one evaluation.
        tol: stop where an iteration lowers the objective by less than this share of it.
        tell: called after each iteration with its number and the objective.
    """
    changed = list(parameters)
    curve: list[float] = []
    last = np.inf

    def put(values: NDArray[np.float64]) -> None:
        parts = np.split(values, np.cumsum([p.numel() for p in changed])[:-1])
        with torch.no_grad():
            for p, part in zip(changed, parts, strict=True):
                p.copy_(torch.from_numpy(part).reshape(p.shape))

    def evaluate(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        nonlocal last
        put(values)
        found = objective()
        slopes = torch.autograd.grad(found, changed)
        last, gradient = found.item(), torch.cat([slope.flatten() for slope in slopes]).double().numpy()
        if not np.isfinite(last) or not np.isfinite(gradient).all():
            return REFUSED, np.zeros_like(gradient)
        return last, gradient

    def after(intermediate_result: object) -> None:
        curve.append(float(intermediate_result.fun))  # type: ignore[attr-defined]
        tell(len(curve), curve[-1])

    start = torch.cat([p.detach().flatten() for p in changed]).double().numpy()
    found = minimize(
        evaluate,
        start,
        jac=True,
        method="L-BFGS-B",
        callback=after,
        options={"maxiter": max_iter, "maxfun": 20 * max_iter, "maxcor": MEMORY, "ftol": tol, "gtol": 1e-8},
    )
    # The last evaluation may have been a trial of a line search.
    evaluate(found.x)
    return curve or [float(found.fun)]
