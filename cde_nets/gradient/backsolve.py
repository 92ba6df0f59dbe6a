"""The continuous adjoint, solved backward in time: memory that does not grow, and an error of its own."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from cde_nets.errors import ConvergenceWarning, DivergedError
from cde_nets.gradient.base import Gradient, Settings
from cde_nets.gradient.declared import check_declared
from cde_nets.gradient.flows import Raw, finish, own_steps, run_flow, save_times
from cde_nets.options import options
from cde_nets.solve.dynamics import Adjoint, Counted, Dynamics, Moment
from cde_nets.solve.flow.adaptive import AdaptiveRungeKutta
from cde_nets.solve.flow.fixed import FixedRungeKutta
from cde_nets.solve.flow.record import States
from cde_nets.solve.flow.runge_kutta import RungeKutta
from cde_nets.solve.flow.steps import stages
from cde_nets.solve.initial_value import InitialValueProblem
from cde_nets.solve.loop import Limits
from cde_nets.solve.method import Method
from cde_nets.solve.solution import Backward, SaveAt, Solution, Statistics
from cde_nets.solve.status import Status, succeeded
from cde_nets.solve.tolerance import Tolerance


@options
class Backsolve(Gradient):
    """dp/dt = -D(velocity)(X)^T p backward from the end, X solved anew backward beside it; inexact.

    The gradient of the continuous flow, up to the error of two discretisations, and not of the steps that were taken:
    with Euler at the steps of a piecewise-constant control it is commonly off by tens of percent, it converges with the
    method's order as steps shrink, and a flow that contracts is unstable to solve backward (Chen et al., "Neural
    ordinary differential equations", 2018; Gholami, Keutzer and Biros, "ANODE", 2019). Memory is one state, or the
    saved ones. Rows that fail on the way back give zero and are counted in the solution's `backward`.

    Args:
        method: of the way back; a `RungeKutta`, that of the way forth where None.
        tolerance: of the way back; that of the way forth where None.
    """

    solves: ClassVar[tuple[str, ...]] = ("flow",)

    method: RungeKutta | None = None
    tolerance: Tolerance | None = None

    def solve(self, problem: InitialValueProblem, method: Method, settings: Settings) -> Solution:
        """As `Gradient.solve`.

        Raises:
            ValueError: a manifold, an event or a method that the continuous adjoint does not know.
        """
        back = method if self.method is None else self.method
        if not isinstance(back, RungeKutta):
            raise ValueError(
                f"{type(method).__name__} does not say how to go back: give Backsolve(method=RungeKutta(..)), or take "
                "gradient=Autograd()."
            )
        for name, value in (("manifold", problem.manifold), ("event", problem.event)):
            if value is not None:
                raise ValueError(
                    f"Backsolve follows the continuous flow, and knows no {name}; take gradient=Discrete()"
                    + (" or SphericalFields." if name == "manifold" else ".")
                )
        saves, at_start = save_times(problem, settings.save_at.times)
        scheme = own_steps(method.resolve(problem, saves), "Backsolve")
        with torch.no_grad():
            ran = run_flow(problem, scheme, settings, saves, None)
        raw, backward = ran.raw, None
        if torch.is_grad_enabled():
            check_declared(problem)
            plan = _Plan(problem, back, settings, self.tolerance or settings.tolerance, saves)
            x0 = problem.packed()
            if any(t.requires_grad for t in (x0, *plan.leaves)):
                alive = succeeded(ran.iterate.status)
                raw = Raw(*_Backsolve.apply(plan, x0, *plan.leaves, raw.end, raw.saved, alive))  # type: ignore[no-untyped-call]
                backward = plan.backward
        made = finish(problem, ran, raw, lambda: scheme.dynamics.calls, settings, at_start=at_start)
        return made if backward is None else made.differentiable(made.value, backward)


@dataclass(eq=False)
class _Plan:
    """The way back: its stretches between save times, last first, and their right-hand sides."""

    problem: InitialValueProblem
    method: RungeKutta
    settings: Settings
    tolerance: Tolerance
    saves: Sequence[float]
    backward: Backward = field(default_factory=Backward)
    stretches: list[tuple[tuple[float, ...], Dynamics]] = field(default_factory=list)

    def __post_init__(self) -> None:
        problem = self.problem
        ends = sorted({problem.t0, *self.saves, problem.t1}, reverse=problem.t0 < problem.t1)
        whole = self.method.grid(problem) if self.method.fixed else ()
        for late, early in pairwise(ends):
            low, high = sorted((late, early))
            inner = {t for t in whole if low < t < high}
            mesh = tuple(sorted({late, early, *inner}, reverse=problem.t0 < problem.t1))
            dynamics = problem.dynamics
            if self.method.fixed:
                dynamics = dynamics.bind(mesh, self.method.tableau.bare.c)
            self.stretches.append((mesh, dynamics))

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """Of every stretch where steps are fixed, else of the flow."""
        if not self.method.fixed:
            return self.problem.dynamics.leaves
        return tuple(leaf for _, dynamics in self.stretches for leaf in dynamics.leaves)


class _Backsolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: _Plan, x0: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        *leaves, end, saved, alive = tensors
        ctx.plan = plan
        ctx.save_for_backward(*leaves, end, saved, alive)
        return end.clone(), saved.clone()

    @staticmethod
    def backward(ctx: Any, p: Tensor, q: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "Backsolve gives first derivatives only; create_graph=True asks for more. Take gradient=Discrete()."
            )
        plan: _Plan = ctx.plan
        *leaves, end, saved, alive = ctx.saved_tensors
        walk = _Walk(plan, leaves, end, p, alive)
        for number, (mesh, dynamics) in enumerate(plan.stretches):
            if mesh[0] in plan.saves:
                place = plan.saves.index(mesh[0])
                walk.meet(saved[place], q[place])
            walk.over(number, mesh, dynamics)
        walk.report()
        return None, walk.p, *walk.gradients(), None, None, None


class _Walk:
    """Solves the pair (X, p) backward, stretch by stretch, and integrates what the leaves get."""

    def __init__(self, plan: _Plan, leaves: Sequence[Tensor], x: Tensor, p: Tensor, alive: Tensor) -> None:
        self._plan, self._leaves, self._alive = plan, list(leaves), alive
        self._x, self.p = x, torch.where(alive[:, None], p, 0.0)
        self._adjoints: list[Adjoint] = []
        self._shared = None if plan.method.fixed else plan.problem.dynamics.adjoint()
        self._status = torch.full(alive.shape, int(Status.DONE), device=x.device)
        self._statistics: list[Statistics] = []

    def meet(self, x: Tensor, q: Tensor) -> None:
        """A saved state: X is set to it, and its cotangent added."""
        self._x, self.p = x, self.p + torch.where(self._alive[:, None], q, 0.0)

    def over(self, number: int, mesh: Sequence[float], dynamics: Dynamics) -> None:
        """Solve a stretch backward."""
        plan = self._plan
        if plan.method.fixed:
            own, self._leaves = self._leaves[: len(dynamics.leaves)], self._leaves[len(dynamics.leaves) :]
            dynamics = dynamics.on(own)
        adjoint = dynamics.adjoint() if self._shared is None else self._shared
        pair = Counted(_Pair(dynamics))
        # A failed row stands still with cotangent zero, on a living row's place.
        if len(self._alive):
            donor = self._x.index_select(0, self._alive.to(torch.uint8).argmax()[None])
            self._x = torch.where(self._alive[:, None], self._x, donor)
        problem = InitialValueProblem.of_dynamics(
            pair,
            torch.cat([self._x, self.p], 1),
            mesh[0],
            mesh[-1],
            breakpoints=plan.problem.breakpoints,
            jumps=plan.problem.jumps,
            single=plan.problem.packing.single,
        )
        scheme: FixedRungeKutta | AdaptiveRungeKutta
        if plan.method.fixed:
            scheme = FixedRungeKutta(plan.method.tableau.bare, mesh, pair)
        else:
            found = plan.method.resolve(problem)
            assert isinstance(found, AdaptiveRungeKutta)
            scheme, pair = found, found.dynamics
        limits = Limits(plan.tolerance, plan.settings.max_steps)
        settings = Settings(limits.tolerance, limits.max_steps, False, None, SaveAt())
        keep = States()
        ran = run_flow(problem, scheme, settings, (), keep)
        good = succeeded(ran.iterate.status)
        self._status = torch.where(good, self._status, ran.iterate.status)
        self._alive = self._alive & good
        for n, taken in enumerate(ran.recorder.taken):
            self._integrate(dynamics, adjoint, scheme, keep.kept[n], taken.step, taken.moved & self._alive)
        self._x, p = ran.iterate.value.chunk(2, 1)
        self.p = torch.where(self._alive[:, None], p, 0.0)
        self._statistics.append(Statistics(ran.iterate.accepted, ran.iterate.rejected, pair.calls))
        self._adjoints.append(adjoint)

    def gradients(self) -> list[Tensor | None]:
        """Of the leaves, in the order of the plan."""
        if self._shared is not None:
            return list(self._shared.gradients())
        return [part for adjoint in self._adjoints for part in adjoint.gradients()]

    def report(self) -> None:
        """Leave statuses and statistics where the solution can see them; raise or warn where rows failed."""
        first, *others = self._statistics
        accepted, rejected, calls = first.accepted, first.rejected, first.evaluations
        for other in others:
            accepted, rejected = accepted + other.accepted, rejected + other.rejected
            calls += other.evaluations
        self._plan.backward.status = self._status
        self._plan.backward.statistics = Statistics(accepted, rejected, calls)
        failed = int((~succeeded(self._status)).sum())
        if failed:
            message = (
                f"{failed} of {len(self._status)} rows could not be solved backward, and give no gradient: flows that "
                "contract are unstable backward in time. Take gradient=Discrete() or Checkpointed()."
            )
            if self._plan.settings.throw:
                raise DivergedError(message)
            warnings.warn(message, ConvergenceWarning, stacklevel=2)

    @staticmethod
    def _integrate(
        dynamics: Dynamics,
        adjoint: Adjoint,
        scheme: FixedRungeKutta | AdaptiveRungeKutta,
        start: Tensor,
        step: Any,
        moved: Tensor,
    ) -> None:
        """Integral of <p, d velocity / d leaf> over a step, by the method's own weights."""
        tableau = scheme.tableau
        states, _ = stages(_Pair(dynamics), tableau, start, step, slopes=tableau.stages - 1)
        for j, (state, weight) in enumerate(zip(states, tableau.b, strict=True)):
            if weight:
                x, p = state.chunk(2, 1)
                w = torch.where(moved[:, None], p * (-weight * step.h), 0.0)
                adjoint.add(torch.where(moved[:, None], x, start.chunk(2, 1)[0]), step.moment(j, tableau.c[j]), w)


class _Pair(Dynamics):
    """d(X, p)/dt = (velocity, -D(velocity)^T p), side by side in one packed state."""

    leaves = ()

    def __init__(self, inner: Dynamics) -> None:
        self._inner = inner

    def velocity(self, x: Tensor, at: Moment) -> Tensor:
        """Both halves."""
        state, p = x.chunk(2, 1)
        return torch.cat([self._inner.velocity(state, at), -self._inner.adjoint().pull(state, at, p)], 1)

    def adjoint(self) -> Adjoint:
        """Nobody differentiates the way back."""
        raise TypeError("the continuous adjoint is not differentiated again")

    def on(self, leaves: Sequence[Tensor]) -> Dynamics:
        """There are no leaves."""
        return self
