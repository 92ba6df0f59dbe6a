"""The adjoint of reversible steps, over states that are reconstructed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cde_nets.autocast import without_autocast
from cde_nets.gradient.flows import Ran, Raw
from cde_nets.gradient.living import beside, filled, gradients_again
from cde_nets.gradient.plan import Plan
from cde_nets.gradient.transposed import increment_back
from cde_nets.solver.dynamics import Adjoint, Dynamics
from cde_nets.solver.flow.reversible import halves, increment
from cde_nets.solver.living import healed, stand_in
from cde_nets.solver.status import succeeded


def attach_reversible(plan: Plan, ran: Ran, x0: Tensor, leaves: Sequence[Tensor]) -> Raw:
    """The flow's states, differentiable; the last pair is all that is kept."""
    pair, alive = ran.iterate.value, succeeded(ran.iterate.status)
    end, saved = _Reversed.apply(plan, x0, *leaves, ran.raw.end, ran.raw.saved, alive, pair)  # type: ignore[no-untyped-call]
    return Raw(end, saved)


class _Reversed(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(plan: Plan, x0: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(output.clone() for output in tensors[plan.leaves : plan.leaves + 2])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        plan, x0, *tensors = inputs
        ctx.plan = plan
        ctx.save_for_backward(x0, *tensors[: plan.leaves], *tensors[plan.leaves + 2 :])

    @staticmethod
    @without_autocast
    def backward(ctx: Any, p: Tensor, q: Tensor) -> tuple[Tensor | None, ...]:
        plan: Plan = ctx.plan
        x0, *leaves, alive, pair = ctx.saved_tensors
        needs = ctx.needs_input_grad[1 : 2 + plan.leaves]
        if torch.is_grad_enabled():
            return None, *_again(plan, x0, leaves, alive, (p, q), needs), None, None, None, None

        def seen(leaves: Sequence[Tensor]) -> Tensor:
            return beside(_steps(plan, plan.dynamics.on(leaves), stand_in(x0, alive), alive))

        start, parts = _walk(plan, plan.dynamics.on(healed(leaves, alive, seen)), alive, pair, p, q)
        kept = filled(parts, leaves, needs[1:])
        return None, start if needs[0] else None, *kept, None, None, None, None


def _walk(
    plan: Plan, dynamics: Dynamics, alive: Tensor, pair: Tensor, p: Tensor, q: Tensor
) -> tuple[Tensor, list[Tensor | None]]:
    adjoint: Adjoint = dynamics.adjoint()
    living, m = alive[:, None], plan.mixing
    # Rows that failed stand where a living row stands, with cotangent zero.
    y, z = stand_in(pair, alive).chunk(2, 1)
    p_y, p_z = torch.where(living, p, 0.0), torch.zeros_like(p)
    for taken in reversed(plan.taken):
        for output in taken.outputs:
            assert isinstance(output.place, int)
            p_y = p_y + torch.where(living, q[output.place], 0.0)
        there, back = halves(taken.step.n, float(taken.step.h), plan.tableau)
        mu = increment_back(dynamics, adjoint, plan.tableau, y, back, -p_z)
        p_y = p_y if mu is None else p_y + mu
        z = z + increment(dynamics, plan.tableau, y, back)
        y = (y - (1 - m) * z - increment(dynamics, plan.tableau, z, there)) / m
        mu = increment_back(dynamics, adjoint, plan.tableau, z, there, p_y)
        p_z = p_z + (1 - m) * p_y
        p_z = p_z if mu is None else p_z + mu
        p_y = m * p_y
    some = alive.any()
    start = torch.where(living, p_y + p_z, 0.0)
    return start, [part if part is None else torch.where(some, part, 0.0) for part in adjoint.gradients()]


def _again(
    plan: Plan,
    x0: Tensor,
    leaves: Sequence[Tensor],
    alive: Tensor,
    cotangents: Sequence[Tensor],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """With a graph of its own: the same steps, taken under autograd."""

    def run(x: Tensor, leaves: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        return _steps(plan, plan.dynamics.on(leaves), x, alive)

    return gradients_again(run, x0, leaves, alive, cotangents, needs, replaceable=plan.dynamics.replaceable)


def _steps(plan: Plan, dynamics: Dynamics, x: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
    """The recorded steps once more: end and saved states."""
    y, z, living = x, x, alive[:, None]
    saved: dict[int, Tensor] = {}
    for taken in plan.taken:
        there, back = halves(taken.step.n, float(taken.step.h), plan.tableau)
        after = plan.mixing * y + (1 - plan.mixing) * z + increment(dynamics, plan.tableau, z, there)
        other = z - increment(dynamics, plan.tableau, after, back)
        y, z = torch.where(living, after, y), torch.where(living, other, z)
        for output in taken.outputs:
            assert isinstance(output.place, int)
            saved[output.place] = y
    return y, torch.stack([saved[k] for k in sorted(saved)]) if saved else y.new_zeros(0, *y.shape)
