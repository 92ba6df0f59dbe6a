"""How a network is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from cde_nets.configuration import from_dict, to_dict
from cde_nets.options import finite
from cde_nets.train.moves import Moves

Optimizer = Literal["eigenbasis", "adam"]


@dataclass(frozen=True)
class TrainConfig:
    """Steps under a one-cycle learning rate and momentum, on images moved at random.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step.
        learning_rate: the peak, of the controls.
        readout_rate: the peak of the readout's learning rate over that of the controls.
        optimizer: "eigenbasis", `EigenbasisAdam`, or "adam".
        shift, turn, scale, shear, bend: how far images are moved, see `Moves`.
        smoothing: of the labels: so much of the target is spread over all classes.
        seed: of the order of the images and their moves.

    Raises:
        ValueError: a number out of range.
    """

    epochs: int = 30
    batch_size: int = 200
    learning_rate: float = 0.03
    readout_rate: float = 10.0
    optimizer: Optimizer = "eigenbasis"
    shift: float = 1.0
    turn: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    bend: float = 0.0
    smoothing: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, smallest in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
                raise ValueError(f"{name} must be an integer of at least {smallest}; got {value!r}.")
        for name in ("learning_rate", "readout_rate"):
            value = getattr(self, name)
            if not (finite(value) and value > 0):
                raise ValueError(f"{name} must be finite and positive; got {value!r}.")
        for name, bound in (("shift", math.inf), ("turn", 180), ("scale", 2), ("shear", 2), ("bend", math.inf)):
            value = getattr(self, name)
            if not (finite(value) and 0 <= value <= bound):
                least = "finite and at least 0" if bound == math.inf else f"between 0 and {bound}"
                raise ValueError(f"{name} must be {least}; got {value!r}.")
        smoothing = self.smoothing
        if isinstance(smoothing, bool) or not isinstance(smoothing, int | float) or not 0 <= smoothing < 1:
            raise ValueError(f"smoothing must lie in [0, 1); got {smoothing!r}.")
        if self.optimizer not in get_args(Optimizer):
            raise ValueError(f"optimizer must be one of {', '.join(get_args(Optimizer))}; got {self.optimizer!r}.")

    @property
    def moves(self) -> Moves:
        """How far images are moved."""
        return Moves(self.turn, self.scale, self.shear, self.shift, self.bend)

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
