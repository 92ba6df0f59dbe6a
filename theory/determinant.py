"""The squared determinant of the main theorem, as a number or as a polynomial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from theory.brackets import evaluate_at, lie_algebra

if TYPE_CHECKING:
    import sympy


def gamma(fields: Any, points: Sequence[Sequence[Any]], depth: int, *, symbols: Sequence[sympy.Symbol]) -> Any:
    """Gamma = det(E E^T), E the matrix whose columns are the brackets up to a depth, stacked over the points.

    By Cauchy and Binet it is the sum of the squares of all m N by m N minors of E, so that for real data it is
    positive exactly where those brackets span (R^m)^N, and zero elsewhere: the Gamma_n of C. Cuchiero, M. Larsson and
    J. Teichmann, "Deep neural networks, generic universal interpolation, and controlled ODEs" (2020), for the brackets
    of Lyndon words. Where points or coefficients are symbols it is a polynomial in them, and if that is not the zero
    polynomial it vanishes on a null set only: the theorem's argument. For small cases: brackets are expanded.

    Args:
        fields: d lists of m expressions in the symbols, and others where they have parameters; floats are the dyadic
            rationals they are. Or a family or program of polynomial fields.
        points: N points, m numbers or expressions each.
        depth: of the brackets.
        symbols: the m coordinates.

    Returns:
        A SymPy number, or an expanded polynomial in the other symbols.

    Raises:
        ValueError: as `lie_algebra`; points of another length.
    """
    import sympy
    from sympy.polys.matrices import DomainMatrix

    points = list(points)
    if not points or any(len(x) != len(symbols) for x in points):
        raise ValueError(f"expected points of {len(symbols)} numbers each, and at least one")
    columns = [evaluate_at(bracket, symbols, points) for bracket in lie_algebra(fields, symbols, depth)]
    size = len(points) * len(symbols)
    if len(columns) < size:
        return sympy.Integer(0)
    matrix = sympy.Matrix(columns).T
    square = DomainMatrix.from_Matrix(matrix * matrix.T).to_field()
    return sympy.expand(square.domain.to_sympy(square.charpoly()[-1]) * (-1) ** size)
