"""Controlled ODEs dX = sum_i u_i(t) V_i(X) dt with frozen random polynomial fields and trained controls.

Names load when they are first used: importing this package waits for neither torch nor matplotlib nor sympy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cde_nets.controls import (
        Control as Control,
    )
    from cde_nets.controls import (
        PiecewiseConstantControl as PiecewiseConstantControl,
    )
    from cde_nets.data import (
        MNIST as MNIST,
    )
    from cde_nets.data import (
        Dataset as Dataset,
    )
    from cde_nets.data import (
        load_mnist as load_mnist,
    )
    from cde_nets.errors import DivergedError as DivergedError
    from cde_nets.fields import (
        ConvFields as ConvFields,
    )
    from cde_nets.fields import (
        Cutoff as Cutoff,
    )
    from cde_nets.fields import (
        FeatureFields as FeatureFields,
    )
    from cde_nets.fields import (
        Fields as Fields,
    )
    from cde_nets.fields import (
        LinearFields as LinearFields,
    )
    from cde_nets.fields import (
        PolynomialFields as PolynomialFields,
    )
    from cde_nets.fields import (
        Pullback as Pullback,
    )
    from cde_nets.fields import (
        RidgeFields as RidgeFields,
    )
    from cde_nets.fields import (
        SphericalFields as SphericalFields,
    )
    from cde_nets.fields import (
        UniversalFields as UniversalFields,
    )
    from cde_nets.nn import (
        AnchorReadout as AnchorReadout,
    )
    from cde_nets.nn import (
        AveragePool as AveragePool,
    )
    from cde_nets.nn import (
        ChannelMeanReadout as ChannelMeanReadout,
    )
    from cde_nets.nn import (
        ControlledODE as ControlledODE,
    )
    from cde_nets.nn import (
        ConvLift as ConvLift,
    )
    from cde_nets.nn import (
        DifferenceReadout as DifferenceReadout,
    )
    from cde_nets.nn import (
        ImageNetworkConfig as ImageNetworkConfig,
    )
    from cde_nets.nn import (
        LinearReadout as LinearReadout,
    )
    from cde_nets.nn import (
        Network as Network,
    )
    from cde_nets.nn import (
        Normalize as Normalize,
    )
    from cde_nets.nn import (
        Readout as Readout,
    )
    from cde_nets.nn import (
        Stage as Stage,
    )
    from cde_nets.nn import (
        image_network as image_network,
    )
    from cde_nets.solve import RungeKutta as RungeKutta
    from cde_nets.train import (
        Run as Run,
    )
    from cde_nets.train import (
        TrainConfig as TrainConfig,
    )
    from cde_nets.train import (
        Trainer as Trainer,
    )
    from cde_nets.train import (
        evaluate as evaluate,
    )
    from cde_nets.train import (
        load_network as load_network,
    )
    from cde_nets.train import (
        save_network as save_network,
    )

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

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cde_nets' has no attribute {name!r}")
    value = getattr(import_module(f"cde_nets.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
