"""How a network is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from cde_nets.configuration import from_dict, to_dict


@dataclass(frozen=True)
class TrainConfig:
    """Adam under a one-cycle learning rate and momentum, on images moved at random by up to `shift` pixels.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step.
        learning_rate: the peak, of the controls.
        readout_rate: the peak of the readout's learning rate over that of the controls.
        shift: largest move of an image, in pixels, along either axis.
        seed: of the order of the images and their moves.

    Raises:
        ValueError: a number out of range.
    """

    epochs: int = 15
    batch_size: int = 200
    learning_rate: float = 0.03
    readout_rate: float = 10.0
    shift: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("shift", 0), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}; got {value!r}.")
        for name in ("learning_rate", "readout_rate"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number and math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be finite and positive; got {value!r}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return to_dict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """The reverse of `to_dict`.

        Raises:
            ValueError: an unknown name, or a value out of range.
        """
        return from_dict(cls, values)
