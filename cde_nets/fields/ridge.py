"""Ridge fields V_i(x) = sigma_i(C_i x + b_i): frozen layers of a neural network with polynomial activations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.door import holdable
from cde_nets.fields import draw
from cde_nets.fields.base import Control, Fields, Pullback, _at_least
from cde_nets.fields.linearized import Linearized
from cde_nets.fields.scalar import horner, horner_derivative

if TYPE_CHECKING:
    from theory import RidgeProgram


class RidgeFields(Fields):
    """V_i(x) = sigma_i(C_i x + b_i), sigma_i a polynomial applied to each component.

    Seven such fields are generically universal (Cuchiero, Larsson and Teichmann, corollary for neural network type
    fields). They are always stacked: expanding them into monomials would round their coefficients, and then a
    certificate would speak of other numbers than those that run.

    Args:
        matrices: C, shape (count, dim, dim).
        offsets: b, shape (count, dim).
        polynomials: coefficients of sigma_i from degree 0 up, shape (count, degree + 1), degree >= 1.

    Raises:
        ValueError: shapes that do not fit together, degree 0, dtypes that differ, or a number that is not finite.
    """

    matrices: Tensor
    offsets: Tensor
    polynomials: Tensor

    def __init__(
        self,
        matrices: Float[Tensor, "count dim dim"],
        offsets: Float[Tensor, "count dim"],
        polynomials: Float[Tensor, "count terms"],
    ) -> None:
        c = draw.coefficients(matrices, "matrices", (None, None, None))
        count, dim = c.shape[:2]
        c = draw.coefficients(c, "matrices", (count, dim, dim))
        b = draw.coefficients(offsets, "offsets", (count, dim))
        s = draw.coefficients(polynomials, "polynomials", (count, None))
        if len({c.dtype, b.dtype, s.dtype}) > 1:
            raise ValueError(f"matrices, offsets and polynomials differ in dtype: {c.dtype}, {b.dtype}, {s.dtype}.")
        super().__init__(dim, count, s.shape[1] - 1)
        self.register_buffer("matrices", c)
        self.register_buffer("offsets", b)
        self.register_buffer("polynomials", s)

    @classmethod
    def random(
        cls, dim: int, count: int = 7, degree: int = 2, *, seed: int, dtype: torch.dtype | None = None
    ) -> RidgeFields:
        """Draw C, b and every sigma_i; d = 7 is the corollary's case.

        C and b share the variance of C_i x + b_i, which is 1 for x ~ N(0, I); the coefficients of sigma_i are normal
        and scaled so that V_i(x) has variance 1 where C_i x + b_i is standard normal, each power taking an equal part.
        (It is so only given |x|; over x as well the variance is 1 + O(1 / dim).)

        Raises:
            ValueError: dim, count or degree below 1, or more numbers than the memory holds.
        """
        _at_least("dim", dim, 1)
        _at_least("count", count, 1)
        _at_least("degree", degree, 1)
        holdable("a family of ridge fields", count * (dim * dim + dim + degree + 1))
        rng = draw.generator(seed)
        matrices = rng.standard_normal((count, dim, dim)) / np.sqrt(2 * dim)
        offsets = rng.standard_normal((count, dim)) / np.sqrt(2)
        scale = np.sqrt(draw.double_factorial_moments(degree) * (degree + 1))
        polynomials = rng.standard_normal((count, degree + 1)) / scale
        return cls(*(draw.as_buffer(values, dtype) for values in (matrices, offsets, polynomials)))

    # Within, the rows stand last, shape (count, dim, batch): to sum over fields or numbers is to add rows of memory.

    def _velocity(self, x: Float[Tensor, "batch dim"], u: Control) -> Float[Tensor, "batch dim"]:
        values = horner(self._sigma, self._preactivations(x))
        if u.ndim == 1:
            found: Tensor = torch.tensordot(u, values, 1)
            return found.mT.contiguous()
        return (_columns(u)[:, None] * values).sum(0).mT.contiguous()

    def _pullback(self, x: Float[Tensor, "batch dim"], u: Control, w: Float[Tensor, "batch dim"]) -> Pullback:
        z, q = self._preactivations(x), _columns(w)
        control = (horner(self._sigma, z) * q).sum(1)
        state = self._inward(
            horner_derivative(self._sigma, z) * (u[:, None, None] if u.ndim == 1 else _columns(u)[:, None]), q
        )
        return Pullback(state, control.mT if u.ndim == 2 else control.sum(1))

    def _linearize(self, x: Float[Tensor, "batch dim"], u: Float[Tensor, "batch count"]) -> Linearized:
        return _LinearizedRidge(self, x, u)

    def _divergence(self, x: Float[Tensor, "batch dim"], u: Control) -> Float[Tensor, "batch"]:
        # The trace of diag(sigma_i'(z)) C_i meets only the diagonal of C_i.
        slopes = horner_derivative(self._sigma, self._preactivations(x)).permute(2, 0, 1)
        return (u[..., None] * self.matrices.diagonal(dim1=1, dim2=2) * slopes).sum((1, 2))

    def _evaluate(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch count dim"]:
        return horner(self._sigma, self._preactivations(x)).permute(2, 0, 1)

    def _preactivations(self, x: Tensor) -> Float[Tensor, "count dim batch"]:
        stacked = torch.addmm(self.offsets.reshape(-1, 1), self.matrices.flatten(0, 1), x.mT)
        return stacked.reshape(self.count, self.dim, -1)

    def _inward(self, slopes: Float[Tensor, "count dim batch"], q: Float[Tensor, "dim batch"]) -> Tensor:
        """sum_i C_i^T (slopes_i q), shape (batch, dim)."""
        return (self.matrices.flatten(0, 1).mT @ (slopes * q).flatten(0, 1)).mT

    @property
    def _sigma(self) -> Float[Tensor, "count 1 1 terms"]:
        return self.polynomials[:, None, None, :]

    def exact(self) -> RidgeProgram:
        """The same fields with exact coefficients."""
        from theory import RidgeProgram

        (c, dtype), (b, _), (s, _) = map(draw.exact_values, (self.matrices, self.offsets, self.polynomials))
        return RidgeProgram(c, b, s, dtype=dtype)


class _LinearizedRidge(Linearized):
    """The preactivations are computed once."""

    def __init__(self, fields: RidgeFields, x: Tensor, u: Tensor) -> None:
        self._ridge, self._z = fields, fields._preactivations(x)
        self._slopes = horner_derivative(fields._sigma, self._z) * _columns(u)[:, None]

    def pull(self, at: slice, w: Tensor) -> Tensor:
        return self._ridge._inward(self._slopes[:, :, at], _columns(w))

    def moments(self, w: Tensor) -> Tensor:
        return (horner(self._ridge._sigma, self._z) * _columns(w)).sum(1).mT


def _columns(rows: Float[Tensor, "batch n"]) -> Float[Tensor, "n batch"]:
    return rows.mT.contiguous()
