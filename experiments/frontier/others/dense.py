"""A dense network of the usual size, trained fully: what 800 times the numbers buy without convolutions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from experiments.frontier.others.base import Body, Config, Seeded


@dataclass(frozen=True)
class DenseConfig(Config):
    """Two hidden layers with ReLU; 602,762 numbers at size 28.

    Attributes:
        hidden: their widths.
    """

    hidden: tuple[int, ...] = (512, 384)

    def build(self) -> Body:
        """Draw the numbers as torch does."""
        layers: list[nn.Module] = [nn.Flatten()]
        with Seeded(self.seed):
            width = self.size**2
            for wider in self.hidden:
                layers += [nn.Linear(width, wider), nn.ReLU()]
                width = wider
            layers.append(nn.Linear(width, 10))
        return Body(self, nn.Sequential(*layers))
