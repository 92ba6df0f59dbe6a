"""Any family made smooth and bounded by a cutoff, as the theorem on bounded domains asks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.fields.base import Control, Fields, Pullback, _real_family
from cde_nets.options import double

if TYPE_CHECKING:
    from theory import RestrictedProgram

# The bump function is 0 or 1 to double precision this close to its ends, and 1/tau^2 is still finite in float16.
_EDGE = 1e-2


class Cutoff(Fields):
    """chi(|x|) V_i with chi smooth, 1 on the ball of `radius` and 0 outside the ball of `outer`.

    chi = 1 / (1 + exp(1/(1 - tau) - 1/tau)), tau = (|x|^2 - radius^2) / (outer^2 - radius^2) in (0, 1). The fields are
    smooth and bounded with compact support: no solution leaves the outer ball in finite time.

    Args:
        base: the family V_1, ..., V_d.
        radius: where the fields begin to be damped, > 0.
        outer: where they have vanished, > radius; 2 * radius where None.

    Raises:
        ValueError: radii that are not 0 < radius < outer < infinity, or a base that is no family of real fields.
    """

    def __init__(self, base: Fields, radius: float, outer: float | None = None) -> None:
        for name, value in (("radius", radius), ("outer", outer)):
            if isinstance(value, Tensor):
                raise ValueError(f"{name} must be a number; got a tensor of shape {tuple(value.shape)}: .item().")
        outer = 2 * radius if outer is None else outer
        if not 0 < radius < outer or not math.isfinite(double(outer)):
            raise ValueError(f"A cutoff needs 0 < radius < outer < infinity; got radius={radius}, outer={outer}.")
        base = _real_family(base, "Cutoff")
        super().__init__(base.dim, base.count, base.degree)
        self.base, self.radius, self.outer = base, float(radius), float(outer)

    def _velocity(self, x: Float[Tensor, "batch dim"], u: Control) -> Float[Tensor, "batch dim"]:
        chi, _, inside = self._chi(x)
        return chi * self.base.velocity(inside, u)

    def _pullback(self, x: Float[Tensor, "batch dim"], u: Control, w: Float[Tensor, "batch dim"]) -> Pullback:
        chi, slope, inside = self._chi(x)
        state, control = self.base.pullback(inside, u, chi * w)
        along = (w * self.base.velocity(inside, u)).sum(1, keepdim=True)
        return Pullback(state + slope * along * inside, control)

    def _divergence(self, x: Float[Tensor, "batch dim"], u: Control) -> Float[Tensor, "batch"]:
        # div(chi V) = chi div V + <grad chi, V>
        chi, slope, inside = self._chi(x)
        along = (inside * self.base.velocity(inside, u)).sum(1)
        return chi[:, 0] * self.base.divergence(inside, u) + slope[:, 0] * along

    def tangent_to(self, manifold: str) -> bool:
        """What the base is tangent to: a factor changes no direction."""
        return self.base.tangent_to(manifold)

    def _evaluate(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch count dim"]:
        chi, _, inside = self._chi(x)
        return chi[:, :, None] * self.base.evaluate(inside)

    def _chi(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """chi, its gradient's factor along x, and x with every row outside the support put inside.

        The base is never evaluated far out: there its values may overflow, and 0 * inf is NaN.
        """
        width = self.outer**2 - self.radius**2
        raw = (x.square().sum(1, keepdim=True) - self.radius**2) / width
        tau = raw.clamp(_EDGE, 1 - _EDGE)
        chi = torch.sigmoid(1 / tau - 1 / (1 - tau))
        slope = -chi * (1 - chi) * (tau.square().reciprocal() + (1 - tau).square().reciprocal()) * (2 / width)
        outside = raw >= 1 - _EDGE
        # Inside, but not at the origin, where a base may be singular, as SphericalFields is.
        harmless = self.radius * torch.eye(1, self.dim, dtype=x.dtype, device=x.device)
        return torch.where(outside, 0.0, chi), torch.where(outside, 0.0, slope), torch.where(outside, harmless, x)

    def exact(self) -> RestrictedProgram:
        """The base's exact program, for points of the inner ball only: there the two families are the same."""
        from theory import RestrictedProgram

        return RestrictedProgram(self.base.exact(), self.radius)

    def _structure(self) -> tuple[object, ...]:
        return (self.radius, self.outer, self.base.digest())

    def extra_repr(self) -> str:
        """Shown by print(fields)."""
        return f"{super().extra_repr()}, radius={self.radius}, outer={self.outer}"
