"""Modules to build networks from: lift, stages of flow and fixed map, readout."""

from cde_nets.nn.flow import ControlledODE
from cde_nets.nn.image import ImageNetworkConfig, image_network
from cde_nets.nn.lift import ConvLift
from cde_nets.nn.maps import AveragePool, Normalize
from cde_nets.nn.network import Network, Stage
from cde_nets.nn.readout import AnchorReadout, ChannelMeanReadout, DifferenceReadout, LinearReadout, Readout

__all__ = [
    "AnchorReadout",
    "AveragePool",
    "ChannelMeanReadout",
    "ControlledODE",
    "ConvLift",
    "DifferenceReadout",
    "ImageNetworkConfig",
    "LinearReadout",
    "Network",
    "Normalize",
    "Readout",
    "Stage",
    "image_network",
]
