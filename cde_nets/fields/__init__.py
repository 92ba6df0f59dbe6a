"""Frozen families of vector fields."""

from cde_nets.fields.base import Fields, Pullback
from cde_nets.fields.convolutional import ConvFields
from cde_nets.fields.cutoff import Cutoff
from cde_nets.fields.expression import ExpressionFields
from cde_nets.fields.features import FeatureFields
from cde_nets.fields.linear import LinearFields
from cde_nets.fields.polynomial import PolynomialFields
from cde_nets.fields.ridge import RidgeFields
from cde_nets.fields.spherical import SphericalFields
from cde_nets.fields.universal import UniversalFields

__all__ = [
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
]
