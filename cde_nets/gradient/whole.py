"""A flow that a kernel takes through all its steps at once, with the exact gradient of those steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cde_nets.autocast import without_autocast
from cde_nets.fields import Fields
from cde_nets.gradient.again import again
from cde_nets.gradient.base import Settings
from cde_nets.gradient.plan import Plan
from cde_nets.kernels import Whole, whole
from cde_nets.remembered import remembered
from cde_nets.solver.dynamics import OnMesh
from cde_nets.solver.flow.fixed import FixedRungeKutta
from cde_nets.solver.flow.manifold import Manifold, Sphere
from cde_nets.solver.flow.record import Taken
from cde_nets.solver.flow.steps import Step
from cde_nets.solver.flow.tableau import Tableau
from cde_nets.solver.initial_value import InitialValueProblem
from cde_nets.solver.method import Scheme
from cde_nets.solver.opaque import refuse_grads_batched, transformed
from cde_nets.solver.solution import SaveAt, Solution, Statistics
from cde_nets.solver.status import Status


@dataclass(frozen=True, eq=False)
class Prepared:
    """A flow but for its states and its control's values: a network takes the same one again and again.

    Attributes:
        whole: as a kernel takes it.
        families: one a step.
        tableau: the method.
        mesh: the step ends.
        manifold: what every step's end is put back on.
        stride: how many steps a state is kept for the way back.
    """

    whole: Whole
    families: Sequence[Fields]
    tableau: Tableau
    mesh: tuple[float, ...]
    manifold: Manifold | None
    stride: int

    @property
    def steps(self) -> int:
        """Their number."""
        return len(self.mesh) - 1

    def run(self, x: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The states at the end, shape (rows, dim), with a graph where one is wanted; the steps each row took.

        Args:
            x: initial states, shape (rows, dim).
            values: the control at every stage, shape (steps, stages, count), or on every step, shape (steps, count).
        """
        if torch.is_grad_enabled() and (x.requires_grad or values.requires_grad):
            found: tuple[Tensor, Tensor] = _Whole.apply(self, x, values)  # type: ignore[no-untyped-call]
            return found
        end, accepted, _ = self.whole.forward(x, self.at_stages(values), self.stride, keep=False)
        return end, accepted

    def at_stages(self, values: Tensor) -> Tensor:
        """The control at every stage."""
        return values if values.ndim == 3 else values[:, None].expand(-1, self.tableau.stages, -1)

    def solution(self, end: Tensor, accepted: Tensor) -> Solution:
        """What became of each row."""
        status = torch.where(accepted == self.steps, int(Status.DONE), int(Status.DIVERGED))
        statistics = Statistics(accepted.long(), torch.zeros_like(status), self.steps * self.tableau.stages)
        size: Tensor = torch.linalg.vector_norm(end.detach(), dim=1)
        return Solution(end, status, statistics, _times(self.mesh).to(end.device)[accepted.long()], size)


def prepare(
    problem: InitialValueProblem, scheme: Scheme, settings: Settings, every: Callable[[int], int]
) -> Prepared | None:
    """The flow as a kernel takes it, where there is one for it; None where the loop is to take the steps.

    Args:
        problem: the flow.
        scheme: its steps.
        settings: what was asked for.
        every: how many of so many steps a state is kept for the way back.
    """
    if not isinstance(scheme, FixedRungeKutta) or type(scheme.dynamics.inner) is not OnMesh or transformed():
        # A kernel is opaque to torch.func.
        return None
    stride, sphere = every(len(scheme.mesh) - 1), type(problem.manifold) is Sphere
    if problem.event is not None or problem.rows == 0 or (problem.manifold is not None and not sphere):
        return None
    if sphere and stride > 1:
        return None
    if settings.save_at != SaveAt() or settings.progress is not None:
        return None
    x, mesh, on_mesh = problem.packed(), tuple(scheme.mesh), scheme.dynamics.inner
    found = whole(on_mesh.families, on_mesh.values, scheme.tableau, mesh, x, sphere=sphere)
    if found is None:
        return None
    return Prepared(found, on_mesh.families, scheme.tableau, mesh, problem.manifold, stride)


@remembered
def _times(mesh: tuple[float, ...]) -> Tensor:
    return torch.tensor(mesh, dtype=torch.float64, device="cpu")


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, prepared: Prepared, x: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        end, accepted, kept = prepared.whole.forward(x, prepared.at_stages(values), prepared.stride, keep=True)
        ctx.prepared = prepared
        # The coefficients only so that torch says when they were changed before the way back reads them again.
        ctx.save_for_backward(x, values, accepted, kept, *prepared.whole.fields.tensors)
        ctx.mark_non_differentiable(accepted)
        return end, accepted

    @staticmethod
    @without_autocast
    def backward(ctx: Any, cotangent: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        refuse_grads_batched(cotangent, "A kernel's way back")
        x, values, accepted, kept, *_ = ctx.saved_tensors
        prepared: Prepared = ctx.prepared
        needs = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():
            return None, *_again(prepared, x, values, accepted, cotangent, needs)
        start, moments = prepared.whole.backward(
            cotangent, prepared.at_stages(values), prepared.stride, kept, accepted, start_wanted=needs[0]
        )
        return None, start, _of_steps(moments) if values.ndim == 2 else moments


def _again(
    prepared: Prepared, x: Tensor, values: Tensor, accepted: Tensor, cotangent: Tensor, needs: tuple[bool, ...]
) -> list[Tensor | None]:
    """With a graph of its own: the steps are taken once more under autograd."""
    mesh, alive = prepared.mesh, accepted == prepared.steps
    taken = [Taken(Step(n, mesh[n + 1] - mesh[n]), alive) for n in range(prepared.steps)]
    u = prepared.at_stages(values)
    dynamics = OnMesh(prepared.families, u)
    plan = Plan(dynamics, prepared.tableau, prepared.manifold, taken, False, leaves=1, outputs=1, mixing=1.0)
    start, moments = again(plan, x, [u], alive, [cotangent], needs)
    return [start, _of_steps(moments) if moments is not None and values.ndim == 2 else moments]


def _of_steps(moments: Tensor) -> Tensor:
    """What a control that is constant on steps gets: the sum over the stages."""
    return moments[:, 0] if moments.shape[1] == 1 else moments.sum(1)
