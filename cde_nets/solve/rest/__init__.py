"""Methods for rest points: z = f(z), or g(z) = 0."""

from cde_nets.solve.rest.anderson import Anderson
from cde_nets.solve.rest.broyden import Broyden
from cde_nets.solve.rest.flow_to_rest import FlowToRest
from cde_nets.solve.rest.newton import Newton
from cde_nets.solve.rest.newton_krylov import NewtonKrylov
from cde_nets.solve.rest.picard import Picard

__all__ = ["Anderson", "Broyden", "FlowToRest", "Newton", "NewtonKrylov", "Picard"]
