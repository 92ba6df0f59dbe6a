"""Exact algebra of controlled vector fields; imports no torch, and SymPy only when asked for expressions."""

from theory.certificate import Certificate, Run
from theory.exact import ExactArray, NoResidueError, exact_array
from theory.five import five_diagonal, five_fields
from theory.growth import Growth, growth_vector
from theory.monomials import monomial_count, monomial_exponents
from theory.points import check_points
from theory.program import Program
from theory.programs import (
    ConvolutionProgram,
    MonomialProgram,
    RestrictedProgram,
    RidgeProgram,
    SphericalProgram,
)
from theory.reading import read_fields
from theory.rings import Rationals, Residues, RingArray
from theory.universal import universal

__all__ = [
    "Certificate",
    "ConvolutionProgram",
    "ExactArray",
    "Growth",
    "MonomialProgram",
    "NoResidueError",
    "Program",
    "Rationals",
    "Residues",
    "RestrictedProgram",
    "RidgeProgram",
    "RingArray",
    "Run",
    "SphericalProgram",
    "check_points",
    "exact_array",
    "five_diagonal",
    "five_fields",
    "growth_vector",
    "monomial_count",
    "monomial_exponents",
    "read_fields",
    "universal",
]
