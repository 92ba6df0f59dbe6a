"""A family's velocity at many points, linearized before the cotangents are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Inexact
from torch import Tensor

if TYPE_CHECKING:
    from cde_nets.fields.base import Fields


class Linearized:
    """The transposed derivative of velocity(x, u) at points that each have a control of their own.

    An adjoint pulls some of the points at a time, as their cotangents become known, and asks for all moments in the
    end. This one keeps nothing and takes the family's own pullback; families that evaluate something which both halves
    share have one of their own.

    Args:
        fields: the family.
        x: the points, shape (points, dim).
        u: their controls, shape (points, count).
    """

    def __init__(self, fields: Fields, x: Inexact[Tensor, "points dim"], u: Inexact[Tensor, "points count"]) -> None:
        self._fields, self._x, self._u = fields, x, u

    def pull(self, at: slice, w: Inexact[Tensor, "some dim"]) -> Inexact[Tensor, "some dim"]:
        """w^T D_x velocity(x, u) at some of the points."""
        return self._fields._pullback(self._x[at], self._u[at], w).state

    def moments(self, w: Inexact[Tensor, "points dim"]) -> Inexact[Tensor, "points count"]:
        """<w, V_i(x)> at all points."""
        return self._fields._moments(self._x, self._u, w)
