"""Manifolds a solution is put back on after every step."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

State = Float[Tensor, "batch dim"]


class Retraction(NamedTuple):
    """A step's end on the manifold.

    Attributes:
        state: shape (batch, dim).
        scale: what the pullback needs besides the states, shape (batch, 1), so that nothing is stepped again.
    """

    state: State
    scale: Float[Tensor, "batch 1"]


@runtime_checkable
class Manifold(Protocol):
    """A retraction: from the step's start x and its end z in R^m to the point of the manifold that stands for z."""

    def retract(self, x: State, z: State) -> Retraction:
        """The next state."""

    def pullback(self, x: State, end: Retraction, p: State) -> tuple[State, State]:
        """The cotangents of x and of z, given p, that of end.state."""


class Sphere:
    """The sphere about the origin through the step's start: y = z |x| / |z|."""

    def retract(self, x: State, z: State) -> Retraction:
        """z, scaled to the norm of x. The sphere through the origin is the origin: such a row stays there."""
        radius, length = _norm(x), _norm(z)
        scale = torch.where(radius > 0, radius / length, 0.0)
        # A length that overflows is a row that diverged; radius / inf would bring it back as zero.
        scale = torch.where(torch.isinf(length), torch.nan, scale)
        return Retraction(z * scale, scale)

    def pullback(self, x: State, end: Retraction, p: State) -> tuple[State, State]:
        """In closed form: to z goes |x|/|z| (p - <p, y> y/|y|^2), to x goes <p, y> x/|x|^2.

        y is parallel to z and as long as x, so that neither z nor the length of x is needed.
        """
        y, scale = end
        length = _norm(y)
        radial = torch.where(length > 0, (p * y).sum(1, keepdim=True) / length.square(), 0.0)
        return x * radial, torch.addcmul(p, y, radial, value=-1) * scale


MANIFOLDS: dict[str, Manifold] = {"sphere": Sphere()}


def manifold(name: str | None) -> Manifold | None:
    """The manifold of that name; None is all of R^m.

    Raises:
        ValueError: no manifold has that name.
    """
    if name is None:
        return None
    if name not in MANIFOLDS:
        raise ValueError(f"Unknown manifold {name!r}; known are {', '.join(MANIFOLDS)}, or None for all of R^m.")
    return MANIFOLDS[name]


def _norm(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return norm
