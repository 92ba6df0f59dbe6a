"""Linear vector fields V_i(x) = A_i x."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from jaxtyping import Inexact
from torch import Tensor

from cde_nets.door import holdable
from cde_nets.fields import draw
from cde_nets.fields.base import Control, _at_least
from cde_nets.fields.features import FeatureFields

if TYPE_CHECKING:
    from theory import MonomialProgram


class LinearFields(FeatureFields):
    """V_i(x) = A_i x.

    Linear fields can never carry generic points independently of each other (their brackets are linear again); they
    are here for the lectures' examples, for rotations and as the case a certificate must refuse.

    The matrices may be complex: then states are complex, and controls real (of the same precision) or complex.

    Args:
        matrices: A, shape (count, dim, dim), floating, complex64 or complex128.

    Raises:
        ValueError: matrices of another shape, dtype or not finite.
    """

    takes_complex: ClassVar[bool] = True

    def __init__(self, matrices: Inexact[Tensor, "count dim dim"]) -> None:
        a = draw.coefficients(matrices, "matrices", (None, None, None), or_complex=True)
        super().__init__(draw.coefficients(a, "matrices", (None, a.shape[1], a.shape[1]), or_complex=True), degree=1)

    @classmethod
    def random(cls, dim: int, count: int, *, seed: int, dtype: torch.dtype | None = None) -> LinearFields:
        """Entries iid N(0, 1 / dim), so that V_i(x) has unit variance for x ~ N(0, I).

        Complex entries have independent real and imaginary parts of half that variance each.

        Raises:
            ValueError: dim or count below 1, or more numbers than the memory holds.
        """
        shape, rng = (_at_least("count", count, 1), _at_least("dim", dim, 1), dim), draw.generator(seed)
        holdable("a family of linear fields", math.prod(shape))
        if dtype is not None and dtype.is_complex:
            real, imaginary = rng.standard_normal((2, *shape)) / np.sqrt(2 * dim)
            return cls(draw.as_buffer(real + 1j * imaginary, dtype))
        return cls(draw.as_buffer(rng.standard_normal(shape) / np.sqrt(dim), dtype))

    @property
    def matrices(self) -> Inexact[Tensor, "count dim dim"]:
        """A, shape (count, dim, dim)."""
        return self.coefficients

    def features(self, x: Inexact[Tensor, "batch dim"]) -> Inexact[Tensor, "batch dim"]:
        """X itself."""
        return x

    def features_pullback(
        self, x: Inexact[Tensor, "batch dim"], g: Inexact[Tensor, "batch dim"]
    ) -> Inexact[Tensor, "batch dim"]:
        """G itself."""
        return g

    def tangent_to(self, manifold: str) -> bool:
        """True for "sphere" where every A_i is exactly skew-symmetric (skew-Hermitian): then Re <x, A_i x> = 0."""
        return manifold == "sphere" and torch.equal(self.matrices, -self.matrices.mH)

    def _divergence(self, x: Inexact[Tensor, "batch dim"], u: Control) -> Inexact[Tensor, "batch"]:
        traces = self.matrices.diagonal(dim1=1, dim2=2).sum(1)
        return u.to(traces.dtype).expand(x.shape[0], -1) @ traces

    def exact(self) -> MonomialProgram:
        """The same fields with exact coefficients.

        Raises:
            ValueError: the matrices are complex.
        """
        from theory import MonomialProgram

        a, dtype = draw.exact_values(self.coefficients)
        return MonomialProgram(np.eye(self.dim, dtype=np.int64), a, dtype=dtype)
