"""Condition 2 of the main theorem: some parameter at which random fields are the explicit ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from theory.certificate import Certificate
from theory.five import five_fields
from theory.reading import symbolic, without_floats
from theory.universality import universal

if TYPE_CHECKING:
    import sympy


# Random parameters that are tried for universality.
_DRAWS = 3
# What parameters that the equations leave free are tried at, numerators and denominators: 1 first, in case they divide.
_FREE = ((1, 1), (0, 1), (-1, 1), (1, 2), (2, 1), (1, 10))


@dataclass(frozen=True)
class Condition:
    """Whether a parametrised family meets condition 2.

    Attributes:
        holds: True where a parameter was found; False where it is proved that none gives the explicit five, these and
            in this order (which alone is no word against the family); None where neither is known.
        parameter: z, by symbol, exact; None where none is known.
        reason: in words: what was found, or why there is none.
        certificate: of universality at z, where that is how it was decided.
    """

    holds: bool | None
    parameter: dict[Any, Any] | None
    reason: str
    certificate: Certificate | None = None

    def __str__(self) -> str:
        said = {True: "Condition 2 holds", False: "The explicit five are not reached", None: "Condition 2: not decided"}
        return f"{said[self.holds]}: {self.reason}."

    def __bool__(self) -> bool:
        return self.holds is True


def condition_two(
    fields: Sequence[Sequence[Any]],
    symbols: Sequence[sympy.Symbol],
    parameters: Sequence[sympy.Symbol],
    *,
    at: Mapping[Any, Any] | None = None,
    seed: int | None = None,
) -> Condition:
    """Whether the coefficients (c_1, .., c_d) = Q(z) of fields can be those of the explicit five, for some z.

    The main theorem draws z from any density and the coefficients as Q(z), with a polynomial map Q. If at one z the
    fields generate all polynomial fields, the squared determinants Gamma (`theory.gamma`), polynomials in z and the
    points, are not zero there, and so almost nowhere: with probability one the fields interpolate at almost all points.
    The theorem's condition is that some z gives the explicit fields. The proof needs no more than that the fields at z
    generate what those do, so that any z with a certificate of universality is as good: the seven ridge fields of the
    corollary have the five among their sums. A z that is given (`at`) is tried so. Without it, Q(z) = the first five is
    solved with the fields of `theory.five_fields`, whose matrices A and B are this package's choice: linear equations
    by elimination, others by Groebner bases, where that is feasible (few parameters of low degree). Where no real
    solution is found, a few random integer z are tried for universality.

    C. Cuchiero, M. Larsson and J. Teichmann, "Deep neural networks, generic universal interpolation, and controlled
    ODEs", SIAM Journal on Mathematics of Data Science 2(3), 2020.

    Args:
        fields: d lists of m expressions, polynomials in the symbols and the parameters.
        symbols: the m >= 2 coordinates.
        parameters: z_1..z_l.
        at: a z to be tried, an integer, Fraction or float (the dyadic rational it is) for each parameter.
        seed: of the primes of the certificate, and of random z.

    Raises:
        ValueError: m < 2; fields that are no polynomials in symbols and parameters, or of other lengths; fewer than
            five fields without `at`; `at` lacks a parameter or names another.

    >>> import sympy
    >>> x, y, z = sympy.symbols("x y z")
    >>> A, B, *others = five_fields(2).to_sympy((x, y))
    >>> print(condition_two([[z**3 * a for a in A], B, *others], (x, y), (z,)))
    Condition 2 holds: the first five fields are the explicit five at z = 1.
    """
    import sympy

    m, x, z = len(symbols), list(symbols), list(parameters)
    if len(set(x)) < m or len(set(z)) < len(z):
        raise ValueError(f"the symbols {x} and the parameters {z} name one twice, expected different ones")
    if set(x) & set(z):
        raise ValueError(
            f"{sorted(map(str, set(x) & set(z)))} are coordinates and parameters, expected one or the other"
        )
    if not isinstance(fields, Sequence) or not fields or any(len(V) != m for V in fields):
        raise ValueError(f"expected fields as lists of {m} expressions, one for each of {x}")
    family = [[_polynomial(c, x, z, f"field {i + 1}") for c in V] for i, V in enumerate(fields)]
    explicit = five_fields(m).to_sympy(x)
    if at is not None:
        return _at(family, explicit, x, z, at, seed)
    if len(family) < len(explicit):
        raise ValueError(f"{len(family)} fields are not five: give a parameter with at= to certify the fields there")
    equations = _differences(family, explicit, x)
    if not equations:
        return Condition(True, dict.fromkeys(z, sympy.Integer(0)), "the first five fields are the explicit five always")
    solved = _solved(equations, z)
    rng = np.random.default_rng(seed)
    for _ in range(_DRAWS if z and not solved.holds else 0):
        tried = _at(family, explicit, x, z, {symbol: int(rng.integers(-9, 10)) for symbol in z}, seed)
        if tried.holds:
            return tried
    return solved


def _polynomial(expression: Any, x: list[Any], z: list[Any], name: str) -> Any:
    import sympy

    found = symbolic(expression, name)
    if not isinstance(found, sympy.Expr):
        raise ValueError(f"{name} has the component {expression!r}, expected an expression or a number")
    found = without_floats(found, name)
    extra = sorted(map(str, found.free_symbols - set(x) - set(z)))
    if extra:
        raise ValueError(f"{name}, {expression}, has the free symbol {extra[0]}: expected only {x} and {z}")
    if not found.is_polynomial(*x, *z):
        raise ValueError(f"{name}, {expression}, is no polynomial in {x} and {z}")
    # Whether an irrational coefficient is zero may be hard to see, and so whether there is a solution.
    if any(not c.is_Rational for c in sympy.Poly(found, *x, *z).coeffs()):
        raise ValueError(f"{name}, {expression}, has irrational coefficients, expected rational numbers")
    return found


def _differences(family: list[list[Any]], explicit: list[list[Any]], x: list[Any]) -> list[Any]:
    """The coefficients, polynomials in the parameters, of what the first fields differ from the explicit ones by."""
    import sympy

    pairs = [pair for V, W in zip(family, explicit, strict=False) for pair in zip(V, W, strict=True)]
    found = [coefficient for c, e in pairs for coefficient in sympy.Poly(c - e, *x).coeffs()]
    return [coefficient for coefficient in found if coefficient != 0]


def _at(
    family: list[list[Any]], explicit: list[list[Any]], x: list[Any], z: list[Any], at: Mapping[Any, Any], seed: Any
) -> Condition:
    import sympy

    if set(at) != set(z):
        raise ValueError(f"at gives {sorted(map(str, at))}, expected a number for each of {sorted(map(str, z))}")
    try:
        fractions = {symbol: Fraction(value) for symbol, value in at.items()}
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"at is {dict(at)}, expected integers, Fractions or finite floats") from None
    values = {symbol: sympy.Rational(f.numerator, f.denominator) for symbol, f in fractions.items()}
    drawn = [[c.xreplace(values) for c in V] for V in family]
    where = ", ".join(f"{symbol} = {values[symbol]}" for symbol in z)
    if len(drawn) >= len(explicit) and not _differences(drawn, explicit, x):
        return _found(values, z)
    certificate = universal(drawn, symbols=x, seed=seed)
    if certificate.proved:
        return Condition(True, values, f"the fields at {where} generate all polynomial fields", certificate)
    return Condition(None, values, f"at {where} the fields were not proved to generate all", certificate)


def _solved(equations: list[Any], z: list[Any]) -> Condition:
    import sympy

    if not z:
        return Condition(False, None, "the fields have no parameters and are not the explicit five")
    basis = sympy.groebner(equations, *z, order="grevlex")
    if basis.exprs == [1]:
        return Condition(False, None, "no parameter, real or complex, makes the first five fields these, in this order")
    if len(z) == 1:
        (polynomial,) = basis.polys
        roots = sympy.real_roots(polynomial)
        if not roots:
            return Condition(False, None, "no real parameter makes the first five fields these, in this order")
        return _found({z[0]: min(roots, key=abs)}, z)
    try:
        solutions = sympy.solve(basis.exprs, z, dict=True)
    except NotImplementedError:
        solutions = []
    for solution in solutions:
        for value in _FREE:
            free = {symbol: sympy.Rational(*value) for symbol in z if symbol not in solution}
            found = {symbol: sympy.simplify(solution.get(symbol, symbol).subs(free)) for symbol in z}
            real = all(number.is_real for number in found.values())
            if real and all(sympy.simplify(e.subs(found)) == 0 for e in equations):
                return _found(found, z)
    return Condition(None, None, "no real solution of the equations was found, and none was excluded")


def _found(parameter: dict[Any, Any], z: list[Any]) -> Condition:
    where = ", ".join(f"{symbol} = {parameter[symbol]}" for symbol in z)
    return Condition(True, parameter, f"the first five fields are the explicit five at {where}")
