"""Plain autograd and forward mode: the loop as torch sees it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from cde_nets.gradient.base import Gradient, Settings
from cde_nets.gradient.declared import check_frozen
from cde_nets.gradient.delegated import solve_delegated
from cde_nets.gradient.flows import finish, own_steps, run_flow, save_times
from cde_nets.options import options
from cde_nets.solver.flow.adaptive import Adapted, AdaptiveRungeKutta
from cde_nets.solver.flow.torchdiffeq import LibrarySteps
from cde_nets.solver.initial_value import InitialValueProblem
from cde_nets.solver.method import Iterate, Method
from cde_nets.solver.opaque import func_grad
from cde_nets.solver.solution import Solution

NO_WAY_BACK = (
    "ForwardMode() records nothing for a way back: for backward() and under torch.func.grad, vjp and jacrev take "
    "another gradient, such as Discrete(), or jvp and jacfwd in their place."
)


@options
class Autograd(Gradient):
    """torch records every operation: exact, differentiable to any order, and with the memory of all stages.

    A row that fails within a step may spoil gradients that rows share, as 0 * inf is NaN in a recorded graph; the
    other modes keep it out.
    """

    solves: ClassVar[tuple[str, ...]] = ("flow",)

    def solve(self, problem: InitialValueProblem, method: Method, settings: Settings) -> Solution:
        """As `Gradient.solve`."""
        saves, at_start = save_times(problem, settings.save_at.times)
        scheme = method.resolve(problem, saves)
        if isinstance(scheme, LibrarySteps):
            return solve_delegated(problem, scheme, settings, saves, at_start=at_start)
        scheme = own_steps(scheme, "Autograd")
        ran = run_flow(problem, scheme, settings, saves, None, differentiable=torch.is_grad_enabled())
        return finish(problem, ran, ran.raw, lambda: scheme.dynamics.calls, settings, at_start=at_start)


@options
class ForwardMode(Gradient):
    """Tangents are carried along (torch.func.jvp, torch.autograd.forward_ad); nothing is recorded for a way back.

    The derivative of the same steps (of adaptive ones: of the accepted mesh, held fixed), in memory that does not grow
    with their number: the choice for few inputs and many outputs.

    Raises:
        ValueError: under torch.func.grad, vjp or jacrev, for which there would be no way back.
        RuntimeError: in backward(), where the start or something that trains reaches the solution: likewise.
    """

    solves: ClassVar[tuple[str, ...]] = ("flow",)

    def solve(self, problem: InitialValueProblem, method: Method, settings: Settings) -> Solution:
        """As `Gradient.solve`."""
        if func_grad():
            raise ValueError(NO_WAY_BACK)
        if torch.is_grad_enabled():
            check_frozen(problem)
        with torch.no_grad():
            solution = self._solved(problem, method, settings)
        wanted = [leaf for leaf in (problem.packed(), *problem.dynamics.leaves) if leaf.requires_grad]
        if not wanted or not torch.is_grad_enabled():
            return solution
        # A way back would else find nothing there, and say nothing.
        tensors, build = pytree.tree_flatten(solution.value)
        marked = _OneWay.apply(len(tensors), *tensors, *wanted)  # type: ignore[no-untyped-call]
        return solution.differentiable(pytree.tree_unflatten(marked, build))

    def _solved(self, problem: InitialValueProblem, method: Method, settings: Settings) -> Solution:
        saves, at_start = save_times(problem, settings.save_at.times)
        scheme = method.resolve(problem, saves)
        if isinstance(scheme, LibrarySteps):
            return solve_delegated(problem, scheme, settings, saves, at_start=at_start)
        scheme = own_steps(scheme, "ForwardMode")
        if isinstance(scheme, AdaptiveRungeKutta):
            scheme = _Held(**{f.name: getattr(scheme, f.name) for f in fields(scheme)})
        ran = run_flow(problem, scheme, settings, saves, None)
        return finish(problem, ran, ran.raw, lambda: scheme.dynamics.calls, settings, at_start=at_start)


@dataclass(frozen=True, eq=False)
class _Held(AdaptiveRungeKutta):
    """Adaptive steps whose widths carry no tangent: the mesh is held fixed, as in every other gradient."""

    def step(self, problem: InitialValueProblem, state: Iterate) -> Iterate:
        """As `AdaptiveRungeKutta`; torch.no_grad says nothing to forward mode."""
        memory: Adapted = state.memory
        with torch.autograd.forward_ad._set_fwd_grad_enabled(False):
            held = memory._replace(t=memory.t.clone(), h=memory.h.clone(), previous=memory.previous.clone())
        return super().step(problem, replace(state, memory=held))


class _OneWay(torch.autograd.Function):
    """The first few of the tensors as they are, whose tangents go on, and whose cotangents do not."""

    generate_vmap_rule = True

    @staticmethod
    def forward(count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.view_as(tensor) for tensor in tensors[:count])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.count = inputs[0]

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor) -> tuple[Tensor, ...]:
        return tuple(None if tangent is None else tangent.view_as(tangent) for tangent in tangents[: ctx.count])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[None, ...]:
        raise RuntimeError(NO_WAY_BACK)
