"""u(t) = values[n] on the n-th of equal intervals: a residual network's weights, one set a layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.controls import arguments, equal
from cde_nets.controls.intervals import OnIntervals


class PiecewiseConstantControl(OnIntervals):
    """u(t) = values[n] on the n-th of `steps` equal intervals of [0, 1].

    Args:
        steps: M, the number of intervals.
        count: d.
        values: initial values, shape (steps, count); zeros where None, for which the flow is the identity.

    Raises:
        ValueError: steps or count below 1, values of another shape, not floating or not finite.
    """

    continuous = False

    def __init__(self, steps: int, count: int, *, values: Float[Tensor, "steps count"] | None = None) -> None:
        super().__init__(steps, count)
        self.values = arguments.parameter(values, "values", (steps, count))

    def at(
        self, times: Float[Tensor, "*times"], inside: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, "*times {self.count}"]:
        """The interval's values; see `Control.at`."""
        _, moments = self._moments(times, inside)
        return self.values[equal.interval(moments, self.steps)]

    def on_mesh(self, mesh: Sequence[float], nodes: Sequence[float]) -> Float[Tensor, "steps stages {self.count}"]:
        """The interval's values at every node; see `Control.on_mesh`."""
        values = self.on_steps(mesh)[:, None, :]
        return values if len(nodes) == 1 else values.expand(-1, len(nodes), -1)

    def on_steps(self, mesh: Sequence[float]) -> Float[Tensor, "steps {self.count}"]:
        """The interval's values; see `Control.on_steps`."""
        interval = equal.intervals_of(tuple(mesh), self.steps)
        if interval == tuple(range(self.steps)):
            return self.values
        return self.values[torch.tensor(interval, dtype=torch.int64, device=self.values.device)]
