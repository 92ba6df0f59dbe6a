"""Several families on one space, taken together: the fields of a stage whose steps have fresh ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from theory.differential import Differential
from theory.exact import ExactArray
from theory.program import Program, check_program
from theory.rings import Ring

if TYPE_CHECKING:
    import sympy


class UnionProgram(Program):
    """The fields of several programs, one after the other.

    Attributes:
        parts: the programs.
    """

    def __init__(self, parts: Sequence[Program]) -> None:
        """Join programs.

        Args:
            parts: at least one, on one space and one manifold.

        Raises:
            ValueError: no parts, or parts on different spaces.
        """
        self.parts = tuple(parts)
        for part in self.parts:
            check_program(part, "a part")
        places = {(part.dim, part.manifold) for part in self.parts}
        if len(places) != 1:
            raise ValueError(f"the programs live on {sorted(places)}, expected one space and one manifold for all")
        ((self.dim, self.manifold),) = places
        self.count = sum(part.count for part in self.parts)
        self.everywhere = all(part.everywhere for part in self.parts)
        self.degree = max(part.degree for part in self.parts)
        names = {part.dtype for part in self.parts}
        self.dtype = names.pop() if len(names) == 1 else None

    def _check_points(self, x: ExactArray, modulus: int | None) -> None:
        for part in self.parts:
            part._check_points(x, modulus)

    def values(self, x: Ring) -> Ring:
        """All fields over any ring."""
        first, *others = (part.values(x) for part in self.parts)
        return first.join(others, 1)

    def derivative(self, x: Ring, v: Ring) -> Ring:
        """All Jacobian products over any ring."""
        first, *others = (part.derivative(x, v) for part in self.parts)
        return first.join(others, 1)

    def linearized(self, x: Ring, u: Ring) -> tuple[Ring, Differential[Ring]]:
        """All fields, and the Jacobian of a combination across the parts."""
        values, found = zip(
            *(part.linearized(x, u[first : first + part.count]) for part, first in numbered(self.parts)), strict=True
        )
        return values[0].join(values[1:], 1), Differential.sum(found)

    def to_sympy(self, symbols: Sequence[sympy.Symbol] | None = None) -> list[list[sympy.Expr]]:
        """The fields of all parts."""
        x = self._symbols(symbols)
        return [field for part in self.parts for field in part.to_sympy(x)]

    def _content(self) -> list[bytes]:
        return [part.digest().encode() for part in self.parts]

    def _structure(self) -> str:
        return f"{len(self.parts)} families, first {self.parts[0]._structure()}"


def numbered(parts: Sequence[Program]) -> Iterator[tuple[Program, int]]:
    """Programs, each with the number that its first field has among the fields of all."""
    return zip(parts, itertools.accumulate((part.count for part in parts[:-1]), initial=0), strict=True)
