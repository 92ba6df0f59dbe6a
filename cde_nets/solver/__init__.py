"""The solver backend: problems, methods, one loop. Nothing here builds an autograd graph of its own."""

from cde_nets.solver.at_most import AtMost
from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.flow.controller import Controller, PIController
from cde_nets.solver.flow.events import Event
from cde_nets.solver.flow.manifold import Manifold, Retraction, Sphere
from cde_nets.solver.flow.mesh import aligned_mesh
from cde_nets.solver.flow.reversible import Reversible
from cde_nets.solver.flow.runge_kutta import RungeKutta
from cde_nets.solver.flow.tableau import TABLEAUS, Tableau
from cde_nets.solver.flow.torchdiffeq import TorchDiffEq
from cde_nets.solver.initial_value import InitialValueProblem
from cde_nets.solver.linear import CG, GMRES, RBP, BiCGStab, Dense, Neumann, OneStep
from cde_nets.solver.linear_problem import LinearProblem
from cde_nets.solver.loop import Limits, Observer, run
from cde_nets.solver.method import Iterate, Method, Scheme, start
from cde_nets.solver.rest import Anderson, Broyden, FlowToRest, Newton, NewtonKrylov, Picard
from cde_nets.solver.solution import Backward, SaveAt, Solution, Statistics, Trace
from cde_nets.solver.status import Status
from cde_nets.solver.tolerance import Tolerance

__all__ = [
    "CG",
    "GMRES",
    "RBP",
    "TABLEAUS",
    "Anderson",
    "AtMost",
    "Backward",
    "BiCGStab",
    "Broyden",
    "Controller",
    "Dense",
    "Event",
    "FixedPointProblem",
    "FlowToRest",
    "InitialValueProblem",
    "Iterate",
    "Limits",
    "LinearProblem",
    "Manifold",
    "Method",
    "Neumann",
    "Newton",
    "NewtonKrylov",
    "Observer",
    "OneStep",
    "PIController",
    "Picard",
    "Retraction",
    "Reversible",
    "RungeKutta",
    "SaveAt",
    "Scheme",
    "Solution",
    "Sphere",
    "Statistics",
    "Status",
    "Tableau",
    "Tolerance",
    "TorchDiffEq",
    "Trace",
    "aligned_mesh",
    "run",
    "start",
]
