"""Modules to build networks from: lift, stages of flow and fixed map, readout; equilibrium layers."""

from cde_nets.nn.deskew import Deskew
from cde_nets.nn.equilibrium import EquilibriumLayer
from cde_nets.nn.flow import ControlledODE
from cde_nets.nn.graph_gru import GraphGRUCell
from cde_nets.nn.image import ImageNetworkConfig, image_network
from cde_nets.nn.implicit_rnn import ImplicitRNN, TanhCell
from cde_nets.nn.lift import ConvLift
from cde_nets.nn.maps import AveragePool, Normalize
from cde_nets.nn.network import Network, Stage
from cde_nets.nn.readout import AnchorReadout, ChannelMeanReadout, DifferenceReadout, LinearReadout, Readout
from cde_nets.nn.residual import ResidualBlock, ResidualFlow, from_residual, to_residual
from cde_nets.nn.trainable import Trainable, TrainableConfig

__all__ = [
    "AnchorReadout",
    "AveragePool",
    "ChannelMeanReadout",
    "ControlledODE",
    "ConvLift",
    "Deskew",
    "DifferenceReadout",
    "EquilibriumLayer",
    "GraphGRUCell",
    "ImageNetworkConfig",
    "ImplicitRNN",
    "LinearReadout",
    "Network",
    "Normalize",
    "Readout",
    "ResidualBlock",
    "ResidualFlow",
    "Stage",
    "TanhCell",
    "Trainable",
    "TrainableConfig",
    "from_residual",
    "image_network",
    "to_residual",
]
