"""Fields made tangent to the spheres around the origin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from theory.differential import Differential
from theory.exact import ExactArray, NoResidueError
from theory.program import Program, check_program
from theory.rings import Ring

if TYPE_CHECKING:
    import sympy


class SphericalProgram(Program):
    """W_i(x) = V_i(x) - (<x, V_i(x)> / |x|**2) x for the fields V_i of another program.

    Rational in x, not polynomial, and <x, W_i(x)> = 0, so that the flows keep |x| and cannot blow up. On a sphere the
    rank at N points is at most (m - 1) N.

    Attributes:
        base: the program of the V_i.
        degree: the degree of the base.
        manifold: "sphere".
    """

    manifold = "sphere"

    def __init__(self, base: Program) -> None:
        """Wrap a program.

        Args:
            base: any program.

        Raises:
            ValueError: on the line, where a sphere is two points.
        """
        check_program(base, "base")
        if base.dim < 2:
            raise ValueError(f"the program lives on R^{base.dim}, expected dim >= 2: on a line spheres are points")
        self.base, self.everywhere = base, base.everywhere
        self.dim, self.count, self.degree, self.dtype = base.dim, base.count, base.degree, base.dtype

    def _check_points(self, x: ExactArray, modulus: int | None) -> None:
        self.base._check_points(x, modulus)
        zero = np.flatnonzero(~(x.numerators != 0).any(axis=1))
        if zero.size:
            raise ValueError(f"points: row {zero[0]} is 0, where the projection on the sphere is not defined: drop it")
        if modulus is not None:
            r = x.residues(modulus)
            null = np.flatnonzero((r * r % modulus).sum(axis=1) % modulus == 0)
            if null.size:
                raise NoResidueError(
                    f"points: row {null[0]} has |x|**2 = 0 modulo {modulus}, so that the projection on the sphere has "
                    "no residue: take another prime or another point"
                )

    def values(self, x: Ring) -> Ring:
        """The tangent fields over any ring."""
        return self._tangent(x, self.base.values(x), (x * x).sum().reciprocal()[:, None])

    def _tangent(self, x: Ring, V: Ring, inverse: Ring) -> Ring:
        outer = x[:, None, :]
        radial = (outer * V).once().sum() * inverse
        return V - (radial[:, :, None] * outer).once()

    def derivative(self, x: Ring, v: Ring) -> Ring:
        """The Jacobian products over any ring, by the quotient rule."""
        V, DV = self.base.values(x), self.base.derivative(x, v)
        outer, move = x[:, None, :], v[:, None, :]
        inverse = (x * x).sum().reciprocal()[:, None]
        radial = (outer * V).sum() * inverse
        along = (x * v).sum()[:, None]
        slope = ((move * V).sum() + (outer * DV).sum() - radial * (along + along)) * inverse
        return DV - radial[:, :, None] * move - slope[:, :, None] * outer

    def linearized(self, x: Ring, u: Ring) -> tuple[Ring, Differential[Ring]]:
        """The tangent fields, and the Jacobian of F - r x with F = sum_i u_i V_i and r = <x, F> / |x|**2."""
        V, found = self.base.linearized(x, u)
        inverse = (x * x).sum().reciprocal()[:, None]
        F = V.transpose(0, 2, 1).linear(u[None])[:, :, 0]
        r = ((x * F).sum() * inverse[:, 0])[:, None]
        # -r times the unit matrix, and x times the negative gradient of r.
        negative = ((r + r) * x - F - found.under(x)) * inverse
        tangent = found.shifted((r.zeros() - r)[:, 0])
        return self._tangent(x, V, inverse), Differential(tangent.blocks, (*tangent.pairs, (x, negative)))

    def to_sympy(self, symbols: Sequence[sympy.Symbol] | None = None) -> list[list[sympy.Expr]]:
        """The fields as rational expressions, not simplified."""
        import sympy

        x = self._symbols(symbols)
        square = sympy.Add(*(t**2 for t in x))
        fields = []
        for V in self.base.to_sympy(x):
            radial = sympy.Add(*(t * w for t, w in zip(x, V, strict=True))) / square
            fields.append([w - radial * t for t, w in zip(x, V, strict=True)])
        return fields

    def _content(self) -> list[bytes]:
        return [self.base.digest().encode()]

    def _structure(self) -> str:
        return f"tangent to spheres, of a {type(self.base).__name__} with {self.base._structure()}"
