"""Scalar polynomials sigma(r) = sum_j s_j r^j applied entry by entry, and their derivatives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def horner(s: Float[Tensor, "*rows terms"], r: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """sigma(r) by Horner's rule; s has its coefficients on the last axis and broadcasts against r before it."""
    value = s[..., -1].expand_as(r)
    for j in range(s.shape[-1] - 2, -1, -1):
        value = torch.addcmul(s[..., j], value, r)
    return value


def horner_derivative(s: Float[Tensor, "*rows terms"], r: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """sigma'(r), as `horner`."""
    degrees = torch.arange(1, s.shape[-1], dtype=s.dtype, device=s.device)
    return horner(s[..., 1:] * degrees, r)


def shared(s: Sequence[float], r: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """sigma(r) for one polynomial whose coefficients are known on the host.

    Time goes into passes over r, so coefficients 0 and 1 cost none: r + r^2/2 is a single pass.
    """
    head = r if s[1] == 1 else s[1] * r
    head = head if s[0] == 0 else head + s[0]
    return _add_tail(head, r, r, s[2:])


def shared_pullback(
    s: Sequence[float], r: Float[Tensor, "*shape"], g: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """G sigma'(r) for one polynomial whose coefficients are known on the host."""
    slope = [j * value for j, value in enumerate(s)][1:]
    return _add_tail(g if slope[0] == 1 else slope[0] * g, g, r, slope[1:])


def _add_tail(head: Tensor, factor: Tensor, r: Tensor, s: Sequence[float]) -> Tensor:
    """Head + factor r (s_0 + s_1 r + ..), the bracket by Horner's rule."""
    if not s:
        return head
    if len(s) == 1:
        return torch.addcmul(head, factor, r, value=s[0])
    bracket = torch.full_like(r, s[-1])
    for value in reversed(s[:-1]):
        bracket = bracket * r + value
    return torch.addcmul(head, factor * r, bracket)
