"""Least squares by inner products."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cde_nets.solver.krylov.window import Window
from cde_nets.solver.opaque import surely_all

# A vector is dropped where the ridge is more than a quarter of what it adds, squared.
DROP = 2.0


class Gram(NamedTuple):
    """The last vectors of every row, the newest first, and their inner products, in float64.

    There a ridge of 1e-13 and more, relative to the vectors' squares, stands far above rounding.

    Attributes:
        vectors: the columns of Y.
        products: Y^T Y but for the newest's, shape (rows, vectors - 1, vectors - 1).
    """

    vectors: Window
    products: Tensor

    @classmethod
    def empty(cls, like: Tensor, most: int) -> Gram:
        """Before the first vector, as `Window.empty`."""
        return cls(Window.empty(like, most, torch.float64), like.new_empty(like.shape[0], 0, 0, dtype=torch.float64))

    def add(self, newest: Tensor) -> Gram:
        """With one vector more; after `weights`."""
        return Gram(self.vectors.add(newest), self.products)

    def weights(self, target: Tensor, ridge: float) -> tuple[Tensor, Gram]:
        """Gamma that makes |target - Y gamma|^2 + ridge |gamma|^2 least, the columns of Y scaled to norm 1.

        From the first vector on that repeats the newer ones to within 2 sqrt(ridge), all older ones get no weight.

        Returns:
            Gamma, shape (rows, 1, vectors), in float64; and what is to be added to next.
        """
        # Two vectors' products with all a step: those of the newest, and of the target.
        both = torch.bmm(self.vectors.led_by(target), self.vectors.kept.mT)
        right, first = both[:, :1].mT, both[:, 1:]
        if self.products.shape[1]:
            below = torch.cat([first[:, :, 1:].mT, self.products], 2)
            products = torch.cat([first, below], 1)
        else:
            products = first
        # Vectors of 0, of rows that stand still, get the least ridge alone, and no weight.
        added = ridge * products.diagonal(dim1=1, dim2=2) + torch.finfo(products.dtype).tiny
        factor = torch.linalg.cholesky_ex(products + torch.diag_embed(added)).L
        # A vector that adds nothing to the newer ones but the ridge is dropped with all before it; so are those at
        # which the factorisation ended.
        adds = factor.diagonal(dim1=1, dim2=2) > DROP * added.sqrt()
        if not surely_all(adds):
            used = adds.cumprod(1).bool()[:, :, None]
            factor = torch.where(used, factor, torch.eye(factor.shape[1], dtype=factor.dtype, device=factor.device))
            right = torch.where(used, right, 0.0)
        # The oldest makes room for the next.
        kept = products[:, :-1, :-1] if products.shape[1] == self.vectors.most else products
        return torch.cholesky_solve(right, factor).mT, Gram(self.vectors, kept)
