"""What the controls on M equal intervals of [0, 1] share: their intervals, and random values to start from."""

from __future__ import annotations

from typing import ClassVar, TypeVar

import torch

from cde_nets.controls import arguments, equal
from cde_nets.controls.base import Control

# Not Self: a shape checker that decorates methods does not know their class.
Kind = TypeVar("Kind", bound="OnIntervals")


class OnIntervals(Control):
    """A control with breakpoints n / steps.

    Attributes:
        steps: M, the number of intervals.
        continuous: trained values stand at the M + 1 knots, and u is continuous; else one stands on each interval.
    """

    continuous: ClassVar[bool]

    def __init__(self, steps: int, count: int) -> None:
        super().__init__()
        arguments.counts(steps=steps, count=count)
        self.steps, self.count = steps, count

    @classmethod
    def random(
        cls: type[Kind], steps: int, count: int, *, scale: float, seed: int, dtype: torch.dtype | None = None
    ) -> Kind:
        """Initial values iid N(0, scale^2); slopes, where there are any, start at zero.

        Raises:
            ValueError: a scale below 0, or as the class.
        """
        arguments.counts(steps=steps, count=count)
        shape = steps + cls.continuous, count
        return cls(steps, count, values=arguments.normal(shape, scale=scale, seed=seed, dtype=dtype))  # type: ignore[call-arg]

    @property
    def breakpoints(self) -> tuple[float, ...]:
        """The ends of the inner intervals."""
        return equal.breakpoints(self.steps)

    @property
    def jumps(self) -> bool:
        """Whether u jumps at breakpoints."""
        return not self.continuous and self.steps > 1

    def extra_repr(self) -> str:
        """Shown by print(control)."""
        return f"steps={self.steps}, count={self.count}"
