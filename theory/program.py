"""What every exact description of a family of frozen vector fields offers."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from theory.differential import Differential
from theory.exact import ExactArray, exact_array
from theory.modular import check_modulus
from theory.rings import Rationals, Residues, Ring

if TYPE_CHECKING:
    import sympy


class Program(ABC):
    """Vector fields V_1..V_d on R^m with exact rational coefficients.

    Values are exact: as Fractions, or modulo a prime p. Modulo p every coefficient and every point is replaced by its
    residue; a float is the dyadic rational it is, so only p = 2 can divide its denominator.

    Attributes:
        dim: m, the dimension of the state.
        count: d, the number of fields.
        degree: a bound of the polynomial degree of the fields in x, read off the structure (zero leading
            coefficients count).
        dtype: the name of the floating dtype the coefficients came from ('float32', say), or None. A label and no part
            of the digest: float32 coefficients widened to float64 are the same numbers.
        manifold: "space", or "sphere" where the fields are tangent to the spheres around 0.
        everywhere: False where the program holds in a ball only.
    """

    dim: int
    count: int
    degree: int
    dtype: str | None
    manifold: str = "space"
    everywhere: bool = True

    @abstractmethod
    def values(self, x: Ring) -> Ring:
        """The fields at points with coordinates in any ring: (N, m) to (N, d, m)."""

    @abstractmethod
    def derivative(self, x: Ring, v: Ring) -> Ring:
        """Each field's Jacobian times v, over any ring: x and v (N, m) to (N, d, m)."""

    def jacobian(self, x: Ring) -> Ring:
        """Each field's Jacobian over any ring: (N, m) to (N, d, m, m), the components before the variables."""
        rows, m = x.shape
        units = x.constant(exact_array(np.eye(m, dtype=np.int64)))
        columns = self.derivative(x[np.repeat(np.arange(rows), m)], units[np.tile(np.arange(m), rows)])
        return columns.reshape(rows, m, self.count, m).transpose(0, 2, 3, 1)

    def linearized(self, x: Ring, u: Ring) -> tuple[Ring, Differential[Ring]]:
        """The fields, (N, d, m), and the Jacobian of sum_i u_i V_i, which is far smaller than all of theirs.

        Args:
            x: points, (N, m).
            u: (d,), over power series constants or polynomials in t.
        """
        combined = self.jacobian(x).transpose(0, 2, 3, 1).linear(u[None])
        return self.values(x), Differential.whole(combined[..., 0])

    @abstractmethod
    def to_sympy(self, symbols: Sequence[sympy.Symbol] | None = None) -> list[list[sympy.Expr]]:
        """The fields as SymPy expressions with exact rational coefficients.

        Args:
            symbols: the m coordinates; x_1..x_m by default.

        Returns:
            d lists of m expressions.

        Raises:
            ValueError: there are not m symbols.
        """

    @abstractmethod
    def _content(self) -> list[bytes]:
        """Structure and exact coefficients as canonical byte strings, for the digest."""

    @abstractmethod
    def _structure(self) -> str:
        """A few words for the readable line."""

    def _check_points(self, x: ExactArray, modulus: int | None) -> None:  # noqa: B027  (a hook: most need nothing)
        """Refuse points where the program does not hold; polynomial programs hold everywhere."""

    def evaluate(self, points: npt.ArrayLike | ExactArray, modulus: int | None = None) -> npt.NDArray[Any]:
        """V_i(x_n) for every point and field.

        Args:
            points: (N, m) integers, Fractions or floats (exact dyadic rationals), mixed as you like.
            modulus: a prime below 2**31, or None.

        Returns:
            (N, d, m): Fractions in an object array, or int64 residues in [0, p).

        Raises:
            ValueError: the points have another shape or a NaN or infinite row; the modulus is no prime below 2**31;
                the modulus divides a denominator of a point or a coefficient (take another prime).
            TypeError: the modulus is no integer, or an entry is no number.
        """
        x = self._read(points, "points")
        return self._run(modulus, lambda ring, rows: self.values(ring(x[rows])), x)

    def jacobian_product(
        self, points: npt.ArrayLike | ExactArray, directions: npt.ArrayLike | ExactArray, modulus: int | None = None
    ) -> npt.NDArray[Any]:
        """D V_i(x_n) v_n for every point and field, a direction v_n for each point.

        Args:
            points: (N, m) numbers, as for `evaluate`.
            directions: (N, m) numbers.
            modulus: a prime below 2**31, or None.

        Returns:
            (N, d, m): Fractions in an object array, or int64 residues in [0, p).

        Raises:
            ValueError: as for `evaluate`, or the numbers of points and directions differ.
            TypeError: as for `evaluate`.
        """
        x, v = self._read(points, "points"), self._read(directions, "directions")
        if len(x) != len(v):
            raise ValueError(f"{len(x)} points but {len(v)} directions, expected one direction for each point")
        return self._run(modulus, lambda ring, rows: self.derivative(ring(x[rows]), ring(v[rows])), x)

    def digest(self) -> str:
        """A sha256, in hexadecimal, of the structure and the exact coefficients.

        Equal numbers have equal digests, whatever type and memory layout they came in; changing one coefficient
        changes it.
        """
        return self._digest

    @cached_property
    def _digest(self) -> str:
        sha = hashlib.sha256()
        for part in (type(self).__name__.encode(), *self._content()):
            sha.update(len(part).to_bytes(8, "little"))
            sha.update(part)
        return sha.hexdigest()

    def __str__(self) -> str:
        fields = "1 field" if self.count == 1 else f"{self.count} fields"
        source = "exact" if self.dtype is None else self.dtype
        return (
            f"{type(self).__name__}: {fields} on R^{self.dim} of degree {self.degree}, {self._structure()}, "
            f"{source} coefficients"
        )

    def __repr__(self) -> str:
        return f"<{self}>"

    def _read(self, numbers: npt.ArrayLike | ExactArray, name: str) -> ExactArray:
        x = exact_array(numbers, name)
        if len(x.shape) != 2 or x.shape[1] != self.dim:
            raise ValueError(f"{name} have shape {x.shape}, expected (N, {self.dim}): one point of R^{self.dim} a row")
        return x

    def _run(self, modulus: int | None, compute: Callable[[Any, slice], Any], x: ExactArray) -> npt.NDArray[Any]:
        if modulus is not None:
            p = check_modulus(modulus)
            self._check_points(x, p)
            residues: npt.NDArray[np.int64] = compute(lambda numbers: Residues.of(numbers, p), slice(None)).values
            return residues
        self._check_points(x, None)
        out = np.empty((len(x), self.count, self.dim), dtype=object)
        # Row by row, because a common denominator of all rows would make every integer as long as the worst.
        for n in range(len(x)):
            out[n] = compute(Rationals.of, slice(n, n + 1)).fractions()[0]
        return out

    def _symbols(self, symbols: Sequence[sympy.Symbol] | None) -> Sequence[sympy.Symbol]:
        import sympy

        if symbols is None:
            return list(sympy.symbols(f"x_1:{self.dim + 1}"))
        if len(symbols) != self.dim:
            raise ValueError(f"{len(symbols)} symbols, expected {self.dim}: one for each coordinate of R^{self.dim}")
        return symbols


# Series of powers are made one from the other, to this depth of Python's calls.
MOST_DEGREE = 100


def check_program(base: object, what: str) -> None:
    """Refuse what is no program.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(base, Program):
        raise TypeError(f"{what} is a {type(base).__name__}, expected a theory.Program: fields.exact() makes one")


def check_degree(degree: int, name: str) -> int:
    """The degree, if it is not beyond what is computed with.

    Raises:
        ValueError: it is.
    """
    if degree > MOST_DEGREE:
        raise ValueError(f"{name} have degree {degree}, expected at most {MOST_DEGREE}")
    return degree


def shaped(values: npt.ArrayLike | ExactArray, name: str, shape: tuple[int | None, ...], meaning: str) -> ExactArray:
    """Read exact numbers of a given shape; None stands for any positive length.

    Raises:
        ValueError: the shape is another one; the message shows both and what the axes mean.
    """
    array = exact_array(values, name)
    matches = len(array.shape) == len(shape) and all(
        given == wanted or (wanted is None and given > 0) for given, wanted in zip(array.shape, shape, strict=False)
    )
    if not matches:
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"{name} have shape {array.shape}, expected ({wanted}): {meaning}")
    return array


def float_name(dtype: str | None, *arrays: Any) -> str | None:
    """The dtype label: the one given, else the floating dtype that all floating numpy arrays share, else None."""
    if dtype is not None:
        return dtype
    names = {a.dtype.name for a in arrays if isinstance(a, np.ndarray) and a.dtype.kind == "f"}
    return names.pop() if len(names) == 1 else None


def rationals(numbers: ExactArray) -> npt.NDArray[np.object_]:
    """Exact numbers as an object array of SymPy rationals."""
    import sympy

    fractions: list[Fraction] = numbers.fractions().ravel().tolist()
    out = np.empty(numbers.shape, dtype=object)
    out.ravel()[:] = [sympy.Rational(f.numerator, f.denominator) for f in fractions]
    return out
