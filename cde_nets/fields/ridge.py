"""Ridge fields V_i(x) = sigma_i(C_i x + b_i): frozen layers of a neural network with polynomial activations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.fields import draw
from cde_nets.fields.base import Control, Fields, Pullback, _at_least
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
        """
        _at_least("dim", dim, 1)
        _at_least("count", count, 1)
        _at_least("degree", degree, 1)
        rng = draw.generator(seed)
        matrices = rng.standard_normal((count, dim, dim)) / np.sqrt(2 * dim)
        offsets = rng.standard_normal((count, dim)) / np.sqrt(2)
        scale = np.sqrt(draw.double_factorial_moments(degree) * (degree + 1))
        polynomials = rng.standard_normal((count, degree + 1)) / scale
        return cls(*(draw.as_buffer(values, dtype) for values in (matrices, offsets, polynomials)))

    def _velocity(self, x: Float[Tensor, "batch dim"], u: Control) -> Float[Tensor, "batch dim"]:
        return (u[..., None] * self._evaluate(x)).sum(1)

    def _pullback(self, x: Float[Tensor, "batch dim"], u: Control, w: Float[Tensor, "batch dim"]) -> Pullback:
        z = self._preactivations(x)
        s = self.polynomials[:, None, :]
        control = (horner(s, z) @ w[:, :, None])[:, :, 0]
        inner = u[..., None] * w[:, None, :] * horner_derivative(s, z)
        state = inner.flatten(1) @ self.matrices.flatten(0, 1)
        return Pullback(state, control if u.ndim == 2 else control.sum(0))

    def _divergence(self, x: Float[Tensor, "batch dim"], u: Control) -> Float[Tensor, "batch"]:
        # The trace of diag(sigma_i'(z)) C_i meets only the diagonal of C_i.
        slopes = horner_derivative(self.polynomials[:, None, :], self._preactivations(x))
        return (u[..., None] * self.matrices.diagonal(dim1=1, dim2=2) * slopes).sum((1, 2))

    def _evaluate(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch count dim"]:
        return horner(self.polynomials[:, None, :], self._preactivations(x))

    def _preactivations(self, x: Tensor) -> Float[Tensor, "batch count dim"]:
        stacked = torch.addmm(self.offsets.flatten(), x, self.matrices.flatten(0, 1).mT)
        return stacked.reshape(-1, self.count, self.dim)

    def exact(self) -> RidgeProgram:
        """The same fields with exact coefficients."""
        from theory import RidgeProgram

        (c, dtype), (b, _), (s, _) = map(draw.exact_values, (self.matrices, self.offsets, self.polynomials))
        return RidgeProgram(c, b, s, dtype=dtype)
