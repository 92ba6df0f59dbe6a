"""Ridge fields: one affine map and one scalar polynomial for each field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy.typing as npt

from theory.differential import Differential
from theory.exact import ExactArray
from theory.program import Program, check_degree, float_name, rationals, shaped
from theory.rings import Ring, horner, horner_with_derivative

if TYPE_CHECKING:
    import sympy


class RidgeProgram(Program):
    """V_i(x) = sigma_i(C_i x + b_i) component by component, with sigma_i(r) = sum_j s[i, j] r**j.

    Attributes:
        matrices: C, exact (d, m, m).
        offsets: b, exact (d, m).
        polynomials: s, exact (d, k + 1), coefficients from degree 0 up.
    """

    def __init__(
        self,
        matrices: npt.ArrayLike | ExactArray,
        offsets: npt.ArrayLike | ExactArray,
        polynomials: npt.ArrayLike | ExactArray,
        dtype: str | None = None,
    ) -> None:
        """Read the coefficients.

        Args:
            matrices: (d, m, m) floats, integers or Fractions.
            offsets: (d, m).
            polynomials: (d, k + 1).
            dtype: the name of the floating dtype the coefficients came from; floating arrays that agree name their own.

        Raises:
            ValueError: a shape is wrong or a coefficient is not finite.
        """
        self.matrices = shaped(matrices, "matrices", (None, None, None), "(fields, dim, dim)")
        self.count, self.dim = self.matrices.shape[:2]
        shaped(self.matrices, "matrices", (self.count, self.dim, self.dim), "(fields, dim, dim)")
        self.offsets = shaped(offsets, "offsets", (self.count, self.dim), "(fields, dim), one for each row of matrices")
        self.polynomials = shaped(polynomials, "polynomials", (self.count, None), "(fields, degree + 1)")
        self.degree = check_degree(self.polynomials.shape[1] - 1, "polynomials")
        self.dtype = float_name(dtype, matrices, offsets, polynomials)

    def _affine(self, x: Ring, offsets: bool) -> Ring:
        matrix = x.constant(self.matrices).reshape(self.count * self.dim, self.dim)
        z = x.linear(matrix).reshape(-1, self.count, self.dim)
        return z + x.constant(self.offsets) if offsets else z

    def _sigma(self, x: Ring) -> list[Ring]:
        s = x.constant(self.polynomials)
        return [s[:, j, None] for j in range(self.degree + 1)]

    def values(self, x: Ring) -> Ring:
        """The fields over any ring."""
        return horner(self._affine(x, offsets=True), self._sigma(x))

    def derivative(self, x: Ring, v: Ring) -> Ring:
        """sigma_i'(C_i x + b_i) * C_i v over any ring."""
        _, slope = horner_with_derivative(self._affine(x, offsets=True), self._sigma(x))
        return slope * self._affine(v, offsets=False)

    def linearized(self, x: Ring, u: Ring) -> tuple[Ring, Differential[Ring]]:
        """The fields, and the Jacobian of a combination, row by row: never field by field."""
        values, slope = horner_with_derivative(self._affine(x, offsets=True), self._sigma(x))
        weighted, matrices = slope * u[:, None], x.constant(self.matrices)
        rows = [weighted[:, :, a].linear(matrices[:, a].transpose(1, 0))[:, None] for a in range(self.dim)]
        return values, Differential.whole(rows[0].join(rows[1:], 1))

    def to_sympy(self, symbols: Sequence[sympy.Symbol] | None = None) -> list[list[sympy.Expr]]:
        """The fields as polynomials in the affine forms, not expanded."""
        import sympy

        x = self._symbols(symbols)
        C, b, s = rationals(self.matrices), rationals(self.offsets), rationals(self.polynomials)
        fields = []
        for i in range(self.count):
            forms = [sympy.Add(*(c * t for c, t in zip(C[i, j], x, strict=True)), b[i, j]) for j in range(self.dim)]
            fields.append([sympy.Add(*(c * r**k for k, c in enumerate(s[i]))) for r in forms])
        return fields

    def _content(self) -> list[bytes]:
        return [part.canonical_bytes() for part in (self.matrices, self.offsets, self.polynomials)]

    def _structure(self) -> str:
        return "sigma(Cx + b)"
