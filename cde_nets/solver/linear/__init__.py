"""Methods for linear problems (I - J^T) w = g, one a file."""

from cde_nets.solver.linear.bicgstab import BiCGStab
from cde_nets.solver.linear.cg import CG
from cde_nets.solver.linear.dense import Dense
from cde_nets.solver.linear.gmres import GMRES
from cde_nets.solver.linear.neumann import Neumann
from cde_nets.solver.linear.one_step import OneStep
from cde_nets.solver.linear.rbp import RBP

__all__ = ["CG", "GMRES", "RBP", "BiCGStab", "Dense", "Neumann", "OneStep"]
