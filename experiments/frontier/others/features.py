"""Our network with its controls left alone and a linear readout trained: what the readout does without them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cde_nets.nn import ImageNetworkConfig, Network
from experiments.frontier.others.base import Body, Config, Seeded


class Ends(nn.Module):
    """The state at the end of a network's last flow; nothing in it trains."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        network.set_throw(False)
        self._network = [network.requires_grad_(False)]
        for name, value in network.state_dict().items():
            self.register_buffer(name.replace(".", "_"), value)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Shape (batch, 1, size, size) to (batch, dim)."""
        network = self._network[0]
        state: Tensor = network.lift(images[:, 0])
        for stage in network.stages:
            state = stage(state)
        return state


@dataclass(frozen=True)
class FeaturesConfig(Config):
    """The state of 90 numbers at the end of a network like ours, and 910 numbers that read it.

    Attributes:
        count: fields a family.
        control_scale: 0 for no flow at all, else of the random controls, which are not trained.
    """

    count: int = 124
    control_scale: float = 0.0

    def build(self) -> Body:
        """Draw network and readout."""
        scale = self.control_scale
        network = ImageNetworkConfig(size=self.size, count=self.count, control_scale=scale, seed=self.seed).build()
        with Seeded(self.seed):
            readout = nn.Linear(network.flows()[-1].dim, 10)
        return Body(self, nn.Sequential(Ends(network), readout))
