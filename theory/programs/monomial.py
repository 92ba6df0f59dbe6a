"""Polynomial fields given by their monomials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from theory.differential import Differential
from theory.exact import ExactArray, exact_array
from theory.modular import IntArray
from theory.program import Program, check_degree, float_name, rationals, shaped
from theory.rings import Ring

if TYPE_CHECKING:
    import sympy


@dataclass(frozen=True)
class _Level:
    """The monomials of one degree g >= 1 that are computed, each as a monomial of degree g - 1 times a variable."""

    parents: IntArray  # positions in the level below; not used at g = 1
    variables: IntArray
    positions: IntArray  # which of this level's monomials the fields use ..
    columns: IntArray  # .. and where their coefficients stand


def _levels(exponents: IntArray) -> list[_Level]:
    """Degree by degree, every monomial that is used or divides, by its last variable, one that is computed."""
    degrees = exponents.sum(axis=1)
    degree = int(degrees.max(initial=0))
    steps, parents = [], []
    above = np.zeros((0, degree + 1), dtype=np.int64)  # words of variables: the monomials one degree up
    for g in range(degree, 0, -1):
        columns = np.flatnonzero(degrees == g)
        rows, variables = np.nonzero(exponents[columns])
        own = np.repeat(variables, exponents[columns][rows, variables]).reshape(len(columns), g)
        words, places = np.unique(np.concatenate([own, above[:, :-1]]), axis=0, return_inverse=True)
        positions, parents_above = np.split(places.reshape(-1), [len(own)])
        steps.append((words[:, -1], positions, columns))
        parents.append(parents_above)
        above = words
    # What is found at degree g are the parents of degree g + 1; the monomials of degree 1 have none.
    parents.append(np.zeros(0, dtype=np.int64))
    return [_Level(p, *step) for p, step in zip(parents[1:], steps, strict=True)][::-1]


class MonomialProgram(Program):
    """V_i^j(x) = sum_a c[i, j, a] x**exponents[a].

    Attributes:
        exponents: int64 (n, m), read-only.
        coefficients: exact (d, m, n).
    """

    def __init__(
        self, exponents: npt.ArrayLike, coefficients: npt.ArrayLike | ExactArray, dtype: str | None = None
    ) -> None:
        """Read the exponents and the coefficients.

        Args:
            exponents: (n, m) non-negative integers, a monomial a row, no row twice.
            coefficients: (d, m, n) floats, integers or Fractions.
            dtype: the name of the floating dtype the coefficients came from; a floating array names its own.

        Raises:
            ValueError: a shape is wrong, an exponent is negative or no integer, a degree is above 100, a monomial
                stands twice, or a coefficient is not finite.
        """
        given = np.asarray(exponents)
        if given.ndim != 2 or 0 in given.shape or given.dtype.kind not in "iu":
            raise ValueError(
                f"exponents have shape {given.shape} and dtype {given.dtype}, expected integers of shape "
                "(monomials, dim), at least (1, 1)"
            )
        if (given < 0).any():
            row = int(np.argwhere(given < 0)[0][0])
            raise ValueError(f"exponents: row {row} is {given[row].tolist()}, expected non-negative integers")
        # One exponent after the other, too: their sum might not fit.
        check_degree(int(given.max()), "exponents")
        check_degree(int(given.sum(axis=1, dtype=np.int64).max()), "exponents")
        self.exponents = np.array(given, dtype=np.int64, order="C")
        self.exponents.setflags(write=False)
        seen: set[bytes] = set()  # a hash of rows; numpy's unique sorts them, which takes seconds at 1e5 rows
        for row in self.exponents:
            if (key := row.tobytes()) in seen:
                raise ValueError(
                    f"the monomial with exponents {row.tolist()} stands twice: add its coefficients into one column"
                )
            seen.add(key)
        n, self.dim = self.exponents.shape
        self.coefficients = shaped(
            coefficients,
            "coefficients",
            (None, self.dim, n),
            "(fields, dim, monomials), with exponents (monomials, dim)",
        )
        self.count = self.coefficients.shape[0]
        self.degree = int(self.exponents.sum(axis=1).max())
        self.dtype = float_name(dtype, coefficients)

    @cached_property
    def _plan(self) -> list[_Level]:
        return _levels(self.exponents)

    @cached_property
    def _slopes(self) -> tuple[IntArray, list[_Level], IntArray]:
        """The monomials of all derivatives, how they are computed, and of which monomial each is one, by variable.

        The last has shape (variables, monomials): where x**(a + e_b) stands among the fields' monomials, or -1.
        """
        rows, variables = np.nonzero(self.exponents)
        lowered = self.exponents[rows]
        lowered[np.arange(len(rows)), variables] -= 1
        exponents, places = np.unique(lowered, axis=0, return_inverse=True)
        sources = np.full((self.dim, len(exponents)), -1)
        sources[variables, places.reshape(-1)] = rows
        return exponents, _levels(exponents), sources

    def values(self, x: Ring) -> Ring:
        """The fields over any ring."""
        coefficients, total = self._start(x)
        for column in np.flatnonzero(~self.exponents.any(axis=1)):
            total = total + coefficients[:, :, column]
        matrix = coefficients.reshape(self.count * self.dim, -1)
        phi = x
        for g, level in enumerate(self._plan):
            letters = x[:, level.variables]
            phi = letters if g == 0 else phi[:, level.parents] * letters
            total = self._add(total, matrix, level, phi)
        return total

    def derivative(self, x: Ring, v: Ring) -> Ring:
        """The Jacobian products over any ring, by the product rule on the same plan."""
        coefficients, total = self._start(x)
        matrix = coefficients.reshape(self.count * self.dim, -1)
        phi, slope = x, v
        for g, level in enumerate(self._plan):
            letters, moves = x[:, level.variables], v[:, level.variables]
            if g == 0:
                phi, slope = letters, moves
            else:
                above = phi[:, level.parents]
                phi, slope = above * letters, slope[:, level.parents] * letters + above * moves
            total = self._add(total, matrix, level, slope)
        return total

    def linearized(self, x: Ring, u: Ring) -> tuple[Ring, Differential[Ring]]:
        """The fields, and the Jacobian of a combination from the monomials' derivatives."""
        exponents, plan, sources = self._slopes
        m = self.dim
        if not len(exponents):
            return self.values(x), Differential.whole(x.gather(np.full((m, m), -1)))
        c = x.constant(self.coefficients).transpose(1, 2, 0).linear(u[None])[..., 0]
        factors = x.constant(exact_array((exponents.T + 1).astype(np.int64)))
        matrix = (c.gather(sources) * factors).reshape(m * m, len(exponents))
        total = x.gather(np.full(m * m, -1))
        for column in np.flatnonzero(~exponents.any(axis=1)):
            total = total + matrix[:, column]
        phi = x
        for g, level in enumerate(plan):
            letters = x[:, level.variables]
            phi = letters if g == 0 else phi[:, level.parents] * letters
            if level.columns.size:
                total = total + phi[:, level.positions].linear(matrix[:, level.columns])
        return self.values(x), Differential.whole(total.reshape(-1, m, m))

    def _start(self, x: Ring) -> tuple[Ring, Ring]:
        return x.constant(self.coefficients), x.gather(np.full((self.count, self.dim), -1))

    def _add(self, total: Ring, matrix: Ring, level: _Level, phi: Ring) -> Ring:
        if not level.columns.size:  # only steps on the way to higher degrees
            return total
        return total + phi[:, level.positions].linear(matrix[:, level.columns]).reshape(-1, self.count, self.dim)

    def to_sympy(self, symbols: Sequence[sympy.Symbol] | None = None) -> list[list[sympy.Expr]]:
        """The fields as sums of monomials."""
        import sympy

        x = self._symbols(symbols)
        monomials = [sympy.Mul(*(s ** int(e) for s, e in zip(x, row, strict=True))) for row in self.exponents]
        return [
            [sympy.Add(*(c * phi for c, phi in zip(row, monomials, strict=True))) for row in field]
            for field in rationals(self.coefficients)
        ]

    def _content(self) -> list[bytes]:
        exponents = self.exponents.astype("<i8").tobytes()
        return [str(self.exponents.shape).encode(), exponents, self.coefficients.canonical_bytes()]

    def _structure(self) -> str:
        n = len(self.exponents)
        return "1 monomial" if n == 1 else f"{n} monomials"
