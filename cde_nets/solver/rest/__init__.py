"""Methods for rest points: z = f(z), or g(z) = 0."""

from cde_nets.solver.rest.anderson import Anderson
from cde_nets.solver.rest.broyden import Broyden
from cde_nets.solver.rest.flow_to_rest import FlowToRest
from cde_nets.solver.rest.newton import Newton
from cde_nets.solver.rest.newton_krylov import NewtonKrylov
from cde_nets.solver.rest.picard import Picard

__all__ = ["Anderson", "Broyden", "FlowToRest", "Newton", "NewtonKrylov", "Picard"]
