"""Right-hand sides made of others: sums, log-determinants, counts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cde_nets.solver.dynamics.base import Adjoint, Dynamics, Moment


class Sum(Dynamics):
    """Several right-hand sides added: a controlled flow and its drift."""

    def __init__(self, parts: Sequence[Dynamics]) -> None:
        self.parts = tuple(parts)
        self.leaves = tuple(leaf for part in self.parts for leaf in part.leaves)
        self.replaceable = all(part.replaceable for part in self.parts)

    def velocity(self, x: Tensor, at: Moment) -> Tensor:
        """Each part's, added in order."""
        total = self.parts[0].velocity(x, at)
        for part in self.parts[1:]:
            total = total + part.velocity(x, at)
        return total

    def divergence(self, x: Tensor, at: Moment) -> Tensor:
        """Each part's, added in order."""
        total = self.parts[0].divergence(x, at)
        for part in self.parts[1:]:
            total = total + part.divergence(x, at)
        return total

    def adjoint(self) -> Adjoint:
        """Each part's own."""
        return _SumAdjoint([part.adjoint() for part in self.parts])

    def on(self, leaves: Sequence[Tensor]) -> Dynamics:
        """Each part with its share."""
        rest, parts = list(leaves), []
        for part in self.parts:
            own, rest = rest[: len(part.leaves)], rest[len(part.leaves) :]
            parts.append(part.on(own))
        return Sum(parts)

    def bind(self, mesh: Sequence[float], nodes: Sequence[float]) -> Dynamics:
        """Each part bound."""
        return Sum([part.bind(mesh, nodes) for part in self.parts])


class _SumAdjoint(Adjoint):
    def __init__(self, parts: Sequence[Adjoint]) -> None:
        self._parts = parts

    def pull(self, x: Tensor, at: Moment, w: Tensor) -> Tensor:
        first, *others = [part.pull(x, at, w) for part in self._parts]
        for other in others:
            first = first + other
        return first

    def add(self, x: Tensor, at: Moment, w: Tensor) -> None:
        for part in self._parts:
            part.add(x, at, w)

    def pull_divergence(self, x: Tensor, at: Moment, w: Tensor) -> Tensor:
        first, *others = [part.pull_divergence(x, at, w) for part in self._parts]
        for other in others:
            first = first + other
        return first

    def gradients(self) -> tuple[Tensor | None, ...]:
        return tuple(found for part in self._parts for found in part.gradients())


class WithLogDeterminant(Dynamics):
    """(dX/dt, d log|det D X| / dt) = (velocity, divergence), the second in the last column of the packed state.

    Liouville's formula; Chen et al., "Neural ordinary differential equations" (2018), call it the instantaneous change
    of variables.
    """

    def __init__(self, inner: Dynamics) -> None:
        self.inner, self.leaves, self.replaceable = inner, inner.leaves, inner.replaceable

    def velocity(self, x: Tensor, at: Moment) -> Tensor:
        """Both."""
        state = x[:, :-1]
        return torch.cat([self.inner.velocity(state, at), self.inner.divergence(state, at)[:, None]], 1)

    def divergence(self, x: Tensor, at: Moment) -> Tensor:
        """That of the flow alone: nothing depends on the last column."""
        return self.inner.divergence(x[:, :-1], at)

    def adjoint(self) -> Adjoint:
        """The inner one's, with the divergence's pullback."""
        return _WithLogDeterminantAdjoint(self.inner.adjoint())

    def on(self, leaves: Sequence[Tensor]) -> Dynamics:
        """With the inner one's leaves replaced."""
        return WithLogDeterminant(self.inner.on(leaves))

    def bind(self, mesh: Sequence[float], nodes: Sequence[float]) -> Dynamics:
        """With the inner one bound."""
        return WithLogDeterminant(self.inner.bind(mesh, nodes))


class _WithLogDeterminantAdjoint(Adjoint):
    def __init__(self, inner: Adjoint) -> None:
        self._inner = inner

    def pull(self, x: Tensor, at: Moment, w: Tensor) -> Tensor:
        state, last = x[:, :-1], w[:, -1]
        found = self._inner.pull(state, at, w[:, :-1]) + self._inner.pull_divergence(state, at, last)
        return torch.cat([found, torch.zeros_like(w[:, -1:])], 1)

    def pull_divergence(self, x: Tensor, at: Moment, w: Tensor) -> Tensor:
        return torch.cat([self._inner.pull_divergence(x[:, :-1], at, w), torch.zeros_like(x[:, -1:])], 1)

    def gradients(self) -> tuple[Tensor | None, ...]:
        return self._inner.gradients()


class Counted(Dynamics):
    """Dynamics that count how often they are evaluated; all rows at once are one evaluation."""

    def __init__(self, inner: Dynamics) -> None:
        self.inner, self.leaves, self.calls = inner, inner.leaves, 0

    def velocity(self, x: Tensor, at: Moment) -> Tensor:
        """The inner one's."""
        self.calls += 1
        return self.inner.velocity(x, at)

    def ahead(self, moments: Sequence[Moment]) -> Sequence[Moment]:
        """The inner one's."""
        return self.inner.ahead(moments)

    def divergence(self, x: Tensor, at: Moment) -> Tensor:
        """The inner one's."""
        return self.inner.divergence(x, at)

    def adjoint(self) -> Adjoint:
        """The inner one's."""
        return self.inner.adjoint()

    def on(self, leaves: Sequence[Tensor]) -> Dynamics:
        """The inner one's, uncounted."""
        return self.inner.on(leaves)

    def bind(self, mesh: Sequence[float], nodes: Sequence[float]) -> Dynamics:
        """Bound and counted from zero."""
        return Counted(self.inner.bind(mesh, nodes))
