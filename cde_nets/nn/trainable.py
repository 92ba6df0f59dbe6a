"""What the trainer trains: a module that says what of it is trained, what is frozen, and which rows failed."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from cde_nets.digests import tensor_bytes
from cde_nets.fields.base import Fields
from cde_nets.nn.flow import ControlledODE


class Trainable(nn.Module, ABC):
    """A module from a batch of data to its outputs, whose parameters are all it trains and whose buffers are frozen.

    What is done to the data first, once and for all, is `prepare`; training prepares its data before it moves them.
    """

    def prepare(self, data: Tensor) -> Tensor:
        """A fixed map of the data that changes neither their shape nor their kind; here the identity."""
        return data

    @abstractmethod
    def of_prepared(self, data: Tensor) -> Tensor:
        """The outputs for data that were prepared: `forward` is this after `prepare`."""

    def forward(self, data: Tensor) -> Tensor:
        """The outputs for data as they are."""
        return self.of_prepared(self.prepare(data))

    def flows(self) -> list[ControlledODE]:
        """The flows, in order."""
        return []

    def readout_parameters(self) -> list[nn.Parameter]:
        """Those that turn the last state into outputs: they may be trained at a rate of their own."""
        return []

    def set_throw(self, throw: bool) -> None:
        """Set every flow's `throw`."""
        for flow in self.flows():
            flow.throw = throw

    @property
    def failed(self) -> Tensor:
        """The rows that failed in some flow of the last forward pass, shape (batch,); False without a flow or pass."""
        masks = [flow.failed for flow in self.flows() if flow.failed is not None]
        return torch.stack(masks).any(0) if masks else torch.zeros((), dtype=torch.bool)

    @property
    def trained_numbers(self) -> int:
        """How many numbers train, the readout's included."""
        return sum(p.numel() for p in self.parameters())

    @property
    def frozen_numbers(self) -> int:
        """How many frozen numbers the module stores."""
        trained = {name for name, _ in self.named_parameters()}
        stored = (value for name, value in self.state_dict().items() if name not in trained)
        return sum(value.numel() for value in stored if value.is_floating_point())

    def describe(self) -> str:
        """What is trained and what is frozen, in a line or more."""
        return f"trained numbers {self.trained_numbers:,}, frozen numbers {self.frozen_numbers:,}"

    def frozen_digest(self) -> str:
        """SHA-256 over the exact bytes of everything frozen, as hexadecimal text."""
        seen = hashlib.sha256()
        for name, module in sorted(self.named_modules(), key=lambda item: item[0]):
            if isinstance(module, Fields):
                seen.update(f"{name} {module.digest()}".encode())
        # Tables that are derived from the coefficients are not persistent and not part of what is frozen.
        trained = {name for name, _ in self.named_parameters()}
        for name, value in sorted(self.state_dict().items()):
            if name not in trained:
                seen.update(tensor_bytes(name, value))
        return seen.hexdigest()


@runtime_checkable
class TrainableConfig(Protocol):
    """What draws a `Trainable`: everything that fixes it but its trained numbers."""

    @property
    def seed(self) -> int:
        """Of everything that is drawn."""

    def build(self) -> Trainable:
        """Draw the frozen part and the numbers before training."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainableConfig:
        """The reverse of `to_dict`.

        Raises:
            ValueError: an unknown name, or a value out of range.
        """
