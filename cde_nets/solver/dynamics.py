"""What a flow's right-hand side is to a step: a velocity, and what transposes it."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cde_nets.controls import Control
from cde_nets.fields.base import Fields
from cde_nets.fields.trace import jacobian_trace
from cde_nets.solver.function import PackedFunction
from cde_nets.solver.states import Packing, real


class Moment(NamedTuple):
    """When a stage is evaluated.

    Attributes:
        n: the step, on a mesh that is known beforehand.
        j: the stage.
        time: float64, shape (rows, 1), or (1, 1) where the rows step together; None on a mesh known beforehand.
        inside: a time within the smooth piece that the step lies in, shaped as time.
    """

    n: int
    j: int
    time: Tensor | None = None
    inside: Tensor | None = None


class Adjoint(ABC):
    """Sums, stage by stage, the cotangents of what the rows share."""

    @abstractmethod
    def pull(self, x: Tensor, at: Moment, w: Tensor) -> Tensor:
        """w^T D_x(velocity); what w gives the leaves is added to their sums."""

    def add(self, x: Tensor, at: Moment, w: Tensor) -> None:
        """Only what w gives the leaves."""
        self.pull(x, at, w)

    def linearize(self, x: Tensor, at: Moment) -> tuple[Tensor, Callable[[Tensor], Tensor]] | None:
        """The velocity and the `pull` there, where one evaluation gives both; None where it does not."""
        return None

    def pull_divergence(self, x: Tensor, at: Moment, w: Tensor) -> Tensor:
        """W D_x(divergence), w of shape (rows,); what w gives the leaves is added to their sums."""
        raise TypeError(f"{type(self).__name__} does not differentiate its divergence; take gradient=Autograd().")

    @abstractmethod
    def gradients(self) -> tuple[Tensor | None, ...]:
        """The sums, in the order of the dynamics' leaves."""


class Dynamics(ABC):
    """dX/dt as a function of packed states, shape (rows, numbers).

    Attributes:
        leaves: the tensors besides the state that velocity depends on and that may want a gradient.
        replaceable: whether `on` puts other tensors in their place.
    """

    leaves: tuple[Tensor, ...]
    replaceable: bool = True

    @abstractmethod
    def velocity(self, x: Tensor, at: Moment) -> Tensor:
        """Shape (rows, numbers)."""

    def divergence(self, x: Tensor, at: Moment) -> Tensor:
        """The exact trace of the velocity's Jacobian, row by row, shape (rows,); a product for every number."""
        return jacobian_trace(lambda y: self.velocity(y, at), x)

    @abstractmethod
    def adjoint(self) -> Adjoint:
        """A new sum of cotangents."""

    @abstractmethod
    def on(self, leaves: Sequence[Tensor]) -> Dynamics:
        """The same dynamics with other tensors in the place of its leaves."""

    def with_costate(self, x: Tensor, p: Tensor, at: Moment) -> tuple[Tensor, Tensor]:
        """The velocity and D(velocity)^T p."""
        return self.velocity(x, at), self.adjoint().pull(x, at, p)

    def bind(self, mesh: Sequence[float], nodes: Sequence[float]) -> Dynamics:
        """The same on a mesh known beforehand, where a moment is a step and a stage."""
        return self


class Controlled(Dynamics):
    """sum_i u_i(t) V_i(x), the control evaluated when it is asked for."""

    replaceable = False

    def __init__(self, families: Sequence[Fields], control: Control) -> None:
        self.families, self.control = families, control
        self.leaves = tuple(control.leaves)

    def velocity(self, x: Tensor, at: Moment) -> Tensor:
        """One family over the whole time."""
        return _velocity(self.families[0], x, self.values(at))

    def divergence(self, x: Tensor, at: Moment) -> Tensor:
        """In closed form."""
        return _divergence(self.families[0], x, self.values(at))

    def values(self, at: Moment) -> Tensor:
        """U at a moment: (rows, count), or (count,) where the rows are at one time and share the control."""
        assert at.time is not None
        assert at.inside is not None
        u = self.control.at(at.time[:, 0], at.inside[:, 0])
        return u[0] if u.shape[0] == 1 else u

    def adjoint(self) -> Adjoint:
        """Moments go through the control at once, stage by stage."""
        return _ControlledAdjoint(self)

    def on(self, leaves: Sequence[Tensor]) -> Dynamics:
        """The control holds its own tensors: they are the leaves, or the steps are on a mesh."""
        return self

    def bind(self, mesh: Sequence[float], nodes: Sequence[float]) -> Dynamics:
        """With the control's values at every stage, which are then the leaves."""
        middles = [(s + t) / 2 for s, t in itertools.pairwise(mesh)]
        pieces = np.sort(np.asarray(self.control.breakpoints))
        each = [self.families[0 if len(self.families) == 1 else int(np.searchsorted(pieces, t))] for t in middles]
        return OnMesh(each, self.control.on_mesh(mesh, nodes))


class _ControlledAdjoint(Adjoint):
    def __init__(self, dynamics: Controlled) -> None:
        self._dynamics = dynamics
        self._sums: list[Tensor | None] = [None] * len(dynamics.leaves)

    def pull(self, x: Tensor, at: Moment, w: Tensor) -> Tensor:
        with torch.enable_grad():
            u = self._dynamics.values(at)
        state, moments = _pullback(self._dynamics.families[0], x, u.detach(), w)
        self._through_control(u, moments)
        return state

    def pull_divergence(self, x: Tensor, at: Moment, w: Tensor) -> Tensor:
        with torch.enable_grad():
            u = self._dynamics.values(at)
        state, moments = _divergence_pullback(self._dynamics.families[0], x, u.detach(), w)
        self._through_control(u, moments)
        return state

    def _through_control(self, u: Tensor, moments: Tensor) -> None:
        leaves = self._dynamics.leaves
        wanted = [k for k, leaf in enumerate(leaves) if leaf.requires_grad]
        if wanted and u.requires_grad:
            found = torch.autograd.grad(u, [leaves[k] for k in wanted], moments.to(u.dtype), allow_unused=True)
            for k, part in zip(wanted, found, strict=True):
                self._sums[k] = _plus(self._sums[k], part)

    def gradients(self) -> tuple[Tensor | None, ...]:
        return tuple(self._sums)


class OnMesh(Dynamics):
    """sum_i u_i V_i(x) with the control's values at every stage of every step, and a family for each step."""

    def __init__(self, families: Sequence[Fields], values: Tensor) -> None:
        self.families, self.values = families, values
        self.leaves = (values,)

    def velocity(self, x: Tensor, at: Moment) -> Tensor:
        """The values of shape (steps, stages, count) or (steps, stages, rows, count) are looked up."""
        return _velocity(self.families[at.n], x, self.values[at.n, at.j])

    def divergence(self, x: Tensor, at: Moment) -> Tensor:
        """In closed form."""
        return _divergence(self.families[at.n], x, self.values[at.n, at.j])

    def adjoint(self) -> Adjoint:
        """Moments are kept for each stage: nothing is summed over time."""
        return _OnMeshAdjoint(self)

    def on(self, leaves: Sequence[Tensor]) -> Dynamics:
        """The same families driven by other values."""
        return OnMesh(self.families, leaves[0])


class _OnMeshAdjoint(Adjoint):
    def __init__(self, dynamics: OnMesh) -> None:
        self._dynamics = dynamics
        self._moments: dict[tuple[int, int], Tensor] = {}

    def pull(self, x: Tensor, at: Moment, w: Tensor) -> Tensor:
        state, moments = _pullback(self._dynamics.families[at.n], x, self._dynamics.values[at.n, at.j], w)
        self._keep(at, moments)
        return state

    def add(self, x: Tensor, at: Moment, w: Tensor) -> None:
        family, u = self._dynamics.families[at.n], self._dynamics.values[at.n, at.j].to(self._control_dtype(at))
        self._keep(at, family.moments(x.to(family.dtype), u, w.to(family.dtype)))

    def pull_divergence(self, x: Tensor, at: Moment, w: Tensor) -> Tensor:
        family, u = self._dynamics.families[at.n], self._dynamics.values[at.n, at.j]
        state, moments = _divergence_pullback(family, x, u, w)
        self._keep(at, moments)
        return state

    def _control_dtype(self, at: Moment) -> torch.dtype:
        return real(self._dynamics.families[at.n].dtype)

    def _keep(self, at: Moment, moments: Tensor) -> None:
        place = (at.n, at.j)
        self._moments[place] = moments if place not in self._moments else self._moments[place] + moments

    def gradients(self) -> tuple[Tensor | None, ...]:
        values = self._dynamics.values
        steps, stages = values.shape[:2]
        # Stages that no weight reaches, or steps that were not walked back, have no moment.
        zero = torch.zeros_like(values[0, 0])
        flat = [self._moments.get((n, j), zero).to(values.dtype) for n in range(steps) for j in range(stages)]
        return (torch.stack(flat).reshape(values.shape),)


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

    def on(self, leaves: Sequence[Tensor]) -> Dynamics:
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
        for t in self._breakpoints:
            asked = torch.where(times == t, torch.nextafter(asked, inside.to(dtype)), asked)
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

    def _sum(self, cotangents: Sequence[Tensor]) -> Tensor:
        state, *parts = cotangents
        self._sums = [_plus(total, part) for total, part in zip(self._sums, parts, strict=True)]
        return state

    def pull_divergence(self, x: Tensor, at: Moment, w: Tensor) -> Tensor:
        dynamics = self._dynamics

        def divergence(y: Tensor, *leaves: Tensor) -> Tensor:
            return dynamics.on(leaves).divergence(y, at)

        state, *parts = torch.func.vjp(divergence, x, *dynamics.leaves)[1](w)
        self._sums = [_plus(total, part) for total, part in zip(self._sums, parts, strict=True)]
        found: Tensor = state
        return found

    def gradients(self) -> tuple[Tensor | None, ...]:
        return tuple(self._sums)


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


def _velocity(fields: Fields, x: Tensor, u: Tensor) -> Tensor:
    """In the fields' own precision: coefficients of bfloat16 may drive a state of float32."""
    dtype = fields.dtype
    if x.dtype == dtype:
        return fields.velocity(x, u.to(real(dtype)))
    return fields.velocity(x.to(dtype), u.to(real(dtype))).to(x.dtype)


def _pullback(fields: Fields, x: Tensor, u: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    dtype = fields.dtype
    if x.dtype == dtype:
        back = fields.pullback(x, u.to(real(dtype)), w)
        return back.state, back.control
    back = fields.pullback(x.to(dtype), u.to(real(dtype)), w.to(dtype))
    return back.state.to(x.dtype), back.control


def _divergence(fields: Fields, x: Tensor, u: Tensor) -> Tensor:
    dtype = fields.dtype
    return fields.divergence(x.to(dtype), u.to(real(dtype))).to(x.dtype)


def _divergence_pullback(fields: Fields, x: Tensor, u: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """The cotangents of the state and of u, given w of shape (rows,); a formula, but derived by torch."""
    dtype = fields.dtype
    state, moments = torch.func.vjp(fields.divergence, x.to(dtype), u.to(real(dtype)))[1](w.to(dtype))
    return state.to(x.dtype), moments


def _plus(total: Tensor | None, part: Tensor | None) -> Tensor | None:
    return part if total is None else total if part is None else total + part
