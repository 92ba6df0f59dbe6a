"""Fields known exactly in a ball only."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from theory.differential import Differential
from theory.exact import ExactArray, exact_array
from theory.program import Program, check_program
from theory.rings import Rationals, Ring

if TYPE_CHECKING:
    import sympy


class RestrictedProgram(Program):
    """The fields of another program, claimed for |x| <= radius alone.

    The exact view of fields made bounded by a smooth cutoff that is 1 in the ball: there they are the base's fields,
    and as brackets are local, what is proved at points of the ball is what is proved for the base. Outside the cutoff
    is no polynomial, so points there are refused. The comparison is exact.

    Attributes:
        base: the program that holds in the ball.
        radius: a positive Fraction.
        everywhere: False.
    """

    everywhere = False

    def __init__(self, base: Program, radius: Any) -> None:
        """Wrap a program.

        Args:
            base: any program.
            radius: a positive integer, Fraction or float (the dyadic rational it is).

        Raises:
            ValueError: the radius is not positive and finite.
            TypeError: the radius is no number.
        """
        check_program(base, "base")
        self.radius: Fraction = exact_array(radius, "radius").fractions().item()
        if self.radius <= 0:
            raise ValueError(f"radius is {radius}, expected a positive number")
        self.base = base
        self.manifold = base.manifold
        self.dim, self.count, self.degree, self.dtype = base.dim, base.count, base.degree, base.dtype

    def _check_points(self, x: ExactArray, modulus: int | None) -> None:
        self.base._check_points(x, modulus)
        limit = self.radius**2
        for n in range(len(x)):
            row = Rationals.of(x[n])
            square = Fraction(int(np.sum(row.numerators * row.numerators)), row.denominator**2)
            if square > limit:
                raise ValueError(
                    f"points: row {n} has |x| = {_short(square, root=True)}, outside the ball |x| <= "
                    f"{_short(self.radius)} (compared exactly) where these fields are the base's: move the point "
                    "inside, or certify the fields without the cutoff"
                )

    def values(self, x: Ring) -> Ring:
        """The base's fields over any ring; the points are not checked here."""
        return self.base.values(x)

    def derivative(self, x: Ring, v: Ring) -> Ring:
        """The base's Jacobian products over any ring; the points are not checked here."""
        return self.base.derivative(x, v)

    def linearized(self, x: Ring, u: Ring) -> tuple[Ring, Differential[Ring]]:
        """The base's over any ring; the points are not checked here."""
        return self.base.linearized(x, u)

    def to_sympy(self, symbols: Sequence[sympy.Symbol] | None = None) -> list[list[sympy.Expr]]:
        """The base's expressions, true in the ball."""
        return self.base.to_sympy(symbols)

    def _content(self) -> list[bytes]:
        return [self.base.digest().encode(), str(self.radius).encode()]

    def _structure(self) -> str:
        return f"for |x| <= {_short(self.radius)}, of a {type(self.base).__name__} with {self.base._structure()}"


def _short(value: Fraction, root: bool = False) -> str:
    # Decimals on the way, because squares of large floats overflow a float.
    decimal = Decimal(value.numerator) / Decimal(value.denominator)
    return f"{float(decimal.sqrt() if root else decimal):.6g}"
