"""A LeNet moved in a random subspace: what a number trained is worth where nothing but the network is chosen.

Li, Farkhoor, Liu and Yosinski, "Measuring the intrinsic dimension of objective landscapes" (ICLR 2018): theta =
theta_0 + P v, theta_0 the usual initialization, the columns of P random and of unit length, v alone trained from zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from experiments.frontier.others.base import Body, Config, Seeded


class Subspace(nn.Module):
    """A module in whose parameters' space a random subspace through the initialization is trained."""

    def __init__(self, body: nn.Module, count: int, seed: int) -> None:
        super().__init__()
        named = [(name, p.detach().clone()) for name, p in body.named_parameters()]
        self._names = [name for name, _ in named]
        self._shapes = [p.shape for _, p in named]
        # Without its own parameters the module is but a recipe, and not registered.
        self._recipe = [body.to("meta")]
        start = torch.cat([p.flatten() for _, p in named])
        draws = np.random.Generator(np.random.PCG64(seed)).standard_normal((count, len(start)), dtype=np.float32)
        draws /= np.linalg.norm(draws, axis=1, keepdims=True)
        self.register_buffer("start", start)
        self.register_buffer("directions", torch.from_numpy(draws).to(start.dtype))
        self.v = nn.Parameter(torch.zeros(count))

    def forward(self, x: Tensor) -> Tensor:
        """The module's output."""
        numbers = torch.addmv(self.get_buffer("start"), self.get_buffer("directions").mT, self.v)
        parts = numbers.split([shape.numel() for shape in self._shapes])
        given = {name: part.view(shape) for name, part, shape in zip(self._names, parts, self._shapes, strict=True)}
        out: Tensor = functional_call(self._recipe[0], given, x)
        return out


@dataclass(frozen=True)
class SubspaceConfig(Config):
    """LeNet: 6 and 16 kernels of 5 x 5, each followed by max pooling, layers of 120 and 84; 44,426 numbers in all.

    Attributes:
        count: dimensions of the subspace, that is numbers trained.

    Raises:
        ValueError: images too small for two kernels of 5 x 5 with pooling.
    """

    count: int = 745

    def __post_init__(self) -> None:
        if self.size < 16:
            raise ValueError(f"A LeNet wants images of at least 16 x 16; got size {self.size}.")

    def build(self) -> Body:
        """Draw the initialization and the subspace."""
        side = ((self.size - 4) // 2 - 4) // 2
        with Seeded(self.seed):
            lenet = nn.Sequential(
                *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
                *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
                *(nn.Linear(16 * side**2, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
            )
        return Body(self, Subspace(lenet, self.count, self.seed))
