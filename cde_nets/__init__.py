"""Controlled ODEs dX = sum_i u_i(t) V_i(X) dt with frozen random polynomial fields and trained controls.

Names load when they are first used: importing this package waits for neither torch nor matplotlib nor sympy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cde_nets.controls import Control, PiecewiseConstantControl
    from cde_nets.data import MNIST, Dataset, load_mnist
    from cde_nets.errors import DivergedError
    from cde_nets.fields import (
        ConvFields,
        Cutoff,
        FeatureFields,
        Fields,
        LinearFields,
        PolynomialFields,
        Pullback,
        RidgeFields,
        SphericalFields,
        UniversalFields,
    )
    from cde_nets.nn import (
        AnchorReadout,
        AveragePool,
        ChannelMeanReadout,
        ControlledODE,
        ConvLift,
        DifferenceReadout,
        ImageNetworkConfig,
        LinearReadout,
        Network,
        Normalize,
        Readout,
        Stage,
        image_network,
    )
    from cde_nets.solve import RungeKutta
    from cde_nets.train import Run, TrainConfig, Trainer, evaluate, load_network, save_network

_ROOMS = {
    "controls": ("Control", "PiecewiseConstantControl"),
    "data": ("MNIST", "Dataset", "load_mnist"),
    "errors": ("DivergedError",),
    "fields": (
        "ConvFields",
        "Cutoff",
        "FeatureFields",
        "Fields",
        "LinearFields",
        "PolynomialFields",
        "Pullback",
        "RidgeFields",
        "SphericalFields",
        "UniversalFields",
    ),
    "nn": (
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
    ),
    "solve": ("RungeKutta",),
    "train": ("Run", "TrainConfig", "Trainer", "evaluate", "load_network", "save_network"),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "MNIST",
    "AnchorReadout",
    "AveragePool",
    "ChannelMeanReadout",
    "Control",
    "ControlledODE",
    "ConvFields",
    "ConvLift",
    "Cutoff",
    "Dataset",
    "DifferenceReadout",
    "DivergedError",
    "FeatureFields",
    "Fields",
    "ImageNetworkConfig",
    "LinearFields",
    "LinearReadout",
    "Network",
    "Normalize",
    "PiecewiseConstantControl",
    "PolynomialFields",
    "Pullback",
    "Readout",
    "RidgeFields",
    "Run",
    "RungeKutta",
    "SphericalFields",
    "Stage",
    "TrainConfig",
    "Trainer",
    "UniversalFields",
    "evaluate",
    "image_network",
    "load_mnist",
    "load_network",
    "save_network",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cde_nets' has no attribute {name!r}")
    value = getattr(import_module(f"cde_nets.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
