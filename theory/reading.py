"""Fields in the forms users have them in, as programs."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from theory.program import Program
from theory.programs.monomial import MonomialProgram

if TYPE_CHECKING:
    import sympy


def read_fields(fields: Any, symbols: Sequence[sympy.Symbol] | None = None) -> Program:
    """A family of fields as an exact program.

    Args:
        fields: a program; anything whose exact() gives one (the families of cde_nets); or d lists of m SymPy
            expressions, polynomials in the symbols with rational coefficients (floats are read as the dyadic
            rationals they are).
        symbols: the m coordinates of SymPy expressions, in order.

    Raises:
        ValueError: expressions that are no polynomials in the symbols, or lists of other lengths.
        TypeError: fields of another kind.
    """
    if isinstance(fields, Program):
        return fields
    exact = getattr(fields, "exact", None)
    if callable(exact):
        program = exact()
        if isinstance(program, Program):
            return program
    if isinstance(fields, Sequence) and not isinstance(fields, str):
        return _from_expressions(fields, symbols)
    raise TypeError(
        f"fields are a {type(fields).__name__}, expected a family of cde_nets, a theory.Program, or d lists of m SymPy "
        "expressions with symbols=(..)"
    )


def expressions(fields: Any, symbols: Sequence[sympy.Symbol]) -> Any:
    """Lists of expressions as they are; a family or a program in these symbols."""
    if isinstance(fields, Program) or callable(getattr(fields, "exact", None)):
        return read_fields(fields).to_sympy(symbols)
    return fields


def _from_expressions(fields: Sequence[Any], symbols: Sequence[sympy.Symbol] | None) -> MonomialProgram:
    import sympy

    if symbols is None:
        raise ValueError("fields given as expressions need symbols=(x_1, .., x_m), the coordinates in order")
    x = list(symbols)
    if len(set(x)) < len(x):
        raise ValueError(f"the symbols {x} name a coordinate twice, expected m different ones")
    if not fields or any(not isinstance(V, Sequence | sympy.MatrixBase) or len(V) != len(x) for V in fields):
        raise ValueError(f"expected fields as lists of {len(x)} expressions each, one for each of the symbols {x}")
    terms: list[dict[tuple[int, ...], Fraction]] = []
    for i, V in enumerate(fields):
        for j, component in enumerate(V):
            terms.append(
                _polynomial(
                    symbolic(component, f"component {j + 1} of field {i + 1}"), x, f"component {j + 1} of field {i + 1}"
                )
            )
    exponents = sorted({a for part in terms for a in part} or {(0,) * len(x)}, key=lambda a: (sum(a), [-e for e in a]))
    place = {a: k for k, a in enumerate(exponents)}
    coefficients = np.zeros((len(terms), len(exponents)), dtype=object)
    for row, part in enumerate(terms):
        for a, c in part.items():
            coefficients[row, place[a]] = c
    return MonomialProgram(np.array(exponents), coefficients.reshape(len(fields), len(x), -1))


def _polynomial(expression: sympy.Expr, x: list[sympy.Symbol], name: str) -> dict[tuple[int, ...], Fraction]:
    import sympy

    if expression is None or not isinstance(expression, sympy.Expr):
        raise ValueError(f"{name} is {expression!r}, expected an expression or a number")
    extra = sorted(map(str, expression.free_symbols - set(x)))
    if extra:
        raise ValueError(
            f"{name}, {expression}, has the free symbol {extra[0]}: expected only {', '.join(map(str, x))}"
        )
    if any(power.exp.is_Float and power.exp == int(power.exp) for power in expression.atoms(sympy.Pow)):
        raise ValueError(
            f"{name}, {expression}, has a floating exponent, expected whole numbers: write x**2, not x**2.0"
        )
    try:
        terms = sympy.Poly(without_floats(expression, name), *x).terms()
    except sympy.PolynomialError:
        raise ValueError(
            f"{name}, {expression}, is no polynomial in {', '.join(map(str, x))}: only polynomial fields can be "
            "certified exactly; tanh and its like would need other methods"
        ) from None
    return {tuple(map(int, a)): _fraction(c, name) for a, c in terms if c != 0}


def symbolic(value: Any, name: str) -> Any:
    """An expression or a number as SymPy has it. Text is refused: SymPy would run it as Python's code.

    Raises:
        ValueError: something else, such as text or a truth value.
    """
    import sympy
    from sympy.logic.boolalg import BooleanAtom

    try:
        # A number of torch's is told by what it has, as torch is not imported here.
        read = sympy.sympify(value.item() if hasattr(value, "requires_grad") else value, strict=True)
        # A truth value cannot be reckoned with.
        if isinstance(read, BooleanAtom):
            raise TypeError
        return read
    except (TypeError, sympy.SympifyError, RuntimeError, AttributeError):  # what stands for arrays raises its own
        hint = "; theory.parse_fields reads text" if isinstance(value, str) else ""
        raise ValueError(f"{name} is {value!r}, expected an expression or a number{hint}") from None


def without_floats(expression: sympy.Expr, name: str) -> sympy.Expr:
    """The expression with each Float as the rational it is: beside one SymPy would round all other numbers."""
    import sympy

    return expression.xreplace({value: sympy.Rational(*_ratio(value, name)) for value in expression.atoms(sympy.Float)})


def _ratio(value: sympy.Float, name: str) -> tuple[int, int]:
    """A Float as the fraction of integers that it is, and not its decimals."""
    if not value.is_finite:
        raise ValueError(f"{name} has the coefficient {value}, expected finite numbers")
    sign, mantissa, exponent, _ = value._mpf_
    fraction = Fraction(int(mantissa)) * Fraction(2) ** int(exponent) * (-1 if sign else 1)
    return fraction.numerator, fraction.denominator


def _fraction(c: Any, name: str) -> Fraction:
    import sympy

    if c.is_finite is False or c is sympy.nan:
        raise ValueError(f"{name} has the coefficient {c}, expected finite numbers")
    if not isinstance(c, sympy.Rational):
        raise ValueError(f"{name} has the coefficient {c}, expected rational numbers: irrational ones have no residues")
    return Fraction(int(c.p), int(c.q))


def as_monomials(program: Program) -> MonomialProgram:
    """A polynomial program by its monomials, expanded exactly.

    Raises:
        ValueError: fields that are rational and not polynomial, as those tangent to spheres are.
    """
    if isinstance(program, MonomialProgram):
        return program
    if program.manifold != "space":
        raise ValueError(f"{program} is not polynomial in x: universality is decided for polynomial fields only")
    import sympy

    symbols = list(sympy.symbols(f"x_1:{program.dim + 1}"))
    made = _from_expressions(program.to_sympy(symbols), symbols)
    return MonomialProgram(made.exponents, made.coefficients, program.dtype)
