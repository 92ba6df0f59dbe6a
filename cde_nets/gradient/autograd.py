"""Plain autograd and forward mode: the loop as torch sees it."""

from __future__ import annotations

from typing import ClassVar

import torch

from cde_nets.gradient.base import Gradient, Settings
from cde_nets.gradient.delegated import solve_delegated
from cde_nets.gradient.flows import finish, own_steps, run_flow, save_times
from cde_nets.options import options
from cde_nets.solve.flow.torchdiffeq import LibrarySteps
from cde_nets.solve.initial_value import InitialValueProblem
from cde_nets.solve.method import Method
from cde_nets.solve.solution import Solution


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

    The derivative of the same steps, in memory that does not grow with their number: the choice for few inputs and
    many outputs.
    """

    solves: ClassVar[tuple[str, ...]] = ("flow",)

    def solve(self, problem: InitialValueProblem, method: Method, settings: Settings) -> Solution:
        """As `Gradient.solve`."""
        with torch.no_grad():
            return Autograd().solve(problem, method, settings)
