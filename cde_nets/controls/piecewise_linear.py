"""u(t) linear on each of equal intervals, and continuous."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.controls import arguments, equal
from cde_nets.controls.intervals import OnIntervals


class PiecewiseLinearControl(OnIntervals):
    """u(t) = (1 - s) values[n] + s values[n + 1], s = steps t - n, on the n-th of `steps` equal intervals of [0, 1].

    Args:
        steps: M, the number of intervals.
        count: d.
        values: initial values at the knots n / steps, shape (steps + 1, count); zeros where None, for which the flow
            is the identity.

    Raises:
        ValueError: steps or count below 1, values of another shape, not floating or not finite.
    """

    continuous = True

    def __init__(self, steps: int, count: int, *, values: Float[Tensor, "knots count"] | None = None) -> None:
        super().__init__(steps, count)
        self.values = arguments.parameter(values, "values", (steps + 1, count))

    def at(
        self, times: Float[Tensor, "*times"], inside: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, "*times {self.count}"]:
        """The line through the interval's ends; see `Control.at`."""
        times, moments = self._moments(times, inside)
        n = equal.interval(moments, self.steps)
        s = equal.local(times, n, self.steps).to(self.values.dtype)[..., None]
        return torch.lerp(self.values[n], self.values[n + 1], s)
