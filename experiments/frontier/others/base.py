"""What the configurations of networks beside ours share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from cde_nets.configuration import from_dict, to_dict
from cde_nets.nn import Deskew, Trainable


@dataclass(frozen=True)
class Config:
    """To be made a dataclass of whatever fixes a network.

    Attributes:
        size: height and width of the images.
        deskew: set the images upright first, as ours are.
        seed: of everything that is drawn.
    """

    size: int = 28
    deskew: bool = False
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return to_dict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The reverse of `to_dict`.

        Raises:
            ValueError: an unknown name, or a value out of range.
        """
        return from_dict(cls, values)


class Body(Trainable):
    """A plain torch network behind the same normalization as ours.

    Args:
        config: what fixes it.
        body: from images, shape (batch, 1, size, size), standardized, to logits.
    """

    def __init__(self, config: Config, body: nn.Module) -> None:
        super().__init__()
        self.upright = Deskew() if config.deskew else nn.Identity()
        self.body = body

    def prepare(self, data: Tensor) -> Tensor:
        """Upright images, if they are to be."""
        prepared: Tensor = self.upright(data)
        return prepared

    def of_prepared(self, data: Tensor) -> Tensor:
        """Logits, shape (batch, 10)."""
        mean, deviation = data.mean((1, 2), keepdim=True), data.std((1, 2), correction=0, keepdim=True)
        logits: Tensor = self.body(((data - mean) / deviation.clamp_min(1e-3))[:, None])
        return logits


class Seeded:
    """A context in which torch's own initializations follow a seed, and leave no trace outside."""

    def __init__(self, seed: int) -> None:
        self._seed, self._fork = seed, torch.random.fork_rng(devices=[])

    def __enter__(self) -> None:
        self._fork.__enter__()
        torch.manual_seed(self._seed)

    def __exit__(self, *error: object) -> None:
        self._fork.__exit__(None, None, None)
