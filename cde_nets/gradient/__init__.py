"""How solutions are differentiated, and the public `solve` on top of it."""

from cde_nets.gradient.autograd import Autograd, ForwardMode
from cde_nets.gradient.backsolve import Backsolve
from cde_nets.gradient.base import Gradient
from cde_nets.gradient.checkpointed import Checkpointed
from cde_nets.gradient.discrete import Discrete
from cde_nets.gradient.implicit import Implicit
from cde_nets.gradient.sensitivity import sensitivity
from cde_nets.gradient.solve import solve
from cde_nets.gradient.unrolled import RandomlyTruncated, Truncated, Unrolled

__all__ = [
    "Autograd",
    "Backsolve",
    "Checkpointed",
    "Discrete",
    "ForwardMode",
    "Gradient",
    "Implicit",
    "RandomlyTruncated",
    "Truncated",
    "Unrolled",
    "sensitivity",
    "solve",
]
