"""What a user would write: functions that the table's solvers are given. What fails within is the user's affair."""

from __future__ import annotations

import torch
from torch import Tensor

MATRIX = torch.tensor([[0.2, 0.1], [-0.3, 0.1]], dtype=torch.float64)


def contraction(z: Tensor) -> Tensor:
    """A map with one fixed point, which it comes closer to by a third at least."""
    return torch.tanh(z @ MATRIX.mT) / 2 + 0.25


def scaled(z: Tensor, matrix: Tensor) -> Tensor:
    """As `contraction`, of a matrix that is given."""
    return torch.tanh(z @ matrix.mT) / 2 + 0.25


def layer(x: Tensor, z: Tensor) -> Tensor:
    """Of an equilibrium layer."""
    return torch.tanh(z @ MATRIX.mT + x) / 2


def product(w: Tensor) -> Tensor:
    """J^T w."""
    return w @ MATRIX


def transpose(w: Tensor) -> Tensor:
    """J w."""
    return w @ MATRIX.mT
