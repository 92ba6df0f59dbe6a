"""Controlled ODEs as scikit-learn estimators."""

try:
    import sklearn  # noqa: F401
except ImportError:
    raise ImportError(
        "ControlledODEClassifier and ControlledODERegressor need scikit-learn, which is not installed: "
        'pip install "cde-nets[sklearn]"'
    ) from None

from cde_nets.estimators.classifier import ControlledODEClassifier
from cde_nets.estimators.regressor import ControlledODERegressor

__all__ = ["ControlledODEClassifier", "ControlledODERegressor"]
