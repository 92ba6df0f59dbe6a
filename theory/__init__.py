"""Exact algebra of controlled vector fields; imports no torch, and SymPy only when asked for expressions."""

from theory.accessibility import Accessibility, check_accessibility
from theory.brackets import Bracket, evaluate_at, lie_algebra, lie_bracket
from theory.certificate import Certificate, Run
from theory.condition import Condition, condition_two
from theory.determinant import gamma
from theory.enclosure import Enclosure, enclose
from theory.exact import ExactArray, NoResidueError, exact_array
from theory.five import five_diagonal, five_fields, two_fields
from theory.genericity import Generic, generic
from theory.growth import Growth, growth_vector
from theory.matrices import matrix_algebra_dimension
from theory.monomials import monomial_count, monomial_exponents
from theory.points import check_points
from theory.program import Program
from theory.programs import (
    ConvolutionProgram,
    MonomialProgram,
    RestrictedProgram,
    RidgeProgram,
    SphericalProgram,
    UnionProgram,
)
from theory.reading import read_fields
from theory.rings import Rationals, Residues, RingArray
from theory.text import parse_fields
from theory.universality import universal

__all__ = [
    "Accessibility",
    "Bracket",
    "Certificate",
    "Condition",
    "ConvolutionProgram",
    "Enclosure",
    "ExactArray",
    "Generic",
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
    "UnionProgram",
    "check_accessibility",
    "check_points",
    "condition_two",
    "enclose",
    "evaluate_at",
    "exact_array",
    "five_diagonal",
    "five_fields",
    "gamma",
    "generic",
    "growth_vector",
    "lie_algebra",
    "lie_bracket",
    "matrix_algebra_dimension",
    "monomial_count",
    "monomial_exponents",
    "parse_fields",
    "read_fields",
    "two_fields",
    "universal",
]
