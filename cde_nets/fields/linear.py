"""Linear vector fields V_i(x) = A_i x."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.fields import draw
from cde_nets.fields.base import _at_least
from cde_nets.fields.features import FeatureFields

if TYPE_CHECKING:
    from theory import MonomialProgram


class LinearFields(FeatureFields):
    """V_i(x) = A_i x.

    Linear fields can never carry generic points independently of each other (their brackets are linear again); they
    are here for the lectures' examples, for rotations and as the case a certificate must refuse.

    Args:
        matrices: A, shape (count, dim, dim).

    Raises:
        ValueError: matrices of another shape, dtype or not finite.
    """

    def __init__(self, matrices: Float[Tensor, "count dim dim"]) -> None:
        a = draw.coefficients(matrices, "matrices", (None, None, None))
        super().__init__(draw.coefficients(a, "matrices", (None, a.shape[1], a.shape[1])), degree=1)

    @classmethod
    def random(cls, dim: int, count: int, *, seed: int, dtype: torch.dtype | None = None) -> LinearFields:
        """Entries iid N(0, 1 / dim), so that V_i(x) has unit variance for x ~ N(0, I)."""
        shape = (_at_least("count", count, 1), _at_least("dim", dim, 1), dim)
        return cls(draw.as_buffer(draw.generator(seed).standard_normal(shape) / np.sqrt(dim), dtype))

    @property
    def matrices(self) -> Float[Tensor, "count dim dim"]:
        """A, shape (count, dim, dim)."""
        return self.coefficients

    def features(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """X itself."""
        return x

    def features_pullback(
        self, x: Float[Tensor, "batch dim"], g: Float[Tensor, "batch dim"]
    ) -> Float[Tensor, "batch dim"]:
        """G itself."""
        return g

    def exact(self) -> MonomialProgram:
        """The same fields with exact coefficients."""
        from theory import MonomialProgram

        a, dtype = draw.exact_values(self.coefficients)
        return MonomialProgram(np.eye(self.dim, dtype=np.int64), a, dtype=dtype)
