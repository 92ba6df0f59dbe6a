"""All polynomial vector fields of degree <= k, with random coefficients: the family of the main theorem."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from cde_nets.door import holdable
from cde_nets.fields import draw
from cde_nets.fields.base import Control, _at_least
from cde_nets.fields.features import FeatureFields
from theory import monomial_count, monomial_exponents

if TYPE_CHECKING:
    from theory import MonomialProgram

CoefficientMap = Callable[[NDArray[Any]], Any]


class PolynomialFields(FeatureFields):
    """V_i^j(x) = sum_a c[i, j, a] x^a over all monomials a of degree <= k.

    A field has D_k = dim * C(dim + degree, dim) coefficients (Cuchiero, Larsson and Teichmann, "Deep neural networks,
    generic universal interpolation, and controlled ODEs"). Monomials stand in the order of
    `theory.monomial_exponents(dim, degree)`.

    Args:
        coefficients: c, shape (count, dim, C(dim + degree, dim)), finite and floating.
        degree: k >= 1.

    Raises:
        ValueError: degree 0, or coefficients of another shape, dtype or not finite.
    """

    _place: Tensor
    _power: Tensor

    def __init__(self, coefficients: Float[Tensor, "count dim monomials"], degree: int) -> None:
        _at_least("degree", degree, 1)
        c = draw.coefficients(coefficients, "coefficients", (None, None, None))
        exponents = monomial_exponents(c.shape[1], degree)
        c = draw.coefficients(c, f"coefficients of degree {degree}", (None, c.shape[1], len(exponents)))
        super().__init__(c, degree)
        self.exponents = exponents
        # Each monomial of degree r >= 1 is one of degree r - 1 times one variable: features are built degree by degree.
        tables = _products(exponents)
        for r, (parent, variable) in enumerate(tables, start=1):
            self.register_buffer(f"_parent{r}", torch.from_numpy(parent).to(c.device), persistent=False)
            self.register_buffer(f"_variable{r}", torch.from_numpy(variable).to(c.device), persistent=False)
        # For d/dx_j and each monomial b of degree < k: the place of the coefficient of x_j b, and the factor b_j + 1.
        place = _raised(tables, c.shape[1]) + len(exponents) * np.arange(c.shape[1])
        self.register_buffer("_place", torch.from_numpy(place).to(c.device), persistent=False)
        self.register_buffer("_power", torch.from_numpy(exponents[: len(place)] + 1).to(c.device), persistent=False)

    @classmethod
    def random(
        cls,
        dim: int,
        count: int,
        degree: int = 2,
        *,
        seed: int,
        coefficient_map: CoefficientMap | None = None,
        latent: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> PolynomialFields:
        """Draw the coefficients as Q(Z), Z standard normal, which is the theorem's setting.

        Args:
            dim: m.
            count: d.
            degree: k >= 1.
            seed: of Z.
            coefficient_map: Q, from an array of shape (latent,) to one of count * D_k numbers, shaped
                (count, dim, monomials), (count, D_k) or flat. Default: the identity with every monomial scaled so that
                V_i^j(x) has mean 0 and variance 1 over coefficients and x ~ N(0, I), in equal parts of the monomials.
            latent: the dimension l of Z; needed with coefficient_map and only then.
            dtype: of the coefficients; torch's default dtype where None. Draws are made in float64 and rounded once.

        Raises:
            ValueError: degree 0, a latent dimension without a map or the reverse, or a map of another size.
        """
        _at_least("dim", dim, 1)
        _at_least("count", count, 1)
        _at_least("degree", degree, 1)
        if (coefficient_map is None) != (latent is None):
            raise ValueError(
                "coefficient_map and latent go together: Q maps a normal vector of dimension `latent` to the "
                f"coefficients; got coefficient_map={coefficient_map!r}, latent={latent!r}."
            )
        numbers = count * dim * monomial_count(dim, degree)
        holdable(f"{count} fields of degree {degree} on R^{dim}, a family", numbers, "a lower degree, or RidgeFields")
        exponents = monomial_exponents(dim, degree)
        shape = (count, dim, len(exponents))
        rng = draw.generator(seed)
        if coefficient_map is None or latent is None:
            # E[x^(2a)] is a product of double factorials; divided by it, every term has the same variance.
            moments = draw.double_factorial_moments(degree)[exponents].prod(axis=1)
            values = rng.standard_normal(shape) / np.sqrt(moments * len(exponents))
        else:
            values = np.asarray(coefficient_map(rng.standard_normal(_at_least("latent", latent, 1))), dtype=np.float64)
            if values.size != count * dim * len(exponents):
                raise ValueError(
                    f"coefficient_map returned {values.size} numbers (shape {values.shape}); {count} fields of degree "
                    f"{degree} on R^{dim} need {count} x {dim} x {len(exponents)} = {np.prod(shape)}."
                )
        return cls(draw.as_buffer(values.reshape(shape), dtype), degree)

    def features(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch monomials"]:
        """Every monomial of degree <= k at x, shape (batch, monomials)."""
        return torch.cat(self._levels(x, self.degree)).mT

    def features_pullback(
        self, x: Float[Tensor, "batch dim"], g: Float[Tensor, "batch monomials"]
    ) -> Float[Tensor, "batch dim"]:
        """g^T D phi(x), by the features' recursion run backwards."""
        factors: list[tuple[Tensor, Tensor]] = []
        self._levels(x, self.degree, factors)
        return self._below(factors, slice(None), g)

    def _features_linearized(
        self, x: Float[Tensor, "batch dim"]
    ) -> tuple[Float[Tensor, "batch monomials"], Callable[[slice, Tensor], Tensor]]:
        factors: list[tuple[Tensor, Tensor]] = []
        levels = self._levels(x, self.degree, factors)
        return torch.cat(levels).mT, partial(self._below, factors)

    def _below(self, factors: list[tuple[Tensor, Tensor]], at: slice, g: Tensor) -> Tensor:
        """g^T D phi at the rows `at` of those whose factors these are."""
        parts = list(g.mT.split([1, self.dim, *(len(above) for above, _ in factors)]))
        # Nothing but 1 stands above the variables.
        state = torch.zeros_like(parts[1])
        for r in range(self.degree, 1, -1):
            (parent, variable), (above, last) = self._tables(r), factors[r - 2]
            state = state.index_add(0, variable, parts[r] * above[:, at])
            parts[r - 1] = parts[r - 1].index_add(0, parent, parts[r] * last[:, at])
        return state.index_add(0, self._tables(1)[1], parts[1]).mT

    def _divergence(self, x: Float[Tensor, "batch dim"], u: Control) -> Float[Tensor, "batch"]:
        # The coefficient of div V_i at a monomial b of degree < k is sum_j (b_j + 1) c[i, j, b + e_j]. Gathered at
        # every call, for less than sum_i u_i c_i costs, they are those of the fields that run, whatever was loaded.
        coefficients = (self.coefficients.flatten(1)[:, self._place] * self._power).sum(2)
        return (torch.cat(self._levels(x, self.degree - 1)).mT * (u @ coefficients)).sum(1)

    def exact(self) -> MonomialProgram:
        """The same fields with exact coefficients."""
        from theory import MonomialProgram

        c, dtype = draw.exact_values(self.coefficients)
        return MonomialProgram(self.exponents, c, dtype=dtype)

    def _levels(self, x: Tensor, degree: int, factors: list[tuple[Tensor, Tensor]] | None = None) -> list[Tensor]:
        """The monomials of degree 0, 1, .., `degree` as rows: gathering whole rows is what memory is good at.

        The two factors of those of degree 2 and up are added to `factors`.
        """
        columns = x.mT.contiguous()
        levels = [torch.ones_like(columns[:1]), columns]
        for r in range(2, degree + 1):
            parent, variable = self._tables(r)
            pair = levels[-1].index_select(0, parent), columns.index_select(0, variable)
            levels.append(pair[0] * pair[1])
            if factors is not None:
                factors.append(pair)
        return levels[: degree + 1]

    def _tables(self, r: int) -> tuple[Tensor, Tensor]:
        # Not get_buffer, which parses a path: this is asked several times a step.
        parent, variable = self._buffers[f"_parent{r}"], self._buffers[f"_variable{r}"]
        assert parent is not None
        assert variable is not None
        return parent, variable


def _products(exponents: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For r = 1..k: of each monomial of degree r, the place of its parent within degree r - 1, and the variable."""
    degrees = exponents.sum(axis=1)
    tables = []
    below = {exponents[0].tobytes(): 0}
    for r in range(1, int(degrees.max()) + 1):
        level = exponents[degrees == r]
        variable = level.shape[1] - 1 - np.argmax(level[:, ::-1] > 0, axis=1)
        smaller = level.copy()
        smaller[np.arange(len(level)), variable] -= 1
        parent = np.array([below[row.tobytes()] for row in smaller], dtype=np.int64)
        tables.append((parent, variable.astype(np.int64)))
        below = {row.tobytes(): place for place, row in enumerate(level)}
    return tables


def _raised(tables: list[tuple[NDArray[np.int64], NDArray[np.int64]]], dim: int) -> NDArray[np.int64]:
    """Of each monomial of degree < k and each variable, the place of their product among all monomials.

    Args:
        tables: what `_products` gives.
        dim: the number of variables.

    Returns:
        Shape (monomials of degree < k, dim).
    """
    rows: list[NDArray[np.int64]] = []
    for r, (parent, variable) in enumerate(tables):
        size = 1 if r == 0 else len(tables[r - 1][0])
        child = np.full((size, dim), -1, dtype=np.int64)
        child[parent, variable] = np.arange(len(parent))
        if r > 0:
            # A child x_j b is in the tables where x_j is its last variable. Else b = p x_l, l > j: it is (x_j p) x_l.
            smaller, last = tables[r - 1]
            child = np.where(child >= 0, child, child[rows[-1][smaller], last[:, None]])
        rows.append(child)
    offsets = 1 + np.cumsum([0, *(len(parent) for parent, _ in tables[:-1])])
    return np.concatenate([child + offset for child, offset in zip(rows, offsets, strict=True)])
