"""The explicit five fields that interpolate any number of points, in any dimension from 2 up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.fields.base import Control, Fields, Pullback
from theory import five_diagonal, five_fields

if TYPE_CHECKING:
    from theory import MonomialProgram


class UniversalFields(Fields):
    """V1 = Ax, V2 = Bx, V3 = e_m, V4 = x_m^2 e_1, V5 = x_m x.

    A is an integer traceless diagonal and B the cyclic permutation; their coefficients live in `theory.five_fields`.
    The five generate every polynomial vector field, so they interpolate any N distinct points (Cuchiero, Larsson and
    Teichmann, first theorem). No dense table of coefficients is formed: the cost a row is O(dim).

    Args:
        dim: m >= 2.
        dtype: of the coefficients and states; torch's default dtype where None.

    Raises:
        ValueError: dim 1 (on the line a flow keeps the order of points), or a dtype that rounds the diagonal of A.
    """

    diagonal: Tensor

    def __init__(self, dim: int, *, dtype: torch.dtype | None = None) -> None:
        diagonal = five_diagonal(dim)
        if dtype is not None and not dtype.is_floating_point:
            raise ValueError(f"UniversalFields are real; got dtype={dtype}. Take torch.float64, say.")
        super().__init__(dim, count=5, degree=2)
        self.register_buffer("diagonal", torch.tensor(diagonal, dtype=dtype or torch.get_default_dtype()))
        self._check_rounding()

    def _evaluate(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch count dim"]:
        last = x[:, -1:]
        first, final = self._unit(0), self._unit(-1)
        return torch.stack(
            [self.diagonal * x, x.roll(1, 1), final.expand_as(x), last.square() * first, last * x], dim=1
        )

    def _velocity(self, x: Float[Tensor, "batch dim"], u: Control) -> Float[Tensor, "batch dim"]:
        u1, u2, u3, u4, u5 = u[..., None].unbind(-2)
        last = x[:, -1:]
        scaled = (u1 * self.diagonal + u5 * last) * x
        return scaled + u2 * x.roll(1, 1) + u3 * self._unit(-1) + u4 * last.square() * self._unit(0)

    def _pullback(self, x: Float[Tensor, "batch dim"], u: Control, w: Float[Tensor, "batch dim"]) -> Pullback:
        u1, u2, _, u4, u5 = u[..., None].unbind(-2)
        last, dot = x[:, -1:], (x * w).sum(1, keepdim=True)
        state = (u1 * self.diagonal + u5 * last) * w + u2 * w.roll(-1, 1)
        state = state + (2 * u4 * last * w[:, :1] + u5 * dot) * self._unit(-1)
        control = (self._evaluate(x) @ w[:, :, None])[:, :, 0]
        return Pullback(state, control if u.ndim == 2 else control.sum(0))

    def _divergence(self, x: Float[Tensor, "batch dim"], u: Control) -> Float[Tensor, "batch"]:
        # tr A is 0 unless a cast rounded it; summed as integers, which A's diagonal is, it is never off by rounding.
        return u[..., 0] * self.diagonal.to(torch.int64).sum() + u[..., 4] * (self.dim + 1) * x[:, -1]

    def exact(self) -> MonomialProgram:
        """The same fields with integer coefficients.

        Raises:
            ValueError: the fields were cast to a dtype that rounds the diagonal of A.
        """
        self._check_rounding()
        return five_fields(self.dim)

    def _check_rounding(self) -> None:
        if tuple(self.diagonal.double().tolist()) != five_diagonal(self.dim):
            raise ValueError(
                f"The integers on the diagonal of A, up to {max(five_diagonal(self.dim))} for dim={self.dim}, do not "
                f"fit into {self.dtype}: the five would be other fields. Take dtype=torch.float64."
            )

    def _unit(self, place: int) -> Tensor:
        unit = torch.zeros_like(self.diagonal)
        unit[place] = 1
        return unit
