"""The solver backend: problems, methods, one loop. Nothing here builds an autograd graph of its own."""

from cde_nets.solve.flow.controller import Controller, PIController
from cde_nets.solve.flow.events import Event
from cde_nets.solve.flow.manifold import Manifold, Retraction, Sphere
from cde_nets.solve.flow.mesh import aligned_mesh
from cde_nets.solve.flow.runge_kutta import RungeKutta
from cde_nets.solve.flow.tableau import TABLEAUS, Tableau
from cde_nets.solve.initial_value import InitialValueProblem
from cde_nets.solve.loop import Limits, Observer, run
from cde_nets.solve.method import Iterate, Method, Scheme, start
from cde_nets.solve.solution import Backward, SaveAt, Solution, Statistics, Trace
from cde_nets.solve.status import Status
from cde_nets.solve.tolerance import Tolerance

__all__ = [
    "TABLEAUS",
    "Backward",
    "Controller",
    "Event",
    "InitialValueProblem",
    "Iterate",
    "Limits",
    "Manifold",
    "Method",
    "Observer",
    "PIController",
    "Retraction",
    "RungeKutta",
    "SaveAt",
    "Scheme",
    "Solution",
    "Sphere",
    "Statistics",
    "Status",
    "Tableau",
    "Tolerance",
    "Trace",
    "aligned_mesh",
    "run",
    "start",
]
