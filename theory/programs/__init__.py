"""Families of exact vector fields, one a file."""

from theory.programs.convolution import ConvolutionProgram
from theory.programs.monomial import MonomialProgram
from theory.programs.restricted import RestrictedProgram
from theory.programs.ridge import RidgeProgram
from theory.programs.spherical import SphericalProgram
from theory.programs.union import UnionProgram

__all__ = [
    "ConvolutionProgram",
    "MonomialProgram",
    "RestrictedProgram",
    "RidgeProgram",
    "SphericalProgram",
    "UnionProgram",
]
