"""How solutions are differentiated."""

from cde_nets.gradient.discrete import discrete

__all__ = ["discrete"]
