"""What flows follow: dX/dt and its transpose, as packed states see them."""

from cde_nets.solver.dynamics.base import Adjoint, Dynamics, Graph, Moment, Stages
from cde_nets.solver.dynamics.called import Called
from cde_nets.solver.dynamics.combined import Counted, Sum, WithLogDeterminant
from cde_nets.solver.dynamics.controlled import Controlled, OnMesh

__all__ = [
    "Adjoint",
    "Called",
    "Controlled",
    "Counted",
    "Dynamics",
    "Graph",
    "Moment",
    "OnMesh",
    "Stages",
    "Sum",
    "WithLogDeterminant",
]
