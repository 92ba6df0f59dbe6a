"""Adaptive steps walked back side by side: every row's k-th last accepted step at once, whenever it was taken.

Rows with steps of their own take different numbers of them, and refuse some: in the order in which they were tried, a
step back would be over the few rows that moved in it. Here row r's k-th last step is in block k, so that there are as
many blocks as one row has steps; rows are sorted by how many they have, so that a block is of the first so many. The
slopes of the way there are kept, and with them every stage's state is a sum: whole blocks are linearized together, and
only the products with the costates are left to be done one stage after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cde_nets.autocast import without_autocast
from cde_nets.gradient.again import again
from cde_nets.gradient.flows import Ran, Raw
from cde_nets.gradient.living import filled
from cde_nets.gradient.plan import Plan
from cde_nets.solver import opaque
from cde_nets.solver.dynamics import Adjoint, Stages
from cde_nets.solver.flow.adaptive import AdaptiveRungeKutta
from cde_nets.solver.flow.gathered import alike
from cde_nets.solver.flow.record import Output, Slopes, Taken
from cde_nets.solver.flow.steps import combine, dense_weights
from cde_nets.solver.initial_value import InitialValueProblem
from cde_nets.solver.method import Scheme
from cde_nets.solver.status import succeeded

# How many numbers of the states are linearized together: blocks of a few rows are worth joining, those of many are not.
TOGETHER = 2**16


def packs(problem: InitialValueProblem, scheme: Scheme) -> bool:
    """Whether the steps can be walked back side by side.

    Every row by itself, no row told from another, no manifold whose retractions would have to be kept too; and on a
    CPU, where to count the steps of the rows costs nothing.
    """
    if not isinstance(scheme, AdaptiveRungeKutta) or not scheme.per_row or problem.manifold is not None:
        return False
    return alike(scheme.dynamics) and opaque.readable(problem.packed())


@dataclass(frozen=True, eq=False)
class Pack:
    """Steps, block after block; numbers stand before steps, so that sums are of rows of memory.

    Attributes:
        order: the rows, those with the most steps first, shape (rows,).
        sizes: of how many rows each block is; block 0 has every row's last step.
        place: of each step that was tried and each row, where it stands among all; -1 where it was not taken, shape
            (tried, rows).
        x: where each starts, shape (numbers, steps).
        slopes: its first stages' slopes, shape (numbers, stages, steps).
        h: its width, shape (steps,).
        t: when it starts, float64, shape (steps,).
        end: when it ends, float64, shape (steps,).
        inside: a time within its smooth piece, float64, shape (steps,).
    """

    order: Tensor
    sizes: Sequence[int]
    place: Tensor
    x: Tensor
    slopes: Tensor
    h: Tensor
    t: Tensor
    end: Tensor
    inside: Tensor


def pack(taken: Sequence[Taken], keep: Slopes, alive: Tensor, stages: int) -> Pack:
    """Sort the steps that living rows took into blocks; `stages` of them matter."""
    moved = torch.stack([step.moved for step in taken]) & alive
    counts = moved.sum(0)
    order = counts.argsort(descending=True, stable=True)
    # From the last step of each row: 0, 1, ..
    number = moved.flip(0).cumsum(0).flip(0) - 1
    most = int(counts.max()) if len(counts) else 0
    sizes = (counts > torch.arange(most, device=counts.device)[:, None]).sum(1)
    offsets = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    position = torch.empty_like(order).index_copy_(0, order, torch.arange(len(order), device=order.device))
    place = torch.where(moved, offsets[number.clamp(min=0)] + position, -1)
    found = moved.flatten().nonzero()[:, 0]
    source = torch.empty_like(found).index_copy_(0, place.flatten().index_select(0, found), found)

    def gather(parts: Sequence[Any]) -> Tensor:
        return torch.cat(list(parts)).index_select(0, source)

    states = [keep.kept[n] for n in range(keep.count)]
    slopes = [gather([tried[j] for tried in keep.slopes]).mT for j in range(stages - 1)]
    x = gather(states).mT.contiguous()
    h, t, end, inside = (
        gather([getattr(step.step, name) for step in taken])[:, 0] for name in ("h", "t", "end", "inside")
    )
    together = torch.stack(slopes, 1) if slopes else x.new_zeros(x.shape[0], 0, x.shape[1])
    return Pack(order, sizes.tolist(), place, x, together, h, t, end, inside)


def attach_packed(plan: Plan, ran: Ran, x0: Tensor, leaves: Sequence[Tensor]) -> Raw:
    """The flow's states, differentiable; kept are the steps that were taken, and their slopes."""
    keep = ran.recorder.keep
    assert isinstance(keep, Slopes)
    alive = succeeded(ran.iterate.status)
    stages = _stages_that_matter(plan)
    steps = pack(plan.taken, keep, alive, stages)
    parts = (steps.order, steps.place, steps.x, steps.slopes, steps.h, steps.t, steps.end, steps.inside)
    found = _Packed.apply(plan, stages, steps.sizes, x0, *leaves, *ran.raw.tensors, alive, *parts)  # type: ignore[no-untyped-call]
    return Raw(*found)


class _Packed(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(plan: Plan, stages: int, sizes: Sequence[int], x0: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(output.clone() for output in tensors[plan.leaves : plan.leaves + plan.outputs])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        plan, stages, sizes, x0, *tensors = inputs
        ctx.plan, ctx.stages, ctx.sizes, ctx.others = plan, stages, sizes, len(tensors) - plan.leaves
        ctx.save_for_backward(x0, *tensors[: plan.leaves], *tensors[plan.leaves + plan.outputs :])

    @staticmethod
    @without_autocast
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        plan: Plan = ctx.plan
        x0, *rest = ctx.saved_tensors
        leaves, alive, (order, place, *parts) = rest[: plan.leaves], rest[plan.leaves], rest[plan.leaves + 1 :]
        needs = ctx.needs_input_grad[3 : 4 + plan.leaves]
        none = [None] * ctx.others
        if torch.is_grad_enabled():
            return None, None, None, *again(plan, x0, leaves, alive, cotangents, needs), *none
        steps = Pack(order, ctx.sizes, place, *parts)
        adjoint = plan.dynamics.on(leaves).adjoint()
        start = walk_back(plan, steps, ctx.stages, adjoint, alive, Raw(*cotangents))
        found = filled(adjoint.gradients(), leaves, needs[1:])
        return None, None, None, start if needs[0] else None, *found, *none


def walk_back(plan: Plan, steps: Pack, stages: int, adjoint: Adjoint, alive: Tensor, cotangents: Raw) -> Tensor:
    """What the initial state gets, shape (rows, numbers); what the leaves get is added to the adjoint's sums.

    The recursion is that of `increment_back`, its products with h taken once: of p and of each mu.
    """
    tableau = plan.tableau
    inner = _inner(plan, steps, stages, alive, cotangents)
    p = torch.where(alive[:, None], cotangents.end, 0.0).index_select(0, steps.order).mT.contiguous()
    for blocks in _joined(steps, stages):
        first, last = blocks[0].start, blocks[-1].stop
        points, size = _linearized(plan, steps, stages, adjoint, slice(first, last)), last - first
        rows: list[list[Tensor]] = []
        for block in blocks:
            h, count = steps.h[block], block.stop - block.start
            total, used = p[:, :count], []
            scaled: dict[int, Tensor] = {}
            q = h * total
            if inner is not None:
                total = total + inner.base[:, block]
            for j in reversed(range(stages)):
                terms = [tableau.b[j], *(tableau.a[later][j] for later in scaled)]
                w = combine(terms, [q, *scaled.values()])
                if inner is not None:
                    w = inner.stages[j][:, block] if w is None else w + inner.stages[j][:, block]
                if w is None:
                    used.append(torch.zeros_like(q))
                    continue
                used.append(w)
                at = j * size + block.start - first
                mu = points.pull(slice(at, at + count), w.mT).mT
                total = total + mu
                scaled[j] = h * mu
            p = torch.cat([total, p[:, count:]], 1) if count < p.shape[1] else total
            rows.append(used[::-1])
        # As the points stand: stage after stage, and within each the blocks in order.
        points.add(torch.cat([used[j] for j in range(stages) for used in rows], 1).mT)
    return torch.empty_like(p.mT).index_copy(0, steps.order, p.mT)


def _linearized(plan: Plan, steps: Pack, stages: int, adjoint: Adjoint, at: slice) -> Stages:
    """At every stage of some steps: stage after stage, and within each the steps in order."""
    x, h, t, end = steps.x[:, at], steps.h[at], steps.t[at], steps.end[at]
    states, times = [x], [t]
    for j in range(1, stages):
        total = combine(plan.tableau.a[j], steps.slopes[:, :, at].unbind(1))
        states.append(x if total is None else x + h * total)
        c = plan.tableau.c[j]
        times.append(t if c == 0 else end if c == 1 else torch.lerp(t, end, c))
    inside = steps.inside[at].repeat(stages)
    found = adjoint.at_points(torch.cat(states, 1).mT, torch.cat(times)[:, None], inside[:, None])
    assert found is not None
    return found


def _joined(steps: Pack, stages: int) -> Iterator[list[slice]]:
    """Blocks in order, several at a time where they are small."""
    held: list[slice] = []
    start = 0
    for size in steps.sizes:
        held.append(slice(start, start + size))
        start += size
        if (start - held[0].start) * stages * steps.x.shape[0] >= TOGETHER:
            yield held
            held = []
    if held:
        yield held


@dataclass(frozen=True, eq=False)
class _Inner:
    """What is given besides the ends: to the start of each step, shape (numbers, steps), and to its stages' slopes."""

    base: Tensor
    stages: Sequence[Tensor]


def _inner(plan: Plan, steps: Pack, stages: int, alive: Tensor, cotangents: Raw) -> _Inner | None:
    base: Tensor | None = None
    weighed: list[Tensor] = []
    for n, taken in enumerate(plan.taken):
        found: list[tuple[Tensor, Output | None]] = [(output.valid, output) for output in taken.outputs]
        if taken.hit is not None:
            found.append((taken.hit & taken.moved, None))
        for valid, output in found:
            rows = (valid & alive).nonzero()[:, 0]
            if not len(rows):
                continue
            if base is None:
                base = torch.zeros_like(steps.x)
                weighed = [base] * stages
            at = steps.place[n].index_select(0, rows)
            if output is None:
                q, given = _of_event(cotangents, rows)
            else:
                q, given = _of_saved(cotangents, plan, output, rows, steps.h.index_select(0, at)[:, None])
            base = base.index_add(1, at, q.mT)
            weighed = [total.index_add(1, at, part.mT) for total, part in zip(weighed, given, strict=False)]
    return None if base is None else _Inner(base, weighed)


def _of_event(cotangents: Raw, rows: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
    """The cotangents of the start and the slopes of the steps in which rows met their events."""
    assert cotangents.start is not None
    assert cotangents.slopes is not None
    return cotangents.start.index_select(0, rows), cotangents.slopes.index_select(1, rows).unbind()


def _of_saved(cotangents: Raw, plan: Plan, output: Output, rows: Tensor, h: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
    """Likewise of steps within which states were saved."""
    place, theta = output.place, output.theta
    if isinstance(place, Tensor):
        q = cotangents.saved[place.index_select(0, rows), rows]
    else:
        q = cotangents.saved[place].index_select(0, rows)
    own = theta.index_select(0, rows) if isinstance(theta, Tensor) else torch.full_like(q[:, :1].real, theta)
    return q, [h * weight * q for weight in dense_weights(plan.tableau, own)]


def _stages_that_matter(plan: Plan) -> int:
    """All where states are saved within steps; else up to the last that weighs in a step's end."""
    if any(taken.outputs or taken.hit is not None for taken in plan.taken):
        return plan.tableau.stages
    return max(j for j, b in enumerate(plan.tableau.b) if b) + 1
