"""How the width of the next step follows from the error of the last."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from cde_nets.options import options, within


@runtime_checkable
class Controller(Protocol):
    """A rule for the next step's width."""

    def factor(self, error: Tensor, previous: Tensor, order: int) -> Tensor:
        """What the width is multiplied with.

        Args:
            error: the scaled error norm of the step just tried, 1 at the tolerance; not finite where the trial is not.
            previous: that of the last accepted step, 1 before the first.
            order: k, so that the error falls as h^k.
        """


@options
class PIController:
    """h <- h safety error^(-(proportional + integral)/k) previous^(proportional/k), between shrink and grow.

    Gustafsson, "Control theoretic techniques for stepsize selection in explicit Runge-Kutta methods" (1991). The
    defaults are those of Hairer's DOPRI5: exponents 0.17 and 0.04 for k = 5. A step that was refused never lets the
    next one grow, and a trial that is not finite shrinks the step as far as is allowed.

    Args:
        proportional: weight of the error's change.
        integral: weight of the error.
        safety: in (0, 1).
        shrink: smallest factor, in (0, 1).
        grow: largest factor, above 1.

    Raises:
        ValueError: an option outside these bounds.
    """

    proportional: float = 0.2
    integral: float = 0.65
    safety: float = 0.9
    shrink: float = 0.2
    grow: float = 10.0

    def __post_init__(self) -> None:
        """Check all."""
        within("proportional", self.proportional, 0, closed=True)
        within("integral", self.integral, 0)
        within("safety", self.safety, 0, 1)
        within("shrink", self.shrink, 0, 1)
        within("grow", self.grow, 1)

    def factor(self, error: Tensor, previous: Tensor, order: int) -> Tensor:
        """As the class says; shapes and dtype of error."""
        # Errors of exactly zero (an exact step) would give infinite factors.
        small = torch.finfo(error.dtype).tiny ** 0.25
        factor = (
            error.clamp(min=small) ** (-(self.proportional + self.integral) / order)
            # An accepted error is at most 1: no step that was refused gives a factor above safety.
            * previous.clamp(1e-4, 1.0) ** (self.proportional / order)
            * self.safety
        )
        # An infinite error gives 0, one that is NaN gives NaN.
        return factor.clamp(self.shrink, self.grow).nan_to_num(nan=self.shrink)
