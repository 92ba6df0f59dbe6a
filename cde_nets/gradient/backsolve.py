"""The continuous adjoint, solved backward in time: memory that does not grow, and an error of its own."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from cde_nets.autocast import without_autocast
from cde_nets.errors import ConvergenceWarning, DivergedError
from cde_nets.gradient.base import Gradient, Settings
from cde_nets.gradient.declared import check_declared, check_frozen
from cde_nets.gradient.flows import Raw, finish, own_steps, run_flow, save_times
from cde_nets.gradient.living import filled
from cde_nets.options import instead, options
from cde_nets.solver.dynamics import Adjoint, Counted, Dynamics, Moment
from cde_nets.solver.flow.adaptive import AdaptiveRungeKutta
from cde_nets.solver.flow.fixed import FixedRungeKutta
from cde_nets.solver.flow.runge_kutta import RungeKutta
from cde_nets.solver.flow.steps import stages
from cde_nets.solver.flow.tableau import Tableau
from cde_nets.solver.initial_value import InitialValueProblem
from cde_nets.solver.living import healed, stand_in
from cde_nets.solver.loop import Limits, run
from cde_nets.solver.method import Iterate, Method
from cde_nets.solver.solution import Backward, Solution, Statistics
from cde_nets.solver.status import Status, succeeded
from cde_nets.solver.tolerance import Tolerance, check_tolerance


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

    Raises:
        ValueError: a method that is no `RungeKutta`, a tolerance that is no `Tolerance`.
    """

    solves: ClassVar[tuple[str, ...]] = ("flow",)

    method: RungeKutta | None = None
    tolerance: Tolerance | None = None

    def __post_init__(self) -> None:
        """Check both."""
        if self.method is not None and not isinstance(self.method, RungeKutta):
            say = f": say cn.RungeKutta({self.method!r})" if isinstance(self.method, str) else instead(self.method)
            raise ValueError(
                f"Backsolve goes back by a RungeKutta, such as RungeKutta('dopri5'); got {self.method!r}{say}."
            )
        check_tolerance(self.tolerance)

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
        if torch.is_grad_enabled():
            check_frozen(problem)
            check_declared(problem)
        with torch.no_grad():
            ran = run_flow(problem, scheme, settings, saves, None)
        raw, backward = ran.raw, None
        if torch.is_grad_enabled():
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

    def velocities(self, leaves: Sequence[Tensor], x: Tensor) -> Tensor:
        """Of all stages of fixed steps, else at the ends and in the middle of smooth pieces; shape (rows, numbers)."""
        found, rest = [], list(leaves)
        if not self.method.fixed:
            dynamics, problem = self.problem.dynamics, self.problem
            dynamics = dynamics.on(leaves) if dynamics.replaceable else dynamics
            for start, end in pairwise((problem.t0, *problem.breakpoints, problem.t1)):
                times = torch.tensor([start, (start + end) / 2, end], dtype=torch.float64, device=x.device)
                inside = times[1].reshape(1, 1)
                found += [dynamics.velocity(x, Moment(0, 0, t.reshape(1, 1), inside)) for t in times]
            return torch.cat(found, 1)
        for mesh, bound in self.stretches:
            own, rest = rest[: len(bound.leaves)], rest[len(bound.leaves) :]
            dynamics = bound.on(own)
            moments = [Moment(n, j) for n in range(len(mesh) - 1) for j in range(self.method.tableau.bare.stages)]
            found += [dynamics.velocity(x, moment) for moment in moments]
        return torch.cat(found, 1)

    def walk(self, leaves: Sequence[Tensor], end: Tensor, saved: Tensor, p: Tensor, q: Tensor, alive: Tensor) -> _Walk:
        """All the way back, given the cotangents of end and saved states."""
        walk = _Walk(self, leaves, end, p, alive)
        for mesh, dynamics in self.stretches:
            if mesh[0] in self.saves:
                place = self.saves.index(mesh[0])
                walk.meet(saved[place], q[place])
            walk.over(mesh, dynamics)
        return walk


class _Backsolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: _Plan, x0: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        *leaves, end, saved, alive = tensors
        ctx.plan = plan
        ctx.save_for_backward(*leaves, end, saved, alive)
        return end.clone(), saved.clone()

    @staticmethod
    @without_autocast
    def backward(ctx: Any, p: Tensor, q: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "Backsolve gives first derivatives only; create_graph=True asks for more. Take gradient=Discrete()."
            )
        plan: _Plan = ctx.plan
        *leaves, end, saved, alive = ctx.saved_tensors
        walk = plan.walk(leaves, end, saved, p, q, alive)
        plan.backward.status, plan.backward.statistics = walk.status, walk.statistics
        # Of the rows that came through the way forth.
        failed = int((alive & ~walk.alive).sum())
        if failed:
            message = (
                f"{failed} of {len(alive)} rows could not be solved backward, and give no gradient: flows that "
                "contract are unstable backward in time. Take gradient=Discrete() or Checkpointed()."
            )
            if plan.settings.throw:
                raise DivergedError(message)
            warnings.warn(message, ConvergenceWarning, stacklevel=2)
        # What a row gave before it failed has been added to the others': once more without it.
        while bool((alive & ~walk.alive).any()):
            alive = walk.alive
            walk = plan.walk(leaves, end, saved, p, q, alive)
        parts = filled(walk.gradients(), leaves, ctx.needs_input_grad[2 : 2 + len(leaves)])
        return None, torch.where(alive[:, None], walk.p, 0.0), *parts, None, None, None


class _Walk:
    """Solves the pair (X, p) backward, stretch by stretch, and integrates what the leaves get.

    Attributes:
        p: the costate of the time reached, shape (rows, numbers).
        alive: the rows that have not failed, shape (rows,).
        status: a code for every row, shape (rows,).
    """

    def __init__(self, plan: _Plan, leaves: Sequence[Tensor], x: Tensor, p: Tensor, alive: Tensor) -> None:
        leaves = healed(leaves, alive, lambda leaves: plan.velocities(leaves, stand_in(x, alive)))
        self._plan, self._leaves, self.alive = plan, leaves, alive
        self._x, self.p = x, torch.where(alive[:, None], p, 0.0)
        self._adjoints: list[Adjoint] = []
        self._dynamics = plan.problem.dynamics
        if self._dynamics.replaceable and not plan.method.fixed:
            self._dynamics = self._dynamics.on(self._leaves)
        self._shared = None if plan.method.fixed else self._dynamics.adjoint()
        self.status = torch.full(alive.shape, int(Status.DONE), device=x.device)
        self._statistics: list[Statistics] = []

    def meet(self, x: Tensor, q: Tensor) -> None:
        """A saved state: X is set to it, and its cotangent added."""
        self._x, self.p = x, self.p + torch.where(self.alive[:, None], q, 0.0)

    def over(self, mesh: Sequence[float], dynamics: Dynamics) -> None:
        """Solve a stretch backward."""
        plan = self._plan
        if plan.method.fixed:
            own, self._leaves = self._leaves[: len(dynamics.leaves)], self._leaves[len(dynamics.leaves) :]
            dynamics = dynamics.on(own)
        else:
            dynamics = self._dynamics
        adjoint = dynamics.adjoint() if self._shared is None else self._shared
        pair = Counted(_Pair(dynamics))
        # A failed row stands still with cotangent zero, on a living row's place.
        self._x = stand_in(self._x, self.alive)
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
        integral = _Integral(dynamics, adjoint, scheme.tableau, self.alive)
        iterate = run(problem, scheme, Limits(plan.tolerance, plan.settings.max_steps), [integral])
        good = succeeded(iterate.status)
        self.status = torch.where(good, self.status, iterate.status)
        self.alive = self.alive & good
        self._x, p = iterate.value.chunk(2, 1)
        self.p = torch.where(self.alive[:, None], p, 0.0)
        self._statistics.append(Statistics(iterate.accepted, iterate.rejected, pair.calls))
        self._adjoints.append(adjoint)

    def gradients(self) -> list[Tensor | None]:
        """Of the leaves, in the order of the plan; zero where no row lives."""
        adjoints = self._adjoints if self._shared is None else [self._shared]
        some = self.alive.any()
        parts = [part for adjoint in adjoints for part in adjoint.gradients()]
        return [part if part is None else torch.where(some, part, 0.0) for part in parts]

    @property
    def statistics(self) -> Statistics:
        """Of all stretches."""
        first, *others = self._statistics
        accepted, rejected, calls = first.accepted, first.rejected, first.evaluations
        for other in others:
            accepted, rejected = accepted + other.accepted, rejected + other.rejected
            calls += other.evaluations
        return Statistics(accepted, rejected, calls)


@dataclass(frozen=True, eq=False)
class _Integral:
    """Adds up the integral of <p, d velocity / d leaf> by the method's own weights; an observer of the loop.

    Attributes:
        dynamics: of X alone.
        adjoint: where it is added up.
        tableau: the method.
        alive: the rows that count, shape (rows,).
    """

    dynamics: Dynamics
    adjoint: Adjoint
    tableau: Tableau
    alive: Tensor

    def observe(self, before: Iterate, after: Iterate, signals: Sequence[int]) -> None:
        """One step."""
        # Of adaptive steps the first signal says whether any row took it.
        if signals and not signals[0]:
            return
        assert after.moved is not None
        start, step, moved = before.value, after.memory.step, (after.moved & self.alive)[:, None]
        states, _ = stages(_Pair(self.dynamics), self.tableau, start, step, slopes=self.tableau.stages - 1)
        for j, (state, weight) in enumerate(zip(states, self.tableau.b, strict=True)):
            if weight:
                x, p = state.chunk(2, 1)
                w = torch.where(moved, p * (-weight * step.h), 0.0)
                self.adjoint.add(torch.where(moved, x, start.chunk(2, 1)[0]), step.moment(j, self.tableau.c[j]), w)


class _Pair(Dynamics):
    """d(X, p)/dt = (velocity, -D(velocity)^T p), side by side in one packed state."""

    leaves = ()

    def __init__(self, inner: Dynamics) -> None:
        self._inner = inner

    def velocity(self, x: Tensor, at: Moment) -> Tensor:
        """Both halves."""
        state, p = x.chunk(2, 1)
        velocity, pulled = self._inner.with_costate(state, p, at)
        return torch.cat([velocity, -pulled], 1)

    def adjoint(self) -> Adjoint:
        """Nobody differentiates the way back."""
        raise TypeError("the continuous adjoint is not differentiated again")

    def on(self, leaves: Sequence[Tensor]) -> Dynamics:
        """There are no leaves."""
        return self
