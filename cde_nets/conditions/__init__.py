"""What the Jacobian J = df/dz is like at a rest point: conditions and regularisers of recurrent back-propagation.

The gradient of a rest point z* = f(z*) exists where I - J is regular. Enough for that is one of

- a contraction, |J|_2 < 1: `spectral_norm`, `contraction_rate`, `banach_steps`;
- a spectral radius below 1, with which Picard and the Neumann series converge in the end: `spectral_radius`;
- lambda_min((I - J)^T (I - J)) > 0, which is regularity itself: `smallest_eigenvalue`; `gershgorin_bound` from below.

As losses: `squared_frobenius`, `gershgorin_hinge`, `eigenvalue_hinge`. Source: Liao, Xiong, Fetaya, Zhang, Yoon,
Pitkow, Urtasun and Zemel, "Reviving and improving recurrent back-propagation", ICML 2018, appendix, section 1.
"""

from cde_nets.conditions.contraction import banach_steps, contraction_rate
from cde_nets.conditions.estimate import Estimate
from cde_nets.conditions.frobenius import squared_frobenius
from cde_nets.conditions.gershgorin import gershgorin_bound, gershgorin_hinge
from cde_nets.conditions.smallest_eigenvalue import eigenvalue_hinge, smallest_eigenvalue
from cde_nets.conditions.spectral_norm import spectral_norm
from cde_nets.conditions.spectral_radius import spectral_radius

__all__ = [
    "Estimate",
    "banach_steps",
    "contraction_rate",
    "eigenvalue_hinge",
    "gershgorin_bound",
    "gershgorin_hinge",
    "smallest_eigenvalue",
    "spectral_norm",
    "spectral_radius",
    "squared_frobenius",
]
