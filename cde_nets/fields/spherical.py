"""Any family made tangent to spheres, so that its flow cannot blow up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.fields.base import Control, Fields, Pullback, _real_family

if TYPE_CHECKING:
    from theory import SphericalProgram


class SphericalFields(Fields):
    """P V_i with P(x) = I - x x^T / |x|^2, the projection on the sphere's tangent space at x.

    |x| is constant along the flow in exact arithmetic; the fields are rational,
    undefined at the origin and taken to be zero there.

    Args:
        base: the family V_1, ..., V_d, dim >= 2.

    Raises:
        ValueError: dim 1, where the tangent space is a point and every projected field vanishes, or a base that is no
            family of real fields.
    """

    def __init__(self, base: Fields) -> None:
        base = _real_family(base, "SphericalFields")
        if base.dim < 2:
            raise ValueError("SphericalFields needs dim >= 2: in dimension 1 every projected field vanishes.")
        super().__init__(base.dim, base.count, base.degree)
        self.base = base

    def _velocity(self, x: Float[Tensor, "batch dim"], u: Control) -> Float[Tensor, "batch dim"]:
        return _project(x, self.base.velocity(x, u))

    def _pullback(self, x: Float[Tensor, "batch dim"], u: Control, w: Float[Tensor, "batch dim"]) -> Pullback:
        v = self.base.velocity(x, u)
        state, control = self.base.pullback(x, u, _project(x, w))
        # What is left is the derivative of P itself: -<w, x>/|x|^2 (v - 2 c x) - c w with c = <x, v>/|x|^2.
        square, elsewhere = _square(x)
        c = (x * v).sum(1, keepdim=True) / square
        radial = (w * x).sum(1, keepdim=True) / square
        return Pullback(torch.where(elsewhere, state - radial * (v - 2 * c * x) - c * w, 0.0), control)

    def _divergence(self, x: Float[Tensor, "batch dim"], u: Control) -> Float[Tensor, "batch"]:
        # div(P V) = div V - (x^T DV x + (m - 1) <x, V>) / |x|^2
        square, elsewhere = _square(x)
        outward = self.base.pullback(x, u, x).state + (self.dim - 1) * self.base.velocity(x, u)
        divergence = self.base.divergence(x, u) - (x * outward).sum(1) / square[:, 0]
        return torch.where(elsewhere[:, 0], divergence, 0.0)

    def tangent_to(self, manifold: str) -> bool:
        """True for "sphere"."""
        return manifold == "sphere"

    def _evaluate(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch count dim"]:
        values = self.base.evaluate(x)
        square, elsewhere = _square(x)
        along = (values @ x[:, :, None]) / square[:, None]
        return torch.where(elsewhere[:, None], values - along * x[:, None, :], 0.0)

    def _structure(self) -> tuple[object, ...]:
        return (self.base.digest(),)

    def extra_repr(self) -> str:
        """Shown by print(fields); the base is shown inside."""
        return f"of {type(self.base).__name__}({self.base.extra_repr()})"

    def exact(self) -> SphericalProgram:
        """The projected family in exact rational form."""
        from theory import SphericalProgram

        return SphericalProgram(self.base.exact())


def _project(x: Tensor, v: Tensor) -> Tensor:
    square, elsewhere = _square(x)
    along = torch.addcmul(v, x, (x * v).sum(1, keepdim=True) / square, value=-1)
    return torch.where(elsewhere, along, 0.0)


def _square(x: Tensor) -> tuple[Tensor, Tensor]:
    """|x|^2, or 1 at the origin, so that autograd meets no 0/0; and whether x is elsewhere. Shapes (batch, 1)."""
    square = x.square().sum(1, keepdim=True)
    # Asked this way round, NaN is elsewhere, and goes on to where it is refused.
    origin = square == 0
    return torch.where(origin, 1.0, square), ~origin
