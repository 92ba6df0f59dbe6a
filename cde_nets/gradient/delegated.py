"""Flows whose steps another library takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cde_nets.gradient.base import Settings
from cde_nets.solver.dynamics import Moment
from cde_nets.solver.flow.torchdiffeq import LibrarySteps, Passed, leaves_torch
from cde_nets.solver.initial_value import InitialValueProblem
from cde_nets.solver.loop import run
from cde_nets.solver.solution import Solution, Statistics


def solve_delegated(
    problem: InitialValueProblem, scheme: LibrarySteps, settings: Settings, saves: Sequence[float], *, at_start: bool
) -> Solution:
    """Run the library's steps in the loop; autograd records them if it is on.

    Raises:
        ValueError: a trace or dense output is wanted, or a gradient of a method that computes outside of torch.
    """
    if settings.save_at.steps or settings.save_at.dense:
        raise ValueError("TorchDiffEq keeps neither its steps nor dense output; give save times, or take RungeKutta.")
    if torch.is_grad_enabled() and leaves_torch(scheme.name) and _wants_gradient(problem, scheme):
        raise ValueError(
            f"{scheme.name} computes outside of torch, where gradients are lost. Solve under torch.no_grad(), or take "
            "another method."
        )
    iterate = run(problem, replace(scheme, max_steps=settings.max_steps), settings.limits)
    memory: Passed = iterate.memory
    value = iterate.value
    if settings.save_at.times is not None:
        first = [problem.packed()] if at_start else []
        # A solve whose rows all ended early skips nothing: every stretch saves.
        value = torch.stack([*first, *memory.saved]) if first or saves else value.new_zeros(0, *value.shape)
    mesh = torch.tensor(scheme.mesh, dtype=torch.float64, device=value.device)
    size: Tensor = torch.linalg.vector_norm(iterate.value.detach(), dim=1)
    return Solution(
        problem.packing.unpack(value),
        iterate.status,
        Statistics(memory.accepted, memory.rejected, scheme.dynamics.calls),
        mesh[iterate.accepted],
        size,
    )


def _wants_gradient(problem: InitialValueProblem, scheme: LibrarySteps) -> bool:
    x = problem.packed()
    t = torch.full((1, 1), problem.t0, dtype=torch.float64, device=x.device)
    middle = torch.full_like(t, (scheme.mesh[0] + scheme.mesh[1]) / 2)
    return x.requires_grad or problem.dynamics.velocity(x, Moment(0, 0, t, middle)).requires_grad
