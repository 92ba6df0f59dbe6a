"""The lecture's own set-up: images as vectors, frozen dense tanh fields, a trained linear readout."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.frontier.others.base import Body, Config, Seeded


class DenseFlow(nn.Module):
    """Euler steps of dX = sum_i u_i tanh(A_i X + b_i) dt over [0, 1]; A and b are frozen, u is trained."""

    def __init__(self, dim: int, count: int, steps: int, seed: int) -> None:
        super().__init__()
        rng = np.random.Generator(np.random.PCG64(seed))
        kernels = rng.standard_normal((count, dim, dim)) / dim**0.5
        for name, value in (("kernels", kernels), ("offsets", rng.standard_normal((count, dim)))):
            self.register_buffer(name, torch.from_numpy(value).to(torch.get_default_dtype()))
        self.u = nn.Parameter(torch.from_numpy(rng.standard_normal((steps, count))).to(torch.get_default_dtype()))

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, dim) to the same."""
        kernels, offsets = self.get_buffer("kernels"), self.get_buffer("offsets")
        count, dim = offsets.shape
        for u in self.u:
            inner = functional.linear(x, kernels.reshape(count * dim, dim), offsets.flatten())
            x = x + torch.einsum("d,bdm->bm", u, inner.tanh().view(-1, count, dim)) / len(self.u)
        return x


@dataclass(frozen=True)
class LectureConfig(Config):
    """Images halved by averaging, as vectors of R^196; 100 controls and 1,970 numbers of the readout.

    Attributes:
        count: fields.
        steps: of Euler, each with its own controls.
    """

    count: int = 10
    steps: int = 10

    def build(self) -> Body:
        """Draw the fields, the controls and the readout."""
        dim = (self.size // 2) ** 2
        flow = DenseFlow(dim, self.count, self.steps, self.seed)
        with Seeded(self.seed):
            readout = nn.Linear(dim, 10)
        return Body(self, nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), flow, readout))
