"""Where a control carries points, and the exact Jacobian of that in all of the control's numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.fields import Fields
from cde_nets.solver.flow.steps import along
from cde_nets.solver.flow.tableau import Tableau

# Derivatives of so many numbers are held at once: 256 MiB.
_MOST_NUMBERS = 2**25
# Intervals with so few slopes are differentiated together, as calls then take the time; with more, memory does.
_SMALL = 2**11


# Ends X_1, shape (N, m), and their Jacobian in the control's numbers, (N m, M d).
Linearized = tuple[Tensor, Tensor]


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

        Each interval is linearised by itself, all intervals and points at once, and the product of what comes after it
        carries its columns to the end.
        """
        x, h = self.x, 1 / (len(values) * self.substeps)
        taken: list[Tensor] = []
        for u in values:
            states: list[Tensor] = []
            for _ in range(self.substeps):
                more, slopes = self._stages(x, u, h)
                states += more
                x = along(x, h, self.tableau.b, slopes)
            if not self._near(x):
                return None
            taken.append(torch.stack(states))
        points, m = self.x.shape
        size = taken[0].numel() * (m + self.fields.count) * m
        some = max(1, _MOST_NUMBERS // size)
        parts = [
            self._interval(torch.stack(taken[first : first + some]), values[first : first + some], h)
            for first in range(0, len(values), some)
        ]
        steps = torch.cat(parts)
        rest = torch.eye(m, dtype=x.dtype, device=x.device).expand(points, m, m)
        after: list[Tensor] = []
        for transition in reversed(steps[..., :m].unbind()):
            after.append(rest)
            rest = rest @ transition
        columns = torch.stack(after[::-1]) @ steps[..., m:]
        found = columns.permute(1, 2, 0, 3).reshape(points * m, -1)
        return (x, found) if bool(torch.isfinite(found).all()) else None

    def _interval(
        self, states: Float[Tensor, "some stages points dim"], u: Float[Tensor, "some count"], h: float
    ) -> Float[Tensor, "some points dim columns"]:
        """The Jacobian of the state after each interval in the state before and in its control, side by side.

        The variational equation by the same tableau: where X_j = x + h sum_l a_jl k_l and k_j = V(X_j, u), so do their
        derivatives.
        """
        some, _, points, m = states.shape
        if states[0].numel() * m <= _SMALL:
            evaluated, slope = torch.func.vmap(self._derivatives)(states, u)
        else:
            pairs = [self._derivatives(*pair) for pair in zip(states, u, strict=True)]
            evaluated, slope = (torch.stack(part) for part in zip(*pairs, strict=True))
        z = torch.eye(m, m + self.fields.count, dtype=u.dtype, device=u.device).expand(some, points, -1, -1)
        for first in range(0, states.shape[1], self.tableau.stages):
            slopes: list[Tensor] = []
            for j, row in enumerate(self.tableau.a):
                k = slope[:, first + j] @ along(z, h, row, slopes)
                k[..., m:] += evaluated[:, first + j].mT
                slopes.append(k)
            z = along(z, h, self.tableau.b, slopes)
        return z

    def _stages(self, x: Tensor, u: Tensor, h: float) -> tuple[list[Tensor], list[Tensor]]:
        states: list[Tensor] = []
        slopes: list[Tensor] = []
        for row in self.tableau.a:
            states.append(along(x, h, row, slopes))
            slopes.append(self.fields.velocity(states[-1], u))
        return states, slopes

    def _derivatives(self, states: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """V_i, shape (stages, N, d, m), and the Jacobian of sum_i u_i V_i, (stages, N, m, m), of one interval."""
        m = states.shape[2]
        x = states.flatten(0, 1)
        rows = torch.eye(m, dtype=x.dtype, device=x.device).repeat(len(x), 1)
        slope, _ = self.fields.pullback(x.repeat_interleave(m, 0), u, rows)
        evaluated = self.fields.evaluate(x)
        return evaluated.unflatten(0, states.shape[:2]), slope.reshape(*states.shape, m)

    def _near(self, x: Tensor) -> bool:
        # A NaN is not near, either.
        return bool(x.abs().amax() < self.far)
