"""Controls that carry N points to N targets."""

from cde_nets.steer.interpolate import interpolate
from cde_nets.steer.proof import prove_interpolation
from cde_nets.steer.result import Interpolation, SteerStatus

__all__ = ["Interpolation", "SteerStatus", "interpolate", "prove_interpolation"]
