"""The discrete adjoint: the exact gradient of the Runge-Kutta steps that were taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from cde_nets.autocast import without_autocast
from cde_nets.gradient.adaptive import solve_by_rows
from cde_nets.gradient.again import again, on_healed, still
from cde_nets.gradient.autograd import Autograd
from cde_nets.gradient.base import Gradient, Settings
from cde_nets.gradient.declared import check_declared, check_frozen
from cde_nets.gradient.flows import Ran, Raw, finish, own_steps, run_apart, save_times
from cde_nets.gradient.living import filled
from cde_nets.gradient.packed import attach_packed, packs
from cde_nets.gradient.plan import Plan
from cde_nets.gradient.reversed import attach_reversible
from cde_nets.gradient.transposed import increment_back
from cde_nets.gradient.whole import prepare
from cde_nets.options import options
from cde_nets.solver.dynamics import Adjoint, Dynamics
from cde_nets.solver.flow.adaptive import AdaptiveRungeKutta
from cde_nets.solver.flow.manifold import Retraction
from cde_nets.solver.flow.record import Last, Output, Slopes, States, Taken, interpolate
from cde_nets.solver.flow.reversible import FixedReversible
from cde_nets.solver.flow.steps import stages
from cde_nets.solver.initial_value import InitialValueProblem
from cde_nets.solver.living import places
from cde_nets.solver.method import Method
from cde_nets.solver.opaque import forward_mode
from cde_nets.solver.solution import Solution
from cde_nets.solver.status import succeeded


@options
class Discrete(Gradient):
    """Exact for the steps taken: the adjoint recursion of the Runge-Kutta method over the states at the step ends.

    No autograd graph is built: those states are all that is kept (`Checkpointed` keeps fewer). Of adaptive steps that
    rows take by themselves, under one control and on a CPU, the slopes are kept too while they take no more than 128
    MiB, and nothing is evaluated again; a kernel, where there is one, keeps the states alone. A user's function is
    evaluated again under autograd, a step at a time. The accepted mesh is held fixed. Rows that failed contribute zero
    to every gradient. With create_graph=True the steps are taken once more under autograd, which then differentiates to
    any order.
    """

    solves: ClassVar[tuple[str, ...]] = ("flow",)

    def solve(self, problem: InitialValueProblem, method: Method, settings: Settings) -> Solution:
        """As `Gradient.solve`."""
        return solve_recorded(problem, method, settings, States(), _attach, self.every)

    def every(self, steps: int) -> int:
        """How many of so many steps a kernel keeps a state."""
        return 1


def solve_recorded(
    problem: InitialValueProblem,
    method: Method,
    settings: Settings,
    keep: States,
    attach: Callable[[Plan, Ran, Tensor, Sequence[Tensor]], Raw],
    every: Callable[[int], int],
) -> Solution:
    """Run without a graph, write the steps down, and tie their gradient to the states that came out.

    Args:
        problem: the flow.
        method: how it is stepped.
        settings: what was asked for.
        keep: which states are kept for the way back.
        attach: makes the states differentiable.
        every: how many of so many steps a kernel keeps a state.
    """
    if forward_mode():
        # What is written down here has no forward derivative of its own; the steps themselves have.
        return Autograd().solve(problem, method, settings)
    if torch.is_grad_enabled():
        check_frozen(problem)
    saves, at_start = save_times(problem, settings.save_at.times)
    scheme = own_steps(method.resolve(problem, saves), "Discrete")
    by_rows = solve_by_rows(problem, scheme, settings) if attach is _attach else None
    if by_rows is not None:
        return by_rows
    prepared = prepare(problem, scheme, settings, every)
    if prepared is not None:
        return prepared.solution(*prepared.run(problem.packed(), scheme.dynamics.leaves[0]))
    if isinstance(scheme, FixedReversible):
        keep, attach = Last(), attach_reversible
    elif attach is _attach and packs(problem, scheme):
        keep = Slopes()
    x0, leaves = problem.packed(), scheme.dynamics.leaves
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in (x0, *leaves))
    if torch.is_grad_enabled():
        check_declared(problem)
    ran = run_apart(problem, scheme, settings, saves, keep if wanted else None)
    raw = ran.raw
    if wanted:
        plan = Plan(
            scheme.dynamics.inner,
            scheme.tableau,
            problem.manifold,
            ran.recorder.taken,
            # Rows that take other steps than their neighbours, or end before them.
            isinstance(scheme, AdaptiveRungeKutta) or problem.event is not None,
            len(leaves),
            len(raw.tensors),
            scheme.mixing if isinstance(scheme, FixedReversible) else 1.0,
        )
        side_by_side = isinstance(keep, Slopes) and keep.whole
        raw = attach_packed(plan, ran, x0, leaves) if side_by_side else attach(plan, ran, x0, leaves)
    return finish(problem, ran, raw, lambda: scheme.dynamics.calls, settings, at_start=at_start)


def _attach(plan: Plan, ran: Ran, x0: Tensor, leaves: Sequence[Tensor]) -> Raw:
    keep = ran.recorder.keep
    assert keep is not None
    states = [keep.kept[n] for n in range(1, keep.count)]
    # The end itself is only needed to come back from a manifold.
    ends = [ran.raw.end] if keep.scales else []
    found = _Discrete.apply(  # type: ignore[no-untyped-call]
        plan,
        len(keep.scales),
        x0,
        *leaves,
        *ran.raw.tensors,
        succeeded(ran.iterate.status),
        *keep.scales,
        *states,
        *ends,
    )
    return Raw(*found)


class _Discrete(torch.autograd.Function):
    # Needed by torch.func; no value is computed here, so that vmap has nothing to work out.
    generate_vmap_rule = True

    @staticmethod
    def forward(plan: Plan, scales: int, x0: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(output.clone() for output in tensors[plan.leaves : plan.leaves + plan.outputs])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        plan, scales, x0, *tensors = inputs
        ctx.plan, ctx.scales = plan, scales
        ctx.others = len(tensors) - plan.leaves
        ctx.save_for_backward(x0, *tensors[: plan.leaves], *tensors[plan.leaves + plan.outputs :])

    @staticmethod
    @without_autocast
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        plan: Plan = ctx.plan
        x0, *rest = ctx.saved_tensors
        leaves, alive, rest = rest[: plan.leaves], rest[plan.leaves], rest[plan.leaves + 1 :]
        none = [None] * ctx.others
        needs = ctx.needs_input_grad[2 : 3 + plan.leaves]
        if torch.is_grad_enabled():
            return None, None, *again(plan, x0, leaves, alive, cotangents, needs), *none
        scales, states = rest[: ctx.scales], [x0, *rest[ctx.scales :]]
        walk = Walk(plan, on_healed(plan, x0, leaves, alive), alive, Raw(*cotangents))
        for n in reversed(range(len(plan.taken))):
            scale, after = (scales[n], states[n + 1]) if scales else (None, None)
            walk.back(n, states[n], after, scale, leaves_only=n == 0 and not needs[0])
        parts = filled(walk.gradients(), leaves, needs[1:])
        return None, None, walk.start if needs[0] else None, *parts, *none


class Walk:
    """The way back over the steps.

    Attributes:
        p: the costate of the step end reached, shape (rows, numbers).
    """

    def __init__(self, plan: Plan, dynamics: Dynamics, alive: Tensor, cotangents: Raw) -> None:
        self._plan, self._dynamics, self._alive = plan, dynamics, alive[:, None]
        self._cotangents = cotangents
        self._adjoint: Adjoint = dynamics.adjoint()
        # Rows that failed stand where a living row stands, with cotangent zero: nothing of theirs reaches a sum.
        self._places = places(alive)
        self._any = alive.any()
        self.p = torch.where(self._alive, cotangents.end, 0.0)

    def back(self, n: int, x: Tensor, after: Tensor | None, scale: Tensor | None, *, leaves_only: bool = False) -> None:
        """Over step n, which led from x to after."""
        plan, taken = self._plan, self._plan.taken[n]
        good, p = self._alive, self.p
        if plan.uneven:
            good = good & taken.moved[:, None]
            taken = taken._replace(step=still(taken.step, good))
        x = x.index_select(0, self._places)
        inner: list[tuple[float | Tensor, Tensor]] = []
        for output in taken.outputs:
            valid = self._alive & output.valid[:, None] if plan.uneven else self._alive
            q = torch.where(valid, self._saved(output), 0.0)
            if isinstance(output.theta, float) and output.theta == 1.0:
                p = p + q
            else:
                inner.append((output.theta, q))
        given: list[Tensor] = []
        met: Tensor | None = None
        if taken.hit is not None:
            here = taken.hit[:, None] & self._alive
            assert self._cotangents.start is not None
            assert self._cotangents.slopes is not None
            met = torch.where(here, self._cotangents.start, 0.0)
            given = list(torch.where(here, self._cotangents.slopes, 0.0))
        stays = p
        if plan.manifold is not None:
            assert scale is not None
            assert after is not None
            retraction = Retraction(after.index_select(0, self._places), scale.index_select(0, self._places))
            start, p = plan.manifold.pullback(x, retraction, p)
            start, inner = self._unproject(x, taken, inner, start)
        mask = good if plan.uneven else None
        mu = increment_back(
            self._dynamics,
            self._adjoint,
            plan.tableau,
            x,
            taken.step,
            p,
            inner,
            given,
            mask=mask,
            leaves_only=leaves_only,
        )
        back = p if mu is None else p + mu
        for _, q in inner:
            back = back + q
        if met is not None:
            back = back + met
        if plan.manifold is not None:
            back = back + start
        # Where a row took no step its costate is what it was.
        self.p = torch.where(good, back, stays) if plan.uneven else back

    @property
    def start(self) -> Tensor:
        """What the initial state gets: nothing in rows that failed, also where no row is left to stand in for them."""
        return torch.where(self._alive, self.p, 0.0)

    def gradients(self) -> tuple[Tensor | None, ...]:
        """Of the leaves; zero where no row lives."""
        return tuple(part if part is None else torch.where(self._any, part, 0.0) for part in self._adjoint.gradients())

    def _saved(self, output: Output) -> Tensor:
        if isinstance(output.place, int):
            return self._cotangents.saved[output.place]
        rows = torch.arange(output.place.shape[0], device=output.place.device)
        return self._cotangents.saved[output.place, rows]

    def _unproject(
        self, x: Tensor, taken: Taken, inner: Sequence[tuple[float | Tensor, Tensor]], start: Tensor
    ) -> tuple[Tensor, list[tuple[float | Tensor, Tensor]]]:
        plan = self._plan
        assert plan.manifold is not None
        plain: list[tuple[float | Tensor, Tensor]] = []
        if inner:
            _, slopes = stages(self._dynamics, plan.tableau, x, taken.step)
        for theta, q in inner:
            z = interpolate(plan.tableau, None, x, taken.step, slopes, theta)
            mine, q = plan.manifold.pullback(x, plan.manifold.retract(x, z), q)
            start = start + mine
            plain.append((theta, q))
        return start, plain
