"""u(t) linear on each of equal intervals, and continuous."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.controls import arguments, equal
from cde_nets.controls.base import Control


class PiecewiseLinearControl(Control):
    """u(t) = (1 - s) values[n] + s values[n + 1], s = steps t - n, on the n-th of `steps` equal intervals of [0, 1].

    Args:
        steps: M, the number of intervals.
        count: d.
        values: initial values at the knots n / steps, shape (steps + 1, count); zeros where None, for which the flow
            is the identity.

    Raises:
        ValueError: steps or count below 1, values of another shape, not floating or not finite.
    """

    def __init__(self, steps: int, count: int, *, values: Float[Tensor, "knots count"] | None = None) -> None:
        super().__init__()
        arguments.counts(steps=steps, count=count)
        self.steps, self.count = steps, count
        self.values = arguments.parameter(values, "values", (steps + 1, count))

    @classmethod
    def random(
        cls, steps: int, count: int, *, scale: float, seed: int, dtype: torch.dtype | None = None
    ) -> PiecewiseLinearControl:
        """Initial values iid N(0, scale^2).

        Raises:
            ValueError: a scale below 0, or as the class.
        """
        arguments.counts(steps=steps, count=count)
        return cls(steps, count, values=arguments.normal((steps + 1, count), scale=scale, seed=seed, dtype=dtype))

    @property
    def breakpoints(self) -> tuple[float, ...]:
        """The inner knots."""
        return tuple(n / self.steps for n in range(1, self.steps))

    @property
    def jumps(self) -> bool:
        """False: u is continuous."""
        return False

    def at(
        self, times: Float[Tensor, "*times"], inside: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, "*times {self.count}"]:
        """The line through the interval's ends; see `Control.at`."""
        times, moments = self._moments(times, inside)
        n = equal.interval(moments, self.steps)
        s = equal.local(times, n, self.steps).to(self.values.dtype)[..., None]
        return torch.lerp(self.values[n], self.values[n + 1], s)

    def extra_repr(self) -> str:
        """Shown by print(control)."""
        return f"steps={self.steps}, count={self.count}"
