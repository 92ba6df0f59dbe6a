"""Exact algebra of controlled vector fields; imports no torch, and SymPy only when asked for expressions."""

from theory.exact import ExactArray, exact_array
from theory.five import five_diagonal, five_fields
from theory.monomials import monomial_count, monomial_exponents
from theory.program import Program
from theory.programs import (
    ConvolutionProgram,
    MonomialProgram,
    RestrictedProgram,
    RidgeProgram,
    SphericalProgram,
)
from theory.rings import Rationals, Residues, RingArray

__all__ = [
    "ConvolutionProgram",
    "ExactArray",
    "MonomialProgram",
    "Program",
    "Rationals",
    "Residues",
    "RestrictedProgram",
    "RidgeProgram",
    "RingArray",
    "SphericalProgram",
    "exact_array",
    "five_diagonal",
    "five_fields",
    "monomial_count",
    "monomial_exponents",
]
