"""Continuous Hopfield networks, many at once, each with weights of its own."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

import cde_nets as cn

# At rest, and of linear problems, relative: rounding of float32, so that what stops early has arrived.
TIGHT = cn.Tolerance(1e-6, 1e-12)


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
    ones add to them is a constant drive. Of W that leaves U, between free units, used as U + U^T, and the block between
    free and input units. That block and its transpose both stand in W, have the same gradient, and Adam moves them
    alike: here their sum C is one parameter. It is C's rate, not its gradient, that then is twice W's: `groups`. The
    block among the inputs has no influence and is left out.

    Args:
        W: of all units, inputs first, then hidden, then output units, shape (trials, units, units).
        inputs: how many of them are clamped.
        slope: b.
    """

    def __init__(self, W: Tensor, inputs: int, slope: float) -> None:
        super().__init__()
        self.U = nn.Parameter(W[:, inputs:, inputs:].clone())
        self.C = nn.Parameter(W[:, inputs:, :inputs] + W[:, :inputs, inputs:].mT)
        self.inputs, self.slope = inputs, slope

    def groups(self, rate: float) -> list[dict[str, object]]:
        """Parameters with their rates, for an optimiser whose steps do not depend on the gradient's scale."""
        return [{"params": [self.U], "lr": rate}, {"params": [self.C], "lr": 2 * rate}]

    def show(self, images: Tensor) -> Shown:
        """What there is to compute once for images of shape (trials, inputs)."""
        itself = torch.eye(self.U.shape[1], dtype=torch.bool, device=self.U.device)
        weights = (self.U + self.U.mT).masked_fill(itself, 0.0)
        return Shown(weights, times(self.C, torch.sigmoid(self.slope * images)))

    def layer(self, forward: cn.Method, backward: cn.Method | cn.Gradient | None = None) -> cn.EquilibriumLayer:
        """Shown -> the state of the free units at rest, from zero, shape (trials, free).

        Rows that fail are marked, not raised. The layer's map is a function, not this module: all that trains reaches
        it in `Shown`, so that no gradient is asked for a second time.
        """
        return cn.EquilibriumLayer(self.step, forward, backward, initial=_zero, tolerance=TIGHT, throw=False)

    def step(self, shown: Shown, h: Tensor) -> Tensor:
        """The next state of the free units, shape (trials, free)."""
        return shown.drive + times(shown.weights, torch.sigmoid(self.slope * h))

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
