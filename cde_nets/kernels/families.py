"""Families of fields as the kernels take them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cde_nets.fields import Fields, LinearFields, PolynomialFields, RidgeFields
from cde_nets.kernels.codes import FEATURES, RIDGE


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
        return Packed(FEATURES, list(_tables(fields)), fields.coefficients)
    return None


def _tables(fields: PolynomialFields) -> tuple[Tensor, Tensor]:
    """Of every monomial of degree >= 2: the place of one of a degree less, and the variable, whose product it is."""
    parents, variables, start = [], [], 1
    for r in range(2, fields.degree + 1):
        parent, variable = fields._tables(r)
        parents.append(parent + start)
        variables.append(variable)
        start += fields._tables(r - 1)[0].shape[0]
    none = fields.coefficients.new_empty(0, dtype=torch.int32)
    return torch.cat([none, *parents]).to(torch.int32), torch.cat([none, *variables]).to(torch.int32)
