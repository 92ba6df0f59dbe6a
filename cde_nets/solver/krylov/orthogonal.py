"""Vectors made orthogonal to others."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cde_nets.solver.convergence import norms
from cde_nets.solver.opaque import surely_none

# A pass that leaves no more than this of a vector leaves too much of its rounding.
LEFT = 0.5
# Times the dtype's.
ROUNDING = 10


class Apart(NamedTuple):
    """A vector in parts, for every row.

    Attributes:
        along: its components along the basis, shape (rows, 1, vectors).
        rest: what is left of it, shape (rows, numbers).
        length: |rest|, shape (rows,).
        closed: the rows whose rest is nothing but rounding, shape (rows,); None where it is known that there are none.
    """

    along: Tensor
    rest: Tensor
    length: Tensor
    closed: Tensor | None


def apart(basis: Tensor, x: Tensor, live: Tensor | None = None) -> Apart:
    """X along an orthonormal basis, and what is left of it.

    By classical Gram-Schmidt, twice in rows where the first pass leaves less than half: twice is enough (Daniel, Gragg,
    Kaufman and Stewart, "Reorthogonalization and stable algorithms for updating the Gram-Schmidt QR factorization",
    1976; Giraud, Langou and Rozloznik, 2005).

    Args:
        basis: shape (rows, vectors, numbers).
        x: shape (rows, numbers).
        live: which vectors are of a row's basis, shape (rows, 1, vectors); all where None.
    """
    adjoint, whole = basis.mH, x[:, None]
    along = torch.bmm(whole, adjoint)
    if live is not None:
        along = torch.where(live, along, 0.0)
    rest = torch.baddbmm(whole, along, basis, alpha=-1)
    length, size = norms(rest[:, 0]), norms(x)
    short = length <= LEFT * size
    closed = None
    if not surely_none(short):
        # The others' rest stays as it is, whatever the rows beside them.
        wanted = short[:, None, None] if live is None else live & short[:, None, None]
        more = torch.where(wanted, torch.bmm(rest, adjoint), 0.0)
        along, rest = along + more, torch.baddbmm(rest, more, basis, alpha=-1)
        length = norms(rest[:, 0])
        closed = length <= ROUNDING * torch.finfo(length.dtype).eps * size
    return Apart(along, rest[:, 0], length, closed)
