"""Vectors made orthogonal to others."""

from __future__ import annotations

import torch
from torch import Tensor


def apart(basis: Tensor, x: Tensor, live: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The components of x along an orthonormal basis, and what is left of x, for every row.

    Two passes of classical Gram-Schmidt, which is enough (Giraud, Langou, Rozloznik, "The loss of orthogonality in the
    Gram-Schmidt orthogonalization process", 2005).

    Args:
        basis: shape (rows, vectors, numbers).
        x: shape (rows, numbers).
        live: which vectors are of a row's basis, shape (rows, 1, vectors); all where None.

    Returns:
        Shapes (rows, 1, vectors) and (rows, numbers).
    """
    adjoint, whole = basis.mH, x[:, None]
    first = _live(torch.bmm(whole, adjoint), live)
    rest = torch.baddbmm(whole, first, basis, alpha=-1)
    second = _live(torch.bmm(rest, adjoint), live)
    return first + second, torch.baddbmm(rest, second, basis, alpha=-1)[:, 0]


def _live(along: Tensor, live: Tensor | None) -> Tensor:
    return along if live is None else torch.where(live, along, 0.0)
