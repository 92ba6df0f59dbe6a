"""Ours, torchdiffeq and torchode on a row with fixed steps.

torchdiffeq is given the grid of the control with the option that evaluates the field on the step's own side of a
breakpoint (`perturb`), and torchode its Euler step with its controller of fixed steps, under
`torch.compile` as its README has it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

import cde_nets as cn
from benchmarks.flows.rows import Given
from benchmarks.flows.sides import Side
from benchmarks.flows.velocities import Way, ways


def ours(given: Given) -> Side:
    """`cn.ControlledODE`, as a training loop calls it."""
    flow = cn.ControlledODE(given.fields, given.control(), "euler", throw=False)
    values = flow.control.get_parameter("values")
    return _side("ours", "-", True, lambda: flow(given.x), values)


class Velocity(nn.Module):
    """The right-hand side f(t, x) for torchdiffeq, with the control's values as its parameter."""

    def __init__(self, way: Way, given: Given) -> None:
        super().__init__()
        self.values = nn.Parameter(given.values.clone())
        self.steps, self.way = given.row.steps, way
        self.constants = tuple(torch.from_numpy(array) for array in way.constants)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """The velocity at time t, which lies inside an interval."""
        interval = min(int(t.item() * self.steps), self.steps - 1)
        velocity: Tensor = self.way.velocity(self.constants, x, self.values[interval])
        return velocity


def torchdiffeq(given: Given) -> list[Side]:
    """`odeint`, differentiated by autograd."""
    odeint = import_module("torchdiffeq").odeint
    return [_torchdiffeq("torchdiffeq", odeint, way, given) for way in _ways(given)]


def torchdiffeq_adjoint(given: Given) -> list[Side]:
    """`odeint_adjoint`: the continuous adjoint, solved backward by Euler."""
    adjoint = import_module("torchdiffeq").odeint_adjoint
    return [_torchdiffeq("torchdiffeq, adjoint", adjoint, way, given, inexact=True) for way in _ways(given)]


def torchdiffeq_compiled(given: Given) -> list[Side]:
    """`torch.compile` of a function that calls `odeint`."""
    odeint = import_module("torchdiffeq").odeint
    return [_torchdiffeq("torchdiffeq, compiled", odeint, way, given, compiled=True) for way in _ways(given)]


def torchode(given: Given) -> list[Side]:
    """`AutoDiffAdjoint` with `Euler` and `FixedStepController`."""
    # Importing it makes torch's compiler say at the level of warnings what is of no concern here.
    logging.getLogger("torch").setLevel(logging.ERROR)
    return [_torchode(way, given) for way in _ways(given)]


def _ways(given: Given) -> list[Way]:
    return ways(given.fields, torch, lambda x, W, b: nn.functional.linear(x, W, b))


def _torchdiffeq(
    name: str, odeint: Callable[..., Tensor], way: Way, given: Given, *, inexact: bool = False, compiled: bool = False
) -> Side:
    field, times = Velocity(way, given), torch.tensor([0.0, 1.0])
    # Correctly rounded n / M: the next number above or below lies inside the interval, forward and backward in time.
    grid = torch.arange(given.row.steps + 1) / given.row.steps
    options = {"grid_constructor": lambda f, y, t: grid if t[0] < t[-1] else grid.flip(0), "perturb": True}
    more = {"adjoint_params": (field.values,)} if inexact else {}

    def run() -> Tensor:
        return odeint(field, given.x, times, method="euler", options=options, **more)[-1]

    return _side(
        name, way.name, way.collapsed, torch.compile(run) if compiled else run, field.values,
        inexact=inexact, jitted=compiled,
    )  # fmt: skip


def _torchode(way: Way, given: Given) -> Side:
    to: Any = import_module("torchode")
    field = Velocity(way, given)
    rows, steps = given.x.shape[0], given.row.steps
    # All rows are at the same time. Times are float64, which the library offers; a hair more than 1 / M, so that
    # rounding neither leaves a time below the interval it begins nor adds a step.
    term = to.ODETerm(lambda t, x: field(t[0], x), with_stats=False)
    solver: Any = torch.compile(to.AutoDiffAdjoint(to.Euler(term), to.FixedStepController()))
    start, end = torch.zeros(rows, dtype=torch.float64), torch.ones(rows, dtype=torch.float64)
    width = torch.full((rows,), (1 + 1e-12) / steps, dtype=torch.float64)

    def run() -> Tensor:
        problem = to.InitialValueProblem(y0=given.x, t_start=start, t_end=end)
        value: Tensor = solver.solve(problem, dt0=width).ys[:, -1]
        return value

    return _side("torchode", way.name, way.collapsed, run, field.values)


def _side(
    name: str,
    way: str,
    collapsed: bool,
    run: Callable[[], Tensor],
    values: Tensor,
    *,
    inexact: bool = False,
    jitted: bool = False,
) -> Side:
    def forward() -> Tensor:
        with torch.no_grad():
            return run()

    def both() -> Tensor:
        values.grad = None
        run().square().sum().backward()
        assert values.grad is not None
        return values.grad

    return Side(name, way, collapsed, forward, both, inexact, jitted)
