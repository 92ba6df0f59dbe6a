"""What methods of Krylov's kind share: vectors that are kept, orthogonalised, and weighed by least squares."""

from cde_nets.solver.krylov.gram import Gram
from cde_nets.solver.krylov.orthogonal import apart
from cde_nets.solver.krylov.window import Window

__all__ = ["Gram", "Window", "apart"]
