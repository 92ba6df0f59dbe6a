"""Recorded steps, taken once more: by a way back that kept few states, or under autograd."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cde_nets.gradient.living import beside, gradients_again
from cde_nets.gradient.plan import Plan
from cde_nets.solver.dynamics import Dynamics
from cde_nets.solver.flow.record import Taken, interpolate
from cde_nets.solver.flow.steps import Step, along, stages
from cde_nets.solver.living import healed, stand_in


def again(
    plan: Plan,
    x0: Tensor,
    leaves: Sequence[Tensor],
    alive: Tensor,
    cotangents: Sequence[Tensor],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """The gradient with a graph of its own: the same steps, taken under autograd."""

    def run(x: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
        return _steps(plan, plan.dynamics.on(leaves), x, alive)

    return gradients_again(run, x0, leaves, alive, cotangents, needs, replaceable=plan.dynamics.replaceable)


def on_healed(plan: Plan, x0: Tensor, leaves: Sequence[Tensor], alive: Tensor) -> Dynamics:
    """The dynamics on leaves without what failed rows were given, as `healed`: which those are, the steps tell."""

    def seen(leaves: Sequence[Tensor]) -> Tensor:
        return beside(_steps(plan, plan.dynamics.on(leaves), stand_in(x0, alive), alive))

    return plan.dynamics.on(healed(leaves, alive, seen))


def still(step: Step, moves: Tensor) -> Step:
    """The step, of width 0 in rows that do not take it: what they would have run into is in no gradient."""
    if not isinstance(step.h, Tensor) or step.h.shape != moves.shape:
        return step
    assert step.t is not None
    assert step.end is not None
    return step._replace(h=torch.where(moves, step.h, 0.0), end=torch.where(moves, step.end, step.t))


def retake(plan: Plan, dynamics: Dynamics, taken: Taken, x: Tensor) -> tuple[Tensor, Tensor | None, list[Tensor]]:
    """A recorded step once more: its end, the retraction's scale, and the slopes."""
    _, slopes = stages(dynamics, plan.tableau, x, taken.step)
    after, scale = along(x, taken.step.h, plan.tableau.b, slopes), None
    if plan.manifold is not None:
        after, scale = plan.manifold.retract(x, after)
    return torch.where(taken.moved[:, None], after, x), scale, slopes


def _steps(plan: Plan, dynamics: Dynamics, x: Tensor, alive: Tensor) -> list[Tensor]:
    """The recorded steps once more: end, saved states, and start and slopes of those in which rows met events."""
    saved: dict[int, Tensor] = {}
    start, met = torch.zeros_like(x), x.new_zeros(plan.tableau.stages, *x.shape)
    for step in plan.taken:
        # On an even mesh living rows take every step; what the record says belongs to a transform that has ended.
        moved = step.moved & alive if plan.uneven else alive
        taken = step._replace(moved=moved, step=still(step.step, moved[:, None]))
        after, _, slopes = retake(plan, dynamics, taken, x)
        for output in taken.outputs:
            value = interpolate(plan.tableau, plan.manifold, x, taken.step, slopes, output.theta)
            value = after if isinstance(output.theta, float) and output.theta == 1.0 else value
            places = [output.place] if isinstance(output.place, int) else range(int(output.place.max()) + 1)
            for place in places:
                here = moved if isinstance(output.place, int) else moved & output.valid & (output.place == place)
                saved[place] = torch.where(here[:, None], value, saved.get(place, torch.zeros_like(x)))
        if taken.hit is not None:
            here = taken.hit[:, None]
            start, met = torch.where(here, x, start), torch.where(here, torch.stack(slopes), met)
        x = after
    stacked = torch.stack([saved[k] for k in sorted(saved)]) if saved else x.new_zeros(0, *x.shape)
    return [x, stacked, start, met][: plan.outputs]
