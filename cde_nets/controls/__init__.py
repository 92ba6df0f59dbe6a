"""Controls u(t) in R^count: trained numbers, a function of time, or data."""

from cde_nets.controls.base import Control
from cde_nets.controls.data import DataControl
from cde_nets.controls.function import CallableControl
from cde_nets.controls.hermite import HermiteControl
from cde_nets.controls.piecewise_constant import PiecewiseConstantControl
from cde_nets.controls.piecewise_linear import PiecewiseLinearControl
from cde_nets.controls.spectral import SpectralControl

__all__ = [
    "CallableControl",
    "Control",
    "DataControl",
    "HermiteControl",
    "PiecewiseConstantControl",
    "PiecewiseLinearControl",
    "SpectralControl",
]
