"""Controlled fields as right-hand sides, with the control asked stage by stage or known on a mesh."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from cde_nets.controls import Control
from cde_nets.fields.base import Fields
from cde_nets.fields.linearized import Linearized
from cde_nets.solver.dynamics.base import Adjoint, Dynamics, Moment, Stages, plus
from cde_nets.solver.states import real


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
        if at.u is not None:
            return at.u
        assert at.time is not None
        assert at.inside is not None
        u = self.control.at(at.time[:, 0], at.inside[:, 0])
        return u[0] if u.shape[0] == 1 else u

    def ahead(self, moments: Sequence[Moment]) -> Sequence[Moment]:
        """With the control's values, asked for once; not where rows have a control each."""
        if self.control.rows is not None:
            return moments
        # Stages at the step's end share its very tensor.
        asked = {
            id(at.time): (at.time[:, 0], at.inside[:, 0])
            for at in moments
            if at.time is not None and at.inside is not None
        }
        if len(asked) < 2:
            return moments
        times, inside = zip(*asked.values(), strict=True)
        values = self.control.at(torch.cat(times), torch.cat(inside)).split(len(times[0]))
        found = dict(zip(asked, (u[0] if len(u) == 1 else u for u in values), strict=True))
        return [at._replace(u=found[id(at.time)]) for at in moments]

    def adjoint(self) -> Adjoint:
        """Moments go through the control at once, stage by stage."""
        return _ControlledAdjoint(self)

    def on(self, leaves: Sequence[Tensor]) -> Dynamics:
        """The control holds its own tensors: they are the leaves, or the steps are on a mesh."""
        return self

    def bind(self, mesh: Sequence[float], nodes: Sequence[float]) -> Dynamics:
        """With the control's values at every stage, which are then the leaves."""
        values = self.control.on_mesh(mesh, nodes)
        if len(self.families) == 1:
            return OnMesh(list(self.families) * (len(mesh) - 1), values)
        middles = [(s + t) / 2 for s, t in itertools.pairwise(mesh)]
        pieces = np.sort(np.asarray(self.control.breakpoints))
        return OnMesh([self.families[int(np.searchsorted(pieces, t))] for t in middles], values)


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

    def linearize(self, x: Tensor, at: Moment) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The control is asked once for both."""
        with torch.enable_grad():
            u = self._dynamics.values(at)
        family, plain = self._dynamics.families[0], u.detach()

        def pull(w: Tensor) -> Tensor:
            state, moments = _pullback(family, x, plain, w)
            self._through_control(u, moments)
            return state

        return _velocity(family, x, plain), pull

    def at_points(self, x: Tensor, times: Tensor, inside: Tensor) -> Stages | None:
        control, family = self._dynamics.control, self._dynamics.families[0]
        if control.rows is not None:
            return None
        with torch.enable_grad():
            u = control.at(times[:, 0], inside[:, 0])
        points = family._linearize(x.to(family.dtype), u.detach().to(real(family.dtype)))
        return _ControlledStages(points, x.dtype, family.dtype, lambda w: self._through_points(u, points, w))

    def _through_points(self, u: Tensor, points: Linearized, w: Tensor) -> None:
        if u.requires_grad:
            self._through_control(u, points.moments(w))

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
                self._sums[k] = plus(self._sums[k], part)

    def gradients(self) -> tuple[Tensor | None, ...]:
        return tuple(self._sums)


class _ControlledStages(Stages):
    """In the fields' own precision, as `_pullback`."""

    def __init__(
        self, points: Linearized, outer: torch.dtype, inner: torch.dtype, through: Callable[[Tensor], None]
    ) -> None:
        self._points, self._outer, self._inner, self._through = points, outer, inner, through

    def pull(self, at: slice, w: Tensor) -> Tensor:
        return self._points.pull(at, w.to(self._inner)).to(self._outer)

    def add(self, w: Tensor) -> None:
        self._through(w.to(self._inner))


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
