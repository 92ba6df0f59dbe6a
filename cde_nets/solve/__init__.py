"""The solver: how states are stepped. Nothing here builds an autograd graph of its own."""

from cde_nets.solve.fixed_grid import FixedGrid
from cde_nets.solve.manifold import Manifold, Retraction, Sphere
from cde_nets.solve.mesh import uniform_mesh
from cde_nets.solve.method import RungeKutta
from cde_nets.solve.tableau import EULER, RK4, Tableau

__all__ = ["EULER", "RK4", "FixedGrid", "Manifold", "Retraction", "RungeKutta", "Sphere", "Tableau", "uniform_mesh"]
