"""The network of an estimator: standardise, lift to a sphere, flow, read out."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cde_nets.nn import ControlledODE, Normalize

# Standardised features are cut off here: far beyond any data, and still harmless when squared in float32.
FAR = 1e12


class SphereNetwork(nn.Module):
    """Features are standardised to z, lifted to a sphere, carried by a flow, and read out linearly with z beside them.

        y = W (sqrt(m) X_1 / |X_1|, z) + b,    X_0 = sqrt(m) s / |s|,    s = (P z, 1, 0, .., 0) in R^m.

    The features are seen on the sphere from its centre; the zeros are room that the flow may use. P is a multiple of
    the identity, or of principal axes where there are more features than m - 1. Points far away come near the equator
    s_1 = 0, and the sphere is compact: whatever comes in, states stay bounded. That steps leave the sphere a little is
    undone before the readout.

    Args:
        mean: of the features, shape (features,).
        scale: of the features, shape (features,).
        axes: P, shape (features, at most m - 1).
        flow: on R^m.
        outputs: rows of W.
    """

    mean: Tensor
    scale: Tensor
    axes: Tensor

    def __init__(self, mean: Tensor, scale: Tensor, axes: Tensor, flow: ControlledODE, outputs: int) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.register_buffer("axes", axes)
        self.flow = flow
        self.normalize = Normalize()
        inputs = flow.dim + len(mean)
        self.weight = nn.Parameter(mean.new_zeros(outputs, inputs))
        self.bias = nn.Parameter(mean.new_zeros(outputs))

    def standardized(self, x: Tensor) -> Tensor:
        """z, shape (batch, features)."""
        # Halved first: the difference of two large numbers may overflow.
        return ((x / 2 - self.mean / 2) / (self.scale / 2)).clamp(-FAR, FAR)

    def lift(self, z: Tensor) -> Tensor:
        """X_0, shape (batch, m)."""
        inside = z @ self.axes
        one = inside.new_ones(len(z), 1)
        room = inside.new_zeros(len(z), self.flow.dim - inside.shape[1] - 1)
        lifted: Tensor = self.normalize(torch.cat([inside, one, room], 1))
        return lifted

    def features(self, start: Tensor, z: Tensor) -> Tensor:
        """What the readout reads, shape (batch, m + features)."""
        return torch.cat([self.normalize(self.flow(start)), z], 1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, features) to (batch, outputs)."""
        z = self.standardized(x)
        return nn.functional.linear(self.features(self.lift(z), z), self.weight, self.bias)

    @torch.no_grad()
    def off_sphere(self, start: Tensor) -> float:
        """The largest | |X_1| / sqrt(m) - 1 |: what the steps add to the ODE, which keeps |X|."""
        norms: Tensor = self.flow(start).norm(dim=1) / math.sqrt(self.flow.dim)
        return float((norms - 1).abs().max())

    @property
    def trained_numbers(self) -> int:
        """How many numbers train, the readout's included."""
        return sum(p.numel() for p in self.parameters())
