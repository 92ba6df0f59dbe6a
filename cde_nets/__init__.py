"""Controlled ODEs dX = sum_i u_i(t) V_i(X) dt with frozen random polynomial fields and trained controls.

Names load when they are first used: importing this package waits for neither torch nor matplotlib nor sympy.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cde_nets.certify import check_flow as check_flow
    from cde_nets.certify import check_stages as check_stages
    from cde_nets.certify import control_rank as control_rank
    from cde_nets.certify import exact_flow as exact_flow
    from cde_nets.conditions import Estimate as Estimate
    from cde_nets.conditions import banach_steps as banach_steps
    from cde_nets.conditions import contraction_rate as contraction_rate
    from cde_nets.conditions import eigenvalue_hinge as eigenvalue_hinge
    from cde_nets.conditions import gershgorin_bound as gershgorin_bound
    from cde_nets.conditions import gershgorin_hinge as gershgorin_hinge
    from cde_nets.conditions import smallest_eigenvalue as smallest_eigenvalue
    from cde_nets.conditions import spectral_norm as spectral_norm
    from cde_nets.conditions import spectral_radius as spectral_radius
    from cde_nets.conditions import squared_frobenius as squared_frobenius
    from cde_nets.controls import CallableControl as CallableControl
    from cde_nets.controls import Control as Control
    from cde_nets.controls import DataControl as DataControl
    from cde_nets.controls import HermiteControl as HermiteControl
    from cde_nets.controls import PiecewiseConstantControl as PiecewiseConstantControl
    from cde_nets.controls import PiecewiseLinearControl as PiecewiseLinearControl
    from cde_nets.controls import SpectralControl as SpectralControl
    from cde_nets.data import MNIST as MNIST
    from cde_nets.data import Dataset as Dataset
    from cde_nets.data import load_mnist as load_mnist
    from cde_nets.errors import ConvergenceError as ConvergenceError
    from cde_nets.errors import ConvergenceWarning as ConvergenceWarning
    from cde_nets.errors import DivergedError as DivergedError
    from cde_nets.errors import SolveError as SolveError
    from cde_nets.estimators import ControlledODEClassifier as ControlledODEClassifier
    from cde_nets.estimators import ControlledODERegressor as ControlledODERegressor
    from cde_nets.fields import ConvFields as ConvFields
    from cde_nets.fields import Cutoff as Cutoff
    from cde_nets.fields import ExpressionFields as ExpressionFields
    from cde_nets.fields import FeatureFields as FeatureFields
    from cde_nets.fields import Fields as Fields
    from cde_nets.fields import LinearFields as LinearFields
    from cde_nets.fields import PolynomialFields as PolynomialFields
    from cde_nets.fields import Pullback as Pullback
    from cde_nets.fields import RidgeFields as RidgeFields
    from cde_nets.fields import SphericalFields as SphericalFields
    from cde_nets.fields import UniversalFields as UniversalFields
    from cde_nets.gradient import Autograd as Autograd
    from cde_nets.gradient import Backsolve as Backsolve
    from cde_nets.gradient import Checkpointed as Checkpointed
    from cde_nets.gradient import Discrete as Discrete
    from cde_nets.gradient import ForwardMode as ForwardMode
    from cde_nets.gradient import Gradient as Gradient
    from cde_nets.gradient import Implicit as Implicit
    from cde_nets.gradient import RandomlyTruncated as RandomlyTruncated
    from cde_nets.gradient import Truncated as Truncated
    from cde_nets.gradient import Unrolled as Unrolled
    from cde_nets.gradient import sensitivity as sensitivity
    from cde_nets.gradient import solve as solve
    from cde_nets.nn import AnchorReadout as AnchorReadout
    from cde_nets.nn import AveragePool as AveragePool
    from cde_nets.nn import ChannelMeanReadout as ChannelMeanReadout
    from cde_nets.nn import ControlledODE as ControlledODE
    from cde_nets.nn import ConvLift as ConvLift
    from cde_nets.nn import DifferenceReadout as DifferenceReadout
    from cde_nets.nn import EquilibriumLayer as EquilibriumLayer
    from cde_nets.nn import GraphGRUCell as GraphGRUCell
    from cde_nets.nn import ImageNetworkConfig as ImageNetworkConfig
    from cde_nets.nn import ImplicitRNN as ImplicitRNN
    from cde_nets.nn import LinearReadout as LinearReadout
    from cde_nets.nn import Network as Network
    from cde_nets.nn import Normalize as Normalize
    from cde_nets.nn import Readout as Readout
    from cde_nets.nn import ResidualBlock as ResidualBlock
    from cde_nets.nn import ResidualFlow as ResidualFlow
    from cde_nets.nn import Stage as Stage
    from cde_nets.nn import TanhCell as TanhCell
    from cde_nets.nn import from_residual as from_residual
    from cde_nets.nn import image_network as image_network
    from cde_nets.nn import to_residual as to_residual
    from cde_nets.pretrained import pretrained_networks as pretrained_networks
    from cde_nets.solver import CG as CG
    from cde_nets.solver import GMRES as GMRES
    from cde_nets.solver import RBP as RBP
    from cde_nets.solver import Anderson as Anderson
    from cde_nets.solver import AtMost as AtMost
    from cde_nets.solver import BiCGStab as BiCGStab
    from cde_nets.solver import Broyden as Broyden
    from cde_nets.solver import Dense as Dense
    from cde_nets.solver import Event as Event
    from cde_nets.solver import FixedPointProblem as FixedPointProblem
    from cde_nets.solver import FlowToRest as FlowToRest
    from cde_nets.solver import InitialValueProblem as InitialValueProblem
    from cde_nets.solver import LinearProblem as LinearProblem
    from cde_nets.solver import Method as Method
    from cde_nets.solver import Neumann as Neumann
    from cde_nets.solver import Newton as Newton
    from cde_nets.solver import NewtonKrylov as NewtonKrylov
    from cde_nets.solver import OneStep as OneStep
    from cde_nets.solver import Picard as Picard
    from cde_nets.solver import PIController as PIController
    from cde_nets.solver import Reversible as Reversible
    from cde_nets.solver import RungeKutta as RungeKutta
    from cde_nets.solver import SaveAt as SaveAt
    from cde_nets.solver import Scheme as Scheme
    from cde_nets.solver import Solution as Solution
    from cde_nets.solver import Statistics as Statistics
    from cde_nets.solver import Status as Status
    from cde_nets.solver import Tolerance as Tolerance
    from cde_nets.solver import TorchDiffEq as TorchDiffEq
    from cde_nets.steer import Interpolation as Interpolation
    from cde_nets.steer import SteerStatus as SteerStatus
    from cde_nets.steer import interpolate as interpolate
    from cde_nets.steer import prove_interpolation as prove_interpolation
    from cde_nets.train import Run as Run
    from cde_nets.train import TrainConfig as TrainConfig
    from cde_nets.train import Trainer as Trainer
    from cde_nets.train import evaluate as evaluate
    from cde_nets.train import load_network as load_network
    from cde_nets.train import save_network as save_network

_ROOMS = {
    "certify": (
        "check_flow",
        "check_stages",
        "control_rank",
        "exact_flow",
    ),
    "conditions": (
        "Estimate",
        "banach_steps",
        "contraction_rate",
        "eigenvalue_hinge",
        "gershgorin_bound",
        "gershgorin_hinge",
        "smallest_eigenvalue",
        "spectral_norm",
        "spectral_radius",
        "squared_frobenius",
    ),
    "controls": (
        "CallableControl",
        "Control",
        "DataControl",
        "HermiteControl",
        "PiecewiseConstantControl",
        "PiecewiseLinearControl",
        "SpectralControl",
    ),
    "data": (
        "MNIST",
        "Dataset",
        "load_mnist",
    ),
    "errors": (
        "ConvergenceError",
        "ConvergenceWarning",
        "DivergedError",
        "SolveError",
    ),
    "estimators": (
        "ControlledODEClassifier",
        "ControlledODERegressor",
    ),
    "fields": (
        "ConvFields",
        "Cutoff",
        "ExpressionFields",
        "FeatureFields",
        "Fields",
        "LinearFields",
        "PolynomialFields",
        "Pullback",
        "RidgeFields",
        "SphericalFields",
        "UniversalFields",
    ),
    "gradient": (
        "Autograd",
        "Backsolve",
        "Checkpointed",
        "Discrete",
        "ForwardMode",
        "Gradient",
        "Implicit",
        "RandomlyTruncated",
        "Truncated",
        "Unrolled",
        "sensitivity",
        "solve",
    ),
    "nn": (
        "AnchorReadout",
        "AveragePool",
        "ChannelMeanReadout",
        "ControlledODE",
        "ConvLift",
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
        "from_residual",
        "image_network",
        "to_residual",
    ),
    "solver": (
        "Anderson",
        "AtMost",
        "BiCGStab",
        "Broyden",
        "CG",
        "Dense",
        "Event",
        "FixedPointProblem",
        "FlowToRest",
        "GMRES",
        "InitialValueProblem",
        "LinearProblem",
        "Method",
        "Neumann",
        "Newton",
        "NewtonKrylov",
        "OneStep",
        "PIController",
        "Picard",
        "RBP",
        "Reversible",
        "RungeKutta",
        "SaveAt",
        "Scheme",
        "Solution",
        "Statistics",
        "Status",
        "Tolerance",
        "TorchDiffEq",
    ),
    "pretrained": ("pretrained_networks",),
    "steer": (
        "Interpolation",
        "SteerStatus",
        "interpolate",
        "prove_interpolation",
    ),
    "train": (
        "Run",
        "TrainConfig",
        "Trainer",
        "evaluate",
        "load_network",
        "save_network",
    ),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}

# Rooms that need what is not installed everywhere: their names still load, to say so, but `import *` does without.
_NEEDS = {"estimators": "sklearn"}

__all__ = sorted(name for name, room in _HOME.items() if room not in _NEEDS or find_spec(_NEEDS[room]))


def _check_theory() -> None:
    """Name a file or folder of the user's that Python finds in the place of the package theory, before that fails."""
    spec = find_spec("theory")
    if spec is None:
        return
    beside = Path(__file__).resolve().parents[1] / "theory"
    places = [Path(place) for place in spec.submodule_search_locations or ()]
    if beside not in (place.resolve() for place in places):
        found = spec.origin or ", ".join(map(str, places))
        raise ImportError(
            f"cde_nets needs the package theory that is installed with it, {beside}, but Python finds {found} under "
            "that name: rename yours, or start Python elsewhere."
        )


_check_theory()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("cde-nets")
    if name not in _HOME:
        # With name and module Python itself names the nearest attribute where it prints the traceback.
        raise AttributeError(f"module 'cde_nets' has no attribute {name!r}", name=name, obj=sys.modules[__name__])
    value = getattr(import_module(f"cde_nets.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
