"""Banach's fixed point theorem as a clock: the factor that was observed, and the steps that it allows to predict."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cde_nets.options import suggesting, within


@suggesting
def contraction_rate(residuals: Tensor) -> Tensor:
    """The largest ratio of a residual to the one before it, a number a row: no smaller q fits what was observed.

    A residual |f(z_k) - z_k| of Picard's iteration is the length |z_{k+1} - z_k| of its next step, so that a map which
    contracts by q has no ratio above q. The converse is no theorem: elsewhere the map may contract less. Residuals as
    small as rounding have ratios of their own; stop above them. Of a damped iteration it is the factor for the damped
    map.

    Args:
        residuals: `trace.residuals` of a solve with Picard() and save_at=SaveAt(steps=True), shape (steps + 1, rows). A
            residual that is repeated to the end is that of a row that had ended.

    Returns:
        Shape (rows,); NaN in rows that took no step, or whose residuals are NaN or infinite.

    Raises:
        ValueError: no such tensor.
    """
    whole = isinstance(residuals, Tensor) and residuals.is_floating_point() and residuals.ndim == 2
    if not whole or not len(residuals):
        tensor = isinstance(residuals, Tensor)
        got = f"{residuals.dtype}, shape {tuple(residuals.shape)}" if tensor else f"a {type(residuals).__name__}"
        raise ValueError(f"residuals must be floating point of shape (steps + 1, rows); got {got}.")
    before, after = residuals[:-1], residuals[1:]
    # A step is a row's own where it or a later one changed anything.
    moved = (before != after).int().flip(0).cumsum(0).flip(0) > 0
    if not len(before):
        return torch.full_like(residuals[0], math.nan)
    largest = torch.where(moved, after / before, -math.inf).amax(0)
    rate: Tensor = torch.where(moved.any(0), largest, math.nan)
    return rate


@suggesting
def banach_steps(q: Tensor | float, first: Tensor | float, tolerance: float) -> Tensor:
    """The least k for which Banach's a-priori bound |z_k - z*| <= q^k / (1 - q) |z_1 - z_0| is within the tolerance.

    Args:
        q: the factor of contraction, from 0.
        first: |z_1 - z_0|, the residual of Picard's iteration at its start.
        tolerance: of |z_k - z*|, above 0.

    Returns:
        Whole numbers in float64, shaped as q and first together; infinity where q is not below 1, and the theorem says
        nothing; NaN where q is negative, or either is NaN.

    Raises:
        ValueError: a tolerance that is not above 0.
    """
    within("tolerance", tolerance, 0.0)
    # The first argument's device, for one may be a number.
    device = next((given.device for given in (q, first) if isinstance(given, Tensor)), None)
    for name, given in (("q", q), ("first", first)):
        if isinstance(given, Tensor) and given.is_complex():
            raise ValueError(f"{name} must be real; got {given.dtype}.")
    rate, step = (torch.as_tensor(given, dtype=torch.float64, device=device).detach() for given in (q, first))
    rate, step = torch.broadcast_tensors(rate, step)

    def bound(k: Tensor) -> Tensor:
        apart: Tensor = rate**k / (1 - rate) * step
        return apart

    k = ((tolerance * (1 - rate) / step).log() / rate.log()).ceil().clamp(min=0)
    # The quotient of logarithms may be off by one by rounding; 0^k is 0 at k = 1, which logarithms do not say.
    k = torch.where((k > 0) & (bound(k - 1) <= tolerance), k - 1, k)
    k = torch.where(bound(k) > tolerance, k + 1, k)
    k = torch.where(rate >= 1, math.inf, k)
    k = torch.where(step == 0, 0.0, k)
    steps: Tensor = torch.where((rate >= 0) & (step >= 0), k, math.nan)
    return steps
