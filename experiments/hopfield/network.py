"""Continuous Hopfield networks, many at once, each with weights of its own."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import cde_nets as cn

# At rest, and of linear problems, relative: rounding of float32, so that what stops early has arrived.
TIGHT = cn.Tolerance(1e-6, 1e-12)
BLOCK = 256


class Shown(NamedTuple):
    """What the networks are shown, as the map of the state sees it: computed once, used at every step.

    Attributes:
        weights: between the free units, symmetric, zero diagonal, shape (trials, free, free).
        drive: what the clamped units add to the free ones, shape (trials, free).
    """

    weights: Tensor
    drive: Tensor


class Hopfield(nn.Module):
    """h <- (W + W^T) sigma(b h) with W's diagonal set to 0 and the input units clamped to an image.

    Hopfield, "Neurons with graded response have collective computational properties like those of two-state neurons",
    1984; with a = 1 in h' = (1 - a) h + (W + W^T) sigma(b h), as in Liao et al., "Reviving and improving recurrent
    back-propagation", 2018. A network has inputs, hidden and as many output units as inputs; its answer is the state h
    of its output units at rest.

    Clamped units do not move, so that the state is hidden and output units only (the free ones), and what the clamped
    ones add to them is a constant drive. Of W, whose entries (i, j) and (j, i) have the same gradient and are moved
    alike by Adam, that leaves two sums as parameters: S = U + U^T of the block U between free units, its diagonal 0,
    and C of the block between free and input units and the transpose of its counterpart. It is their rate, not their
    gradient, that then is twice W's: `groups`. The block among the inputs has no influence and is left out.

    Args:
        W: of all units, inputs first, then hidden, then output units, shape (trials, units, units).
        inputs: how many of them are clamped.
        slope: b.
    """

    def __init__(self, W: Tensor, inputs: int, slope: float) -> None:
        super().__init__()
        U = W[:, inputs:, inputs:]
        self.S = nn.Parameter(U + U.mT)
        with torch.no_grad():
            self.S.diagonal(dim1=1, dim2=2).zero_()
        self.C = nn.Parameter(W[:, inputs:, :inputs] + W[:, :inputs, inputs:].mT)
        self.inputs, self.slope = inputs, slope

    def groups(self, rate: float) -> list[dict[str, object]]:
        """Parameters with their rates, for an optimiser whose steps do not depend on the gradient's scale."""
        return [{"params": [self.S, self.C], "lr": 2 * rate}]

    def show(self, images: Tensor) -> Shown:
        """What there is to compute once for images of shape (trials, inputs)."""
        return Shown(_Symmetric.apply(self.S), times(self.C, torch.sigmoid(self.slope * images)))  # type: ignore[no-untyped-call]

    def layer(self, forward: cn.Method, backward: cn.Method | cn.Gradient | None = None) -> cn.EquilibriumLayer:
        """Shown -> the state of the free units at rest, from zero, shape (trials, free).

        Rows that fail are marked, not raised. The layer's map is a function, not this module: all that trains reaches
        it in `Shown`, so that no gradient is asked for a second time.
        """
        return cn.EquilibriumLayer(self.step, forward, backward, initial=_zero, tolerance=TIGHT, throw=False)

    def step(self, shown: Shown, h: Tensor) -> Tensor:
        """The next state of the free units, shape (trials, free)."""
        # S is its own transpose, and its gradient is laid out as it is.
        return shown.drive + times(shown.weights.mT, torch.sigmoid(self.slope * h))

    def answer(self, h: Tensor) -> Tensor:
        """The output units of a state, shape (trials, inputs)."""
        return h[:, -self.inputs :]


def _zero(shown: Shown) -> Tensor:
    return torch.zeros_like(shown.drive)


def times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """A matrix and a vector a row, shapes (rows, n, m) and (rows, m)."""
    # As a product with a row from the left: on a CPU several times faster than with a column, also its derivative.
    product: Tensor = torch.bmm(vectors[:, None, :], matrices.mT)
    return product[:, 0]


class _Symmetric(torch.autograd.Function):
    """S itself, whose entries (i, j) and (j, i) are one number, and whose diagonal stays 0.

    Written out since S is large: to form it from half of its numbers takes longer than to multiply with it.
    """

    @staticmethod
    def forward(ctx: Any, S: Tensor) -> Tensor:
        return S.view_as(S)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        both = torch.empty_like(g)
        # By blocks that a cache holds with their transposes: on a CPU a third of the time.
        for i in range(0, g.shape[1], BLOCK):
            for j in range(0, i + 1, BLOCK):
                rows, columns = slice(i, i + BLOCK), slice(j, j + BLOCK)
                part = g[:, rows, columns] + g[:, columns, rows].mT
                both[:, rows, columns] = part
                both[:, columns, rows] = part.mT
        both.diagonal(dim1=1, dim2=2).zero_()
        return both
