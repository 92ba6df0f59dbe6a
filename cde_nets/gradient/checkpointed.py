"""The discrete adjoint with few states kept and the others computed again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from cde_nets.autocast import without_autocast
from cde_nets.gradient.again import again, on_healed, retake
from cde_nets.gradient.base import Gradient, Settings
from cde_nets.gradient.discrete import Walk, solve_recorded
from cde_nets.gradient.flows import Ran, Raw
from cde_nets.gradient.living import filled
from cde_nets.gradient.plan import Plan
from cde_nets.options import options, positive
from cde_nets.solver.dynamics import Dynamics
from cde_nets.solver.flow.record import States
from cde_nets.solver.initial_value import InitialValueProblem
from cde_nets.solver.method import Method
from cde_nets.solver.solution import Solution
from cde_nets.solver.status import succeeded


@options
class Checkpointed(Gradient):
    """As exact as `Discrete`, with fewer states kept: the steps between them are taken once more on the way back.

    The gradient is that of `Discrete` to the bit, or to rounding where that walks back over the steps of rows side by
    side. Unlimited, about 2 sqrt(steps) states are held at any time and every step is taken once more. With a budget b
    at most that many are held: b // 2 between equal stretches and, where a stretch of L steps does not fit into the
    f = b - b // 2 others, those where it is halved again and again, so that a step may be taken f + L / 2^f times more;
    with a budget of 1 as often as there are steps after it (recursive bisection; the optimum is Griewank's, "Achieving
    logarithmic growth of temporal and spatial complexity in reverse automatic differentiation", 1992). Kernels, which
    take a few rows at a time through a stretch, hold it for those alone: they keep the b // 2 states, and take every
    step but once more.

    Args:
        budget: how many states may be held at any time, the initial one included; sqrt of the steps where None.

    Raises:
        ValueError: a budget below 1.
    """

    solves: ClassVar[tuple[str, ...]] = ("flow",)

    budget: int | None = None

    def __post_init__(self) -> None:
        """Check the budget."""
        if self.budget is not None:
            positive("budget", self.budget)

    def solve(self, problem: InitialValueProblem, method: Method, settings: Settings) -> Solution:
        """As `Gradient.solve`."""

        def attach(plan: Plan, ran: Ran, x0: Tensor, leaves: Sequence[Tensor]) -> Raw:
            keep = ran.recorder.keep
            assert isinstance(keep, Checkpoints)
            places = sorted(n for n in keep.kept if n)
            kept = [keep.kept[n] for n in places]
            alive = succeeded(ran.iterate.status)
            found = _Checkpointed.apply(plan, self.budget, places, x0, *leaves, *ran.raw.tensors, alive, *kept)  # type: ignore[no-untyped-call]
            return Raw(*found)

        # Half of a budget is for stretches that are computed again.
        most = None if self.budget is None else max(1, self.budget // 2)
        return solve_recorded(problem, method, settings, Checkpoints(most), attach, self.every)

    def every(self, steps: int) -> int:
        """How many of so many steps a kernel keeps a state."""
        kept = math.isqrt(steps - 1) + 1 if self.budget is None else max(1, self.budget // 2)
        return -(-steps // kept)


class Checkpoints(States):
    """Every stride-th state; the stride doubles whenever there are too many, as their number is not known beforehand.

    Args:
        most: how many to keep; as many as the stride, and so about the square root of the steps, where None.
    """

    def __init__(self, most: int | None) -> None:
        super().__init__()
        self.most, self.stride = most, 1

    def append(self, state: Tensor) -> None:
        """The next step's start."""
        if self.count % self.stride == 0:
            self.kept[self.count] = state
        self.count += 1
        while len(self.kept) > (2 * self.stride if self.most is None else self.most) and len(self.kept) > 1:
            self.stride *= 2
            self.kept = {n: kept for n, kept in self.kept.items() if n % self.stride == 0}
        # Scales of retractions are computed again with the states.
        self.scales.clear()


class _Checkpointed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plan: Plan, budget: int | None, places: Sequence[int], x0: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        leaves, rest = tensors[: plan.leaves], tensors[plan.leaves :]
        outputs, alive, kept = rest[: plan.outputs], rest[plan.outputs], rest[plan.outputs + 1 :]
        ctx.plan, ctx.budget, ctx.places, ctx.others = plan, budget, places, len(rest)
        ctx.save_for_backward(x0, *leaves, alive, *kept)
        return tuple(output.clone() for output in outputs)

    @staticmethod
    @without_autocast
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        plan: Plan = ctx.plan
        x0, *rest = ctx.saved_tensors
        leaves, alive, kept = rest[: plan.leaves], rest[plan.leaves], rest[plan.leaves + 1 :]
        needs = ctx.needs_input_grad[3 : 4 + plan.leaves]
        none = [None] * ctx.others
        if torch.is_grad_enabled():
            return None, None, None, *again(plan, x0, leaves, alive, cotangents, needs), *none
        dynamics = on_healed(plan, x0, leaves, alive)
        walk = Walk(plan, dynamics, alive, Raw(*cotangents))
        retaking = Retaking(plan, dynamics, ctx.budget)
        for n, x in retaking.backward([0, *ctx.places], [x0, *kept]):
            after, scale = None, None
            if plan.manifold is not None:
                after, scale, _ = retake(plan, dynamics, plan.taken[n], x)
            walk.back(n, x, after, scale, leaves_only=n == 0 and not needs[0])
        parts = filled(walk.gradients(), leaves, needs[1:])
        return None, None, None, walk.start if needs[0] else None, *parts, *none


@dataclass
class Retaking:
    """The starts of all steps, last first, from a few of them.

    Attributes:
        plan: the steps.
        dynamics: dX/dt.
        budget: how many states may be held at a time; None: stretches between checkpoints are held whole.
        most: how many were held at a time, at most.
    """

    plan: Plan
    dynamics: Dynamics
    budget: int | None
    most: int = 0

    def backward(self, places: list[int], states: list[Tensor]) -> Iterator[tuple[int, Tensor]]:
        """(n, X_n) for n = steps - 1, .., 0, given the states at some places, 0 among them."""
        # Autograd holds what it has saved until the way back ends, so that all of it counts throughout.
        end, held = len(self.plan.taken), len(places)
        while places:
            place, state = places.pop(), states.pop()
            yield from self._stretch(place, state, end, held)
            end = place

    def _stretch(self, start: int, state: Tensor, end: int, held: int) -> Iterator[tuple[int, Tensor]]:
        """Within [start, end), with `held` states held already, that at the start included."""
        self.most = max(self.most, held)
        free = math.inf if self.budget is None else self.budget - held
        if end - start - 1 <= free:
            path = [state]
            for n in range(start, end - 1):
                path.append(self._next(n, path[-1]))
            self.most = max(self.most, held + len(path) - 1)
            for n in range(end - 1, start - 1, -1):
                yield n, path.pop()
        elif free >= 1:
            middle = (start + end + 1) // 2
            yield from self._stretch(middle, self._advance(start, state, middle), end, held + 1)
            yield from self._stretch(start, state, middle, held)
        else:
            for n in range(end - 1, start - 1, -1):
                yield n, self._advance(start, state, n)

    def _advance(self, start: int, state: Tensor, end: int) -> Tensor:
        for n in range(start, end):
            state = self._next(n, state)
        return state

    def _next(self, n: int, state: Tensor) -> Tensor:
        return retake(self.plan, self.dynamics, self.plan.taken[n], state)[0]
