"""A user's function or module as a right-hand side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cde_nets.solver.dynamics.base import Adjoint, Dynamics, Graph, Moment, plus
from cde_nets.solver.function import PackedFunction
from cde_nets.solver.opaque import opaque
from cde_nets.solver.states import Packing, real


class Called(Dynamics):
    """A user's f(t, x, *args): a function or a module, transposed by torch.func.

    Args:
        function: of a time and a state as the user knows it; the time is a tensor without axes, or has one number a
            row where rows step by themselves.
        args: passed on after the state; tensors among them get gradients.
        packing: of the state.
        breakpoints: times at which the function is never asked, but next to them, on the step's side.
    """

    def __init__(
        self, function: Callable[..., Any], args: Sequence[Any], packing: Packing, breakpoints: Sequence[float] = ()
    ) -> None:
        self._set(PackedFunction(function, args, packing, "The field's value"), tuple(breakpoints), None)

    def _set(self, function: PackedFunction, breakpoints: tuple[float, ...], times: Tensor | None) -> Called:
        self.function, self.leaves, self._breakpoints, self._times = function, function.leaves, breakpoints, times
        return self

    def velocity(self, x: Tensor, at: Moment) -> Tensor:
        """The function's value, checked and packed."""
        return self.function(x, self._time(at))

    def adjoint(self) -> Adjoint:
        """By torch.func.vjp."""
        return _CalledAdjoint(self)

    def on(self, leaves: Sequence[Tensor]) -> Called:
        """With other parameters and arguments."""
        return Called.__new__(Called)._set(self.function.on(leaves), self._breakpoints, self._times)

    def bind(self, mesh: Sequence[float], nodes: Sequence[float]) -> Dynamics:
        """With the times of all stages on the device at once: reading none of them back."""
        start, end = np.asarray(mesh[:-1])[:, None], np.asarray(mesh[1:])[:, None]
        # So written, the nodes 0 and 1 are the step's ends to the last bit.
        times = torch.from_numpy((1 - np.asarray(nodes)) * start + np.asarray(nodes) * end)
        packing = self.function.packing
        asked = self._beside(times, torch.from_numpy((start + end) / 2)).to(packing.device)
        return Called.__new__(Called)._set(self.function, self._breakpoints, asked)

    def transposed(self, x: Tensor, at: Moment, w: Tensor) -> tuple[Tensor, ...]:
        """The cotangents of the state and of every leaf."""
        return self.function.pullback(x, w, self._time(at))

    def linearize(self, x: Tensor, at: Moment) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, ...]]]:
        """The velocity, and w -> the cotangents of the state and of every leaf: one evaluation for both."""
        return self.function.linearize(x, self._time(at))

    def with_costate(self, x: Tensor, p: Tensor, at: Moment) -> tuple[Tensor, Tensor]:
        """One evaluation for both; the leaves are left out."""
        velocity, pull = self.function.transposed(x, self._time(at))
        return velocity, pull(p)

    def _time(self, at: Moment) -> Tensor:
        if at.time is None:
            assert self._times is not None
            return self._times[at.n, at.j]
        assert at.inside is not None
        return self.function.packing.time(self._beside(at.time, at.inside))

    def _beside(self, times: Tensor, inside: Tensor) -> Tensor:
        """Times in the state's real dtype; those that are a breakpoint moved by one bit to where the step is."""
        dtype = real(self.function.packing.dtype)
        asked = times.to(dtype)
        if not self._breakpoints:
            return asked
        inside = inside.to(dtype)
        for t in self._breakpoints:
            # As the state's dtype knows them: a time next to a breakpoint may be rounded to it.
            asked = torch.where(asked == t, torch.nextafter(asked, inside), asked)
        return asked


class _CalledAdjoint(Adjoint):
    def __init__(self, dynamics: Called) -> None:
        self._dynamics = dynamics
        self._sums: list[Tensor | None] = [None] * len(dynamics.leaves)

    def pull(self, x: Tensor, at: Moment, w: Tensor) -> Tensor:
        return self._sum(self._dynamics.transposed(x, at, w))

    def linearize(self, x: Tensor, at: Moment) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        velocity, pull = self._dynamics.linearize(x, at)
        return velocity, lambda w: self._sum(pull(w))

    def graph(self, x: Tensor) -> Graph | None:
        # Transforms differentiate by themselves, and no autograd of ours below them.
        return None if opaque() or torch.is_grad_enabled() else _CalledGraph(self._dynamics, self._take, x)

    def _sum(self, cotangents: Sequence[Tensor]) -> Tensor:
        state, *parts = cotangents
        self._take(parts)
        return state

    def _take(self, parts: Sequence[Tensor | None]) -> None:
        self._sums = [plus(total, part) for total, part in zip(self._sums, parts, strict=True)]

    def pull_divergence(self, x: Tensor, at: Moment, w: Tensor) -> Tensor:
        dynamics = self._dynamics

        def divergence(y: Tensor, *leaves: Tensor) -> Tensor:
            return dynamics.on(leaves).divergence(y, at)

        state, *parts = torch.func.vjp(divergence, x, *dynamics.leaves)[1](w)
        self._take(parts)
        found: Tensor = state
        return found

    def gradients(self) -> tuple[Tensor | None, ...]:
        return tuple(self._sums)


class _CalledGraph(Graph):
    """All stages of a step in one graph: autograd's engine is started once, and torch.func not at all."""

    def __init__(self, dynamics: Called, take: Callable[[Sequence[Tensor | None]], None], x: Tensor) -> None:
        leaves = [leaf if _bare(leaf) else leaf.detach().requires_grad_() for leaf in dynamics.leaves]
        self.dynamics, self._take = dynamics.on(leaves), take
        self.x = x.detach().requires_grad_()
        self._inputs = (self.x, *leaves)
        self._undeclared = dynamics.function.undeclared

    def pull(self, values: Sequence[Tensor], w: Sequence[Tensor]) -> Tensor:
        if _depend_on_more(values, self._inputs):
            raise RuntimeError(self._undeclared)
        pairs = [(value, q) for value, q in zip(values, w, strict=True) if value.requires_grad]
        if not pairs:
            return torch.zeros_like(self.x)
        found = torch.autograd.grad(
            [value for value, _ in pairs], self._inputs, [q for _, q in pairs], allow_unused=True
        )
        state: Tensor | None
        state, *parts = found
        self._take(parts)
        return torch.zeros_like(self.x) if state is None else state


def _bare(leaf: Tensor) -> bool:
    """Whether a tensor may stand in a graph itself: nothing is behind it, and no hook sees what it gets there."""
    return leaf.is_leaf and leaf.requires_grad and not leaf._backward_hooks


def _depend_on_more(values: Sequence[Tensor], known: Sequence[Tensor]) -> bool:
    """Whether the values' graph reaches a tensor that wants a gradient and is not known."""
    own = {id(tensor) for tensor in known}
    todo = [value.grad_fn for value in values if value.grad_fn is not None]
    seen = set(todo)
    if any(value.grad_fn is None and value.requires_grad and id(value) not in own for value in values):
        return True
    while todo:
        for node, _ in todo.pop().next_functions:
            if node is None or node in seen:
                continue
            seen.add(node)
            if not node.next_functions:
                variable = getattr(node, "variable", None)
                if variable is not None and id(variable) not in own:
                    return True
            else:
                todo.append(node)
    return False
