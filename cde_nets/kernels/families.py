"""Families of fields as the kernels take them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from cde_nets.fields import Fields, LinearFields, PolynomialFields, RidgeFields
from cde_nets.kernels.codes import FEATURES, RIDGE
from cde_nets.solver import opaque


class Packed(NamedTuple):
    """A family.

    Attributes:
        family: RIDGE or FEATURES.
        coefficients: what the operator is given.
        shared: A of V_i(x) = A_i phi(x), shape (count, dim, features); None for ridge fields.
    """

    family: int
    coefficients: list[Tensor]
    shared: Tensor | None = None

    @property
    def tensors(self) -> list[Tensor]:
        """All numbers."""
        return self.coefficients if self.shared is None else [*self.coefficients, self.shared]

    def drive(self, u: Tensor) -> Tensor:
        """What drives the kernel, from the control at every stage, shape (steps, stages, count)."""
        if self.shared is None:
            return u
        return (u.flatten(0, 1) @ self.shared.flatten(1)).view(*u.shape[:2], *self.shared.shape[1:])

    def moments(self, found: Tensor) -> Tensor:
        """The transpose of `drive`."""
        return found if self.shared is None else (found.flatten(2) @ self.shared.flatten(1).mT)


def packed(fields: Fields) -> Packed | None:
    """A family for which there is a kernel; None for others. Subclasses may compute something else, and are others."""
    if type(fields) is RidgeFields:
        return Packed(RIDGE, [fields.matrices, fields.offsets, fields.polynomials])
    if type(fields) is LinearFields and not fields.dtype.is_complex:
        return Packed(FEATURES, [], fields.matrices)
    if type(fields) is PolynomialFields:
        coefficients = fields.coefficients
        return (
            _polynomials(fields)
            if opaque.readable(coefficients) and opaque.version(coefficients) >= 0
            else _dense(fields)
        )
    return None


def _polynomials(fields: PolynomialFields) -> Packed:
    """Without the monomials that no field has, where numbers may be read; they are looked up once."""
    coefficients = fields.coefficients
    if not opaque.readable(coefficients) or coefficients.is_inference():
        return _dense(fields)
    known: tuple[int, Packed] | None = _PACKED.get(coefficients)
    if known is None or known[0] != opaque.version(coefficients):
        _PACKED[coefficients] = known = opaque.version(coefficients), _sparse(_dense(fields), fields.dim)
    return known[1]


_PACKED: Any = WeakTensorKeyDictionary()


def _dense(fields: PolynomialFields) -> Packed:
    """With every monomial: of those of degree >= 2 the place of one of a degree less, and the variable times it."""
    parents, variables, start = [], [], 1
    for r in range(2, fields.degree + 1):
        parent, variable = fields._tables(r)
        parents.append(parent + start)
        variables.append(variable)
        start += fields._tables(r - 1)[0].shape[0]
    none = fields.coefficients.new_empty(0, dtype=torch.int32)
    tables = [torch.cat([none, *table]).to(torch.int32) for table in (parents, variables)]
    return Packed(FEATURES, tables, fields.coefficients)


def _sparse(dense: Packed, dim: int) -> Packed:
    """Without monomials of degree >= 2 that neither a field has nor another monomial is made of."""
    shared, (parents, variables) = dense.shared, dense.coefficients
    assert shared is not None
    linear, parent = dim + 1, parents.tolist()
    kept = (shared != 0).any(0).any(0).tolist()
    kept[:linear] = [True] * linear
    for place in range(len(kept) - 1, linear - 1, -1):
        if kept[place]:
            kept[parent[place - linear]] = True
    places = [place for place, wanted in enumerate(kept) if wanted]
    if len(places) == len(kept):
        return dense
    now = {place: k for k, place in enumerate(places)}
    above = [place - linear for place in places[linear:]]
    tables = [parents.new_tensor([now[parent[k]] for k in above]), variables[above]]
    return Packed(FEATURES, tables, shared[:, :, places].contiguous())
