"""Explicit Runge-Kutta steps of a controlled flow on a fixed mesh. No autograd graph is needed or made here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from cde_nets.fields.base import Fields
from cde_nets.solve.manifold import Manifold
from cde_nets.solve.tableau import Tableau

State = Float[Tensor, "batch dim"]
Values = Float[Tensor, "steps stages count"]


@dataclass(frozen=True)
class FixedGrid:
    """How a controlled flow is stepped: everything but the state and the control's values.

    Attributes:
        fields: the family each step flows along, one entry a step (the same object where the fields are tied).
        tableau: the Runge-Kutta method.
        mesh: step ends, one more than steps.
        manifold: what the state is retracted to after each step; None for all of R^m.
    """

    fields: Sequence[Fields]
    tableau: Tableau
    mesh: Sequence[float]
    manifold: Manifold | None = None

    @property
    def steps(self) -> int:
        """The number of steps."""
        return len(self.mesh) - 1

    def width(self, n: int) -> float:
        """The width h of step n."""
        return self.mesh[n + 1] - self.mesh[n]

    def stage_states(self, n: int, x: State, u: Float[Tensor, "stages count"]) -> list[State]:
        """The stage states X_j of step n from x; a step of Euler's has no other than x."""
        return self._stages(n, x, u, self.tableau.stages - 1)[0]

    def step(self, n: int, x: State, u: Float[Tensor, "stages count"]) -> tuple[State, Tensor | None]:
        """The state after step n, and what the manifold's pullback needs of the retraction."""
        _, slopes = self._stages(n, x, u, self.tableau.stages)
        z = _along(x, self.width(n), self.tableau.b, slopes)
        return (z, None) if self.manifold is None else self.manifold.retract(x, z)

    def _stages(self, n: int, x: State, u: Tensor, evaluations: int) -> tuple[list[State], list[State]]:
        states: list[State] = []
        slopes: list[State] = []
        for j, row in enumerate(self.tableau.a):
            states.append(_along(x, self.width(n), row, slopes))
            if j < evaluations:
                slopes.append(self.fields[n].velocity(states[j], u[j]))
        return states, slopes


def _along(x: Tensor, h: float, weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    for weight, slope in zip(weights, slopes, strict=True):
        if weight:
            x = x.add(slope, alpha=h * weight)
    return x
