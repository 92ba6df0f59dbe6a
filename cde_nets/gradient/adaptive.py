"""A flow whose rows choose their steps in a kernel, with the exact gradient of the steps they took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cde_nets.autocast import without_autocast
from cde_nets.controls import PiecewiseConstantControl
from cde_nets.fields import Fields
from cde_nets.gradient.again import again
from cde_nets.gradient.base import Settings
from cde_nets.gradient.plan import Plan
from cde_nets.kernels import Packed, adaptive
from cde_nets.kernels.adaptive import Arrived, Journey, Rules
from cde_nets.solver import opaque
from cde_nets.solver.dynamics import Controlled, OnMesh
from cde_nets.solver.flow.adaptive import AdaptiveRungeKutta
from cde_nets.solver.flow.controller import PIController
from cde_nets.solver.flow.record import Taken
from cde_nets.solver.flow.steps import Step
from cde_nets.solver.initial_value import InitialValueProblem
from cde_nets.solver.method import Scheme
from cde_nets.solver.opaque import refuse_grads_batched
from cde_nets.solver.solution import SaveAt, Solution, Statistics
from cde_nets.solver.status import succeeded


@dataclass(frozen=True, eq=False)
class ByRows:
    """A flow but for its states and its control's values.

    Attributes:
        fields: of all rows and times.
        packed: the same, as the kernel takes them.
        rules: of the steps.
    """

    fields: Fields
    packed: Packed
    rules: Rules


def solve_by_rows(problem: InitialValueProblem, scheme: Scheme, settings: Settings) -> Solution | None:
    """The solution, where a kernel takes the steps; None where the loop is to."""
    if not isinstance(scheme, AdaptiveRungeKutta) or not scheme.per_row or problem.rows == 0:
        return None
    dynamics, tolerance = scheme.dynamics.inner, settings.limits.tolerance
    if type(dynamics) is not Controlled or type(dynamics.control) is not PiecewiseConstantControl:
        return None
    if problem.event is not None or problem.manifold is not None or type(scheme.controller) is not PIController:
        return None
    if settings.save_at != SaveAt() or settings.progress is not None:
        return None
    if isinstance(tolerance.rtol, Tensor) or isinstance(tolerance.atol, Tensor):
        return None
    x, control, fields = problem.packed(), dynamics.control, dynamics.families[0]
    if not opaque.readable(x) or not opaque.readable(control.values):
        return None
    packed = adaptive.adaptive_family(fields, x, control.dtype)
    if packed is None:
        return None
    rules = Rules(
        scheme.tableau,
        scheme.controller,
        (problem.t0, *problem.breakpoints, problem.t1),
        scheme.first_step,
        tolerance.rtol,
        tolerance.atol,
        settings.max_steps,
    )
    values = control.on_mesh(rules.times, (0.0,))
    return _solution(*_run(ByRows(fields, packed, rules), x, values))


def _run(flow: ByRows, x: Tensor, values: Tensor) -> tuple[Tensor, Arrived]:
    wanted = torch.is_grad_enabled() and (x.requires_grad or values.requires_grad)
    with torch.no_grad():
        arrived = adaptive.forward(x.detach(), values.detach(), flow.packed, flow.rules, keep=wanted)
    if not wanted:
        return arrived.end, arrived
    return _ByRows.apply(flow, arrived, x, values), arrived  # type: ignore[no-untyped-call]


def _solution(end: Tensor, arrived: Arrived) -> Solution:
    statistics = Statistics(arrived.accepted.long(), arrived.rejected.long(), arrived.evaluations)
    size: Tensor = torch.linalg.vector_norm(arrived.end, dim=1)
    return Solution(end, arrived.status.long(), statistics, arrived.time, size)


class _ByRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, flow: ByRows, arrived: Arrived, x: Tensor, values: Tensor) -> Tensor:
        ctx.flow, ctx.journey = flow, arrived.journey
        # The coefficients only so that torch says when they were changed before the way back reads them again.
        ctx.save_for_backward(x, values, arrived.accepted, succeeded(arrived.status), *flow.packed.tensors)
        # A copy: what is a view may not be changed in place.
        return arrived.end.clone()

    @staticmethod
    @without_autocast
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        refuse_grads_batched(cotangent, "A kernel's way back")
        x, values, accepted, alive, *_ = ctx.saved_tensors
        flow: ByRows = ctx.flow
        needs = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():
            return None, None, *_again(flow, ctx.journey, x, values, accepted, alive, cotangent, needs)
        start, moments = adaptive.backward(cotangent, values, flow.packed, flow.rules, ctx.journey)
        return None, None, start if needs[0] else None, moments if needs[1] else None


def _again(
    flow: ByRows,
    journey: Journey,
    x: Tensor,
    values: Tensor,
    accepted: Tensor,
    alive: Tensor,
    cotangent: Tensor,
    needs: tuple[bool, ...],
) -> list[Tensor | None]:
    """With a graph of its own: the steps are taken once more under autograd."""
    tableau = flow.rules.tableau
    widths, pieces = adaptive.steps(journey, accepted, x.dtype)
    # What the times are nobody asks: the control is known at every step.
    still = x.new_zeros(len(x), 1, dtype=torch.float64)
    taken = [
        Taken(Step(n, h[:, None], still, still, still), (n < accepted) & alive) for n, h in enumerate(widths.unbind())
    ]
    # A step, a stage, a row and a field.
    own = values[:, 0][pieces][:, None].expand(-1, tableau.stages, -1, -1)
    plan = Plan(OnMesh([flow.fields] * len(taken), own), tableau, None, taken, True, leaves=1, outputs=1, mixing=1.0)
    start, moments = again(plan, x, [own], alive, [cotangent], needs)
    if moments is not None:
        shape = values[:, 0].shape
        total = moments.sum(1).flatten(0, 1)
        moments = total.new_zeros(shape).index_add(0, pieces.flatten(), total)[:, None]
    return [start, moments]
