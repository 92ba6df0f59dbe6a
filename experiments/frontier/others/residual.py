"""A residual network with as many numbers as ours, all of them trained: is it the frozen fields, or just the number?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from experiments.frontier.others.base import Body, Config, Seeded


class Residual(nn.Module):
    """x <- x + conv(relu(x)), each image scaled to root mean square 1 after it as ours are."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, channels, height, width) to the same."""
        moved = x + self.conv(torch.relu(x))
        scaled: Tensor = moved * torch.rsqrt(moved.square().mean((1, 2, 3), keepdim=True) + 1e-6)
        return scaled


@dataclass(frozen=True)
class ResidualConfig(Config):
    """Strided convolution, residual steps with pooling between stages, means over the image, a linear readout.

    Attributes:
        channels: of the state. 4 with blocks (2, 1, 1) make 746 numbers.
        blocks: residual steps in each stage.
    """

    channels: int = 4
    blocks: tuple[int, ...] = (2, 1, 1)

    def build(self) -> Body:
        """Draw the numbers as torch does."""
        with Seeded(self.seed):
            layers: list[nn.Module] = [nn.Conv2d(1, self.channels, 5, stride=2, padding=2)]
            for stage, blocks in enumerate(self.blocks):
                if stage:
                    layers.append(nn.AvgPool2d(2))
                layers += [Residual(self.channels) for _ in range(blocks)]
            layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(self.channels, 10)]
        return Body(self, nn.Sequential(*layers))
