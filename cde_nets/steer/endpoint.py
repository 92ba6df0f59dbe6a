"""Where a control carries points, and the exact Jacobian of that in all of the control's numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.fields import Fields
from cde_nets.solver.flow.steps import along, combine
from cde_nets.solver.flow.tableau import Tableau


@dataclass(frozen=True)
class Endpoint:
    """The map from the values of a piecewise constant control to the ends of N points' flows.

    Attributes:
        fields: V_1..V_d.
        x: the points, shape (N, m).
        tableau: the explicit Runge-Kutta method.
        substeps: equal steps of it on each of the control's intervals.
        far: a state with a larger entry counts as blown up.
    """

    fields: Fields
    x: Float[Tensor, "points dim"]
    tableau: Tableau
    substeps: int
    far: float = 1e6

    def refined(self, times: int) -> Endpoint:
        """With so many times as many steps."""
        return replace(self, substeps=self.substeps * times)

    def at(self, values: Float[Tensor, "steps count"]) -> Float[Tensor, "points dim"] | None:
        """X_1 of every point; None where one of them blew up on the way."""
        x, h = self.x, 1 / (len(values) * self.substeps)
        for u in values:
            for _ in range(self.substeps):
                x = along(x, h, self.tableau.b, self._stages(x, u, h)[1])
            if not self._near(x):
                return None
        return x

    def linearized(
        self, values: Float[Tensor, "steps count"]
    ) -> tuple[Float[Tensor, "points dim"], Float[Tensor, "outputs numbers"]] | None:
        """X_1, and its Jacobian in the values: shape (N m, M d); None where a point blew up.

        The discrete adjoint's recursion (Hager, "Runge-Kutta methods in optimal control and the transformed adjoint
        system", 2000) for all m outputs of each point at once: as points do not meet, m costates a point are enough.
        """
        x, h = self.x, 1 / (len(values) * self.substeps)
        taken: list[list[Tensor]] = []
        for u in values:
            interval: list[Tensor] = []
            for _ in range(self.substeps):
                states, slopes = self._stages(x, u, h)
                interval += states
                x = along(x, h, self.tableau.b, slopes)
            if not self._near(x):
                return None
            taken.append(interval)
        points, m = self.x.shape
        p = torch.eye(m, dtype=x.dtype, device=x.device).repeat(points, 1, 1)
        columns: list[Tensor] = []
        for states, u in zip(reversed(taken), reversed(values), strict=True):
            p, column = self._back(p, states, u, h)
            columns.append(column)
        # (N, m, d) for each interval, the last one first.
        found = torch.stack(columns[::-1], 2).reshape(points * m, -1)
        return (x, found) if bool(torch.isfinite(found).all()) else None

    def _back(self, p: Tensor, states: list[Tensor], u: Tensor, h: float) -> tuple[Tensor, Tensor]:
        """The costates at the start of an interval, and what its control gives the ends."""
        evaluated, slope = self._derivatives(states, u)
        stages, cotangents = self.tableau.stages, [p] * len(states)
        for first in reversed(range(0, len(states), stages)):
            mu: dict[int, Tensor] = {}
            for j in reversed(range(stages)):
                w = combine([self.tableau.b[j], *(self.tableau.a[later][j] for later in mu)], [p, *mu.values()], h)
                assert w is not None
                mu[j] = w @ slope[first + j]
                cotangents[first + j] = w
            p = p + sum(mu.values())
        # sum over the stages of w V^T, as one product.
        return p, torch.cat(cotangents, 2) @ torch.cat(list(evaluated), 2).mT

    def _stages(self, x: Tensor, u: Tensor, h: float) -> tuple[list[Tensor], list[Tensor]]:
        states: list[Tensor] = []
        slopes: list[Tensor] = []
        for row in self.tableau.a:
            states.append(along(x, h, row, slopes))
            slopes.append(self.fields.velocity(states[-1], u))
        return states, slopes

    def _derivatives(self, states: list[Tensor], u: Tensor) -> tuple[Tensor, Tensor]:
        """V_i, shape (stages, N, d, m), and the Jacobian of sum_i u_i V_i, (stages, N, m, m), at all stages at once."""
        points, m = self.x.shape
        x = torch.cat(states)
        rows = torch.eye(m, dtype=x.dtype, device=x.device).repeat(len(x), 1)
        slope, _ = self.fields.pullback(x.repeat_interleave(m, 0), u, rows)
        evaluated = self.fields.evaluate(x).reshape(len(states), points, -1, m)
        return evaluated, slope.reshape(len(states), points, m, m)

    def _near(self, x: Tensor) -> bool:
        # A NaN is not near, either.
        return bool(x.abs().amax() < self.far)
