"""Fields written down as SymPy expressions: the unicycle, and whatever else has a formula."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.fields.base import Control, Fields, Pullback

if TYPE_CHECKING:
    import sympy

    from theory import MonomialProgram

# SymPy's names of smooth functions, and torch's.
_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "tanh": torch.tanh,
    "asin": torch.asin,
    "acos": torch.acos,
    "atan": torch.atan,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
}


class ExpressionFields(Fields):
    """V_1, .., V_d as d lists of m SymPy expressions in the coordinates.

    Derivatives are SymPy's, and everything is then computed by torch operations in the dtype of the fields. Meant for
    the few small fields of a mechanical system; thousands of monomials are PolynomialFields' affair.

    Args:
        expressions: d lists of m expressions or numbers, made of the symbols, rational numbers, floats, pi, powers and
            sin, cos, tan, sinh, cosh, tanh, asin, acos, atan, exp, log, sqrt.
        symbols: the m coordinates, in order.
        dtype: torch's default dtype where None.

    Attributes:
        expressions: as given, V_i,j as expressions[i][j].
        symbols: the coordinates.
        degree: 0 where the fields are no polynomials.

    Raises:
        ValueError: lists of other lengths, other symbols, functions that are not among these, no real number.
    """

    expressions: tuple[tuple[sympy.Expr, ...], ...]
    symbols: tuple[sympy.Symbol, ...]
    zero: Tensor

    def __init__(
        self, expressions: Sequence[Any], symbols: Sequence[sympy.Symbol], *, dtype: torch.dtype | None = None
    ) -> None:
        read = _read(expressions, tuple(symbols))
        degree = _degree(read, tuple(symbols))
        super().__init__(len(symbols), len(read), degree or 1)
        self.degree = degree
        self.expressions, self.symbols = read, tuple(symbols)
        # It carries dtype and device, and makes constants as long as a batch; no coefficient, so not in a state_dict.
        self.register_buffer("zero", torch.zeros((), dtype=dtype or torch.get_default_dtype()), persistent=False)
        self._compile()

    def _compile(self) -> None:
        import sympy

        x = self.symbols
        values = [component for V in self.expressions for component in V]
        slopes = [component.diff(symbol) for component in values for symbol in x]
        names = [dict(_FUNCTIONS), "math"]
        self._values = sympy.lambdify(x, values, modules=names, cse=True)
        self._slopes = sympy.lambdify(x, slopes, modules=names, cse=True)

    def __getstate__(self) -> dict[str, Any]:
        """Without the compiled functions, which cannot be pickled."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_values", "_slopes")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Compile them again."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._compile()

    def _velocity(self, x: Float[Tensor, "batch dim"], u: Control) -> Float[Tensor, "batch dim"]:
        return (u.expand(len(x), -1)[:, None, :] @ self._evaluate(x))[:, 0]

    def _pullback(self, x: Float[Tensor, "batch dim"], u: Control, w: Float[Tensor, "batch dim"]) -> Pullback:
        # w^T D V_i for each field, (batch, count, dim).
        rows = (w[:, None, None, :] @ self._jacobians(x))[:, :, 0]
        state = (u.expand(len(x), -1)[:, None, :] @ rows)[:, 0]
        return Pullback(state, self._moments(x, u, w))

    def _moments(self, x: Float[Tensor, "batch dim"], u: Control, w: Float[Tensor, "batch dim"]) -> Control:
        control = (self._evaluate(x) @ w[:, :, None])[:, :, 0]
        return control if u.ndim == 2 else control.sum(0)

    def _divergence(self, x: Float[Tensor, "batch dim"], u: Control) -> Float[Tensor, "batch"]:
        traces = self._jacobians(x).diagonal(dim1=2, dim2=3).sum(-1)
        return (u.expand(len(x), -1) * traces).sum(1)

    def _evaluate(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch count dim"]:
        return self._stacked(self._values, x).reshape(len(x), self.count, self.dim)

    def _jacobians(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch count dim dim"]:
        return self._stacked(self._slopes, x).reshape(len(x), self.count, self.dim, self.dim)

    def _stacked(self, function: Callable[..., list[Any]], x: Tensor) -> Tensor:
        zero = self.zero.expand(len(x))
        return torch.stack([zero + value for value in function(*x.unbind(1))], 1)

    def exact(self) -> MonomialProgram:
        """The fields as a program.

        Raises:
            ValueError: they are no polynomials with rational coefficients.
        """
        from theory import MonomialProgram, read_fields

        made = read_fields(self.expressions, self.symbols)
        assert isinstance(made, MonomialProgram)
        return MonomialProgram(made.exponents, made.coefficients, str(self.dtype).removeprefix("torch."))

    def _structure(self) -> tuple[object, ...]:
        import sympy

        formulas = [[sympy.srepr(component) for component in V] for V in self.expressions]
        return ([symbol.name for symbol in self.symbols], formulas)

    def extra_repr(self) -> str:
        """Shown by print(fields)."""
        formulas = ", ".join(f"V{i} = {list(V)}" for i, V in enumerate(self.expressions, start=1))
        return f"{super().extra_repr()}, {formulas}"


def _read(fields: Sequence[Any], x: tuple[sympy.Symbol, ...]) -> tuple[tuple[sympy.Expr, ...], ...]:
    import sympy

    if not x or len(set(x)) < len(x) or any(not isinstance(symbol, sympy.Symbol) for symbol in x):
        raise ValueError(f"symbols are {x}, expected m different SymPy symbols, the coordinates in order.")
    if not fields or any(not isinstance(V, Sequence | sympy.MatrixBase) or len(V) != len(x) for V in fields):
        raise ValueError(f"Expected fields as lists of {len(x)} expressions each, one for each of the symbols {x}.")
    return tuple(
        tuple(_component(entry, x, f"Component {j} of field {i}") for j, entry in enumerate(V, start=1))
        for i, V in enumerate(fields, start=1)
    )


def _component(entry: Any, x: tuple[sympy.Symbol, ...], name: str) -> sympy.Expr:
    import sympy

    try:
        # Strictly: text, on its own or in a list, SymPy would run as Python's code.
        made = sympy.sympify(entry.item() if isinstance(entry, Tensor) else entry, strict=True)
    except (sympy.SympifyError, RuntimeError):
        made = None
    if not isinstance(made, sympy.Expr):
        raise ValueError(f"{name} is {entry!r}, expected a SymPy expression or a number.")
    extra = sorted(map(str, made.free_symbols - set(x)))
    if extra:
        raise ValueError(f"{name}, {made}, has the symbol {extra[0]}: expected only {', '.join(map(str, x))}.")
    if made.has(sympy.I, sympy.oo, -sympy.oo, sympy.zoo, sympy.nan):
        raise ValueError(f"{name} is {made}: expected real and finite numbers in it.")
    for function in sorted(made.atoms(sympy.Function), key=str):
        if type(function).__name__ not in _FUNCTIONS:
            raise ValueError(
                f"{name}, {made}, has the function {type(function).__name__}; expected {', '.join(_FUNCTIONS)}."
            )
    return made


def _degree(fields: tuple[tuple[sympy.Expr, ...], ...], x: tuple[sympy.Symbol, ...]) -> int:
    """The largest total degree, at least 1; 0 where a component is no polynomial."""
    import sympy

    components = [component for V in fields for component in V]
    if not all(component.is_polynomial(*x) for component in components):
        return 0
    degrees = [sympy.Poly(component, *x).total_degree() for component in components if component != 0]
    return max([1, *map(int, degrees)])
