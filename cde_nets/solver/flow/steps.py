"""One explicit Runge-Kutta step of packed states, and its continuous extension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cde_nets.solver.dynamics import Dynamics, Moment
from cde_nets.solver.flow.tableau import Tableau


class Step(NamedTuple):
    """A step's place in time.

    Attributes:
        n: its number on a mesh known beforehand, else 0.
        h: its width; a number on a mesh known beforehand, else a tensor of shape (rows, 1) or (1, 1) in the state's
            real dtype.
        t: where it starts, float64 and shaped as h; None on a mesh known beforehand.
        end: where it ends, as t; a breakpoint to the last bit, which t + h in the state's dtype is not.
        inside: a time of the smooth piece it lies in, shaped as t.
        offset: the number of its first stage among those of the mesh, where a step is made of several.
    """

    n: int
    h: float | Tensor
    t: Tensor | None = None
    end: Tensor | None = None
    inside: Tensor | None = None
    offset: int = 0

    def moment(self, j: int, c: float) -> Moment:
        """When stage j is evaluated."""
        if self.t is None:
            return Moment(self.n, self.offset + j)
        assert self.end is not None
        time = self.t if c == 0 else self.end if c == 1 else torch.lerp(self.t, self.end, c)
        return Moment(self.n, j, time, self.inside)


def stages(
    dynamics: Dynamics,
    tableau: Tableau,
    x: Tensor,
    step: Step,
    *,
    first: Tensor | None = None,
    slopes: int | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    """The stage states X_j and slopes k_j of a step from x.

    Args:
        dynamics: dX/dt.
        tableau: the method.
        x: where the step starts.
        step: its place in time.
        first: the first slope, where it is known from the step before.
        slopes: how many slopes to evaluate; all where None.
    """
    states: list[Tensor] = []
    found: list[Tensor] = []
    wanted = tableau.stages if slopes is None else slopes
    asked = range(0 if first is None else 1, wanted)
    moments = dict(zip(asked, dynamics.ahead([step.moment(j, tableau.c[j]) for j in asked]), strict=True))
    for j, row in enumerate(tableau.a):
        states.append(along(x, step.h, row, found))
        if j < wanted:
            if j == 0 and first is not None:
                found.append(first)
            else:
                found.append(dynamics.velocity(states[j], moments[j]))
    return states, found


def along(x: Tensor, h: float | Tensor, weights: Sequence[float | Tensor], slopes: Sequence[Tensor]) -> Tensor:
    """X + h sum_j weights_j slopes_j; weights may be numbers or tensors of shape (rows, 1)."""
    if not isinstance(h, Tensor):
        for weight, slope in zip(weights, slopes, strict=False):
            if isinstance(weight, Tensor):
                x = torch.addcmul(x, slope, h * weight)
            elif weight:
                x = x.add(slope, alpha=h * weight)
        return x
    total = combine(weights, slopes, h)
    return x if total is None else x + total


def combine(weights: Sequence[float | Tensor], slopes: Sequence[Tensor], scale: float | Tensor = 1.0) -> Tensor | None:
    """Scale times sum_j weights_j slopes_j, or None where every weight is the number 0."""
    # A scale that is a number goes into the weights, one that is a tensor multiplies the sum once.
    factor = 1.0 if isinstance(scale, Tensor) else scale
    total: Tensor | None = None
    for weight, slope in zip(weights, slopes, strict=False):
        if isinstance(weight, Tensor):
            term = (factor * weight) * slope
            total = term if total is None else total + term
        elif weight:
            by = factor * weight
            total = (slope if by == 1 else by * slope) if total is None else total.add(slope, alpha=by)
    return total if total is None or not isinstance(scale, Tensor) else scale * total


def dense_weights(tableau: Tableau, theta: float | Tensor) -> list[float | Tensor]:
    """b_j(theta) of the continuous extension x(t + theta h) = x + h sum_j b_j(theta) k_j."""
    weights: list[float | Tensor] = []
    for row in tableau.dense:
        value: float | Tensor = 0.0
        for coefficient in reversed(row):
            value = (value + coefficient) * theta
        weights.append(value)
    return weights
