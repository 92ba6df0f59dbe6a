"""Our network written with plain torch and autograd, so that parts of it can be exchanged for others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from cde_nets.controls import Control, SpectralControl
from cde_nets.fields import ConvFields
from cde_nets.nn import ImageNetworkConfig, Network, Trainable
from experiments.frontier.others.base import Config

Activation = Literal["polynomial", "relu", "tanh"]
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "polynomial": lambda x: x + x.square() / 2,
    "relu": torch.relu,
    "tanh": torch.tanh,
}


@dataclass(frozen=True)
class VariantConfig(Config):
    """What is not our network's default. As it stands it is our network, to rounding.

    Attributes:
        intervals: Euler steps of each stage, each along a family of its own.
        count: fields a family.
        activation: what stands in the place of x + x^2/2: nothing, or max(x, 0), or tanh.
        sphere: whether the state returns to its sphere after every step.
        terms: None for controls constant on each interval; else how many cosines each stage's control is made of,
            read at the middle of each interval: then steps cost no numbers.

    Raises:
        ValueError: an unknown activation, or fewer than one term.
    """

    intervals: tuple[int, ...] = (2, 2, 2)
    count: int = 124
    activation: Activation = "polynomial"
    sphere: bool = True
    terms: int | None = None

    def __post_init__(self) -> None:
        if self.activation not in get_args(Activation):
            raise ValueError(f"activation must be one of {', '.join(get_args(Activation))}; got {self.activation!r}.")
        if self.terms is not None and self.terms < 1:
            raise ValueError(f"terms must be None or at least 1; got {self.terms}.")

    def build(self) -> Variant:
        """Draw what our network of the same seed draws."""
        drawn = ImageNetworkConfig(
            size=self.size,
            normalization="deskew" if self.deskew else "none",
            intervals=self.intervals,
            count=self.count,
            seed=self.seed,
        )
        return Variant(drawn.build(), self)


class Variant(Trainable):
    """The network's lift, pooling and readout, and its steps one by one.

    Args:
        network: ours, with row fields on spheres.
        config: what is exchanged.
    """

    def __init__(self, network: Network, config: VariantConfig) -> None:
        super().__init__()
        self.normalization, self.lift, self.readout = network.normalization, network.lift, network.readout
        self.pools = nn.ModuleList(stage.after for stage in network.flow_stages())
        self.families = nn.ModuleList(nn.ModuleList(flow.families) for flow in network.flows())
        self.controls = nn.ModuleList(_control(flow.control, config) for flow in network.flows())
        self._phi, self._sphere = _ACTIVATIONS[config.activation], config.sphere

    def prepare(self, data: Tensor) -> Tensor:
        """Upright images, if they are to be."""
        prepared: Tensor = self.normalization(data)
        return prepared

    def readout_parameters(self) -> list[nn.Parameter]:
        """The readout's scale."""
        return list(self.readout.parameters())

    def of_prepared(self, data: Tensor) -> Tensor:
        """Logits, shape (batch, 10)."""
        start = x = self.lift(data)
        for families, control, pool in zip(self.families, self.controls, self.pools, strict=True):
            assert isinstance(families, nn.ModuleList) and isinstance(control, Control)  # noqa: PT018
            middles = (torch.arange(len(families), dtype=torch.float64, device=x.device) + 0.5) / len(families)
            for fields, u in zip(families, control.at(middles), strict=True):
                assert isinstance(fields, ConvFields)
                x = self._step(fields, x, u / len(families))
            x = pool(x)
        logits: Tensor = self.readout(x, start)
        return logits

    def _step(self, fields: ConvFields, x: Tensor, u: Tensor) -> Tensor:
        assert fields.outputs is not None
        rows = u[:, None, None, None] * fields.kernels
        kernel = rows.new_zeros(fields.shape[0], *rows.shape[1:]).index_add(0, fields.outputs, rows)
        moved = functional.conv2d(fields.unflatten(self._phi(x)), kernel, padding="same")
        end = x + fields.flatten(moved)
        return end * (x.norm(dim=1, keepdim=True) / end.norm(dim=1, keepdim=True)) if self._sphere else end


def _control(drawn: Control, config: VariantConfig) -> Control:
    """As drawn, or so many cosines of the same size."""
    if config.terms is None:
        return drawn
    return SpectralControl.random(config.terms, config.count, scale=0.1, seed=config.seed)
