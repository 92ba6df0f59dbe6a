"""What makes the host wait: nothing on a fixed grid, one number an adaptive step."""

import math

import pytest
import torch

from cde_nets.controls import PiecewiseLinearControl
from cde_nets.fields import PolynomialFields
from cde_nets.gradient import Checkpointed, Discrete, discrete, solve
from cde_nets.solver import (
    InitialValueProblem,
    PIController,
    Reversible,
    RungeKutta,
    Tolerance,
)

# Thousands of steps: the shape checker would take most of the time.
pytestmark = pytest.mark.usefixtures("bad_input")

F64 = torch.float64


def driven():
    """On rows (a, b, w): V_1 = (-w b, w a, 0) turns, V_2 = (a^2, 0, 0) blows up where a > 0."""
    empty = PolynomialFields(torch.zeros(2, 3, 10, dtype=F64), 2)
    place = {tuple(e): k for k, e in enumerate(empty.exponents.tolist())}
    c = torch.zeros(2, 3, 10, dtype=F64)
    c[0, 0, place[0, 1, 1]], c[0, 1, place[1, 0, 1]], c[1, 0, place[2, 0, 0]] = -1.0, 1.0, 1.0
    return PolynomialFields(c, 2)


def test_reads_are_counted(reads):
    x = torch.ones(2, 2)
    found = []
    for read in (
        lambda: x.tolist(),
        lambda: x[0, 0].item(),
        lambda: bool(x.sum()),
        lambda: float(x.sum()),
        lambda: int(x.sum()),
        lambda: [0, 1][x[0, 0].long()],
        lambda: x.numpy(),
        lambda: x[x > 0],
        lambda: torch.nonzero(x),
        lambda: torch.equal(x, x),
    ):
        reads.count = 0
        with reads:
            read()
        found.append(reads.count)
    assert all(n >= 1 for n in found), found


def grid_problem(case):
    control = PiecewiseLinearControl(2, 2, values=torch.full((3, 2), 0.5, dtype=F64))
    x = torch.tensor([[-0.5, 0.2, 1.0], [math.nan, 0.0, 1.0]], dtype=F64, requires_grad=True)
    sphere = "sphere" if case == "sphere" else None
    event = (lambda t, x: x[:, 0] - 0.2) if case == "event" else None
    problem = InitialValueProblem.controlled(driven(), control, x, manifold=sphere, event=event)
    if case == "function":
        problem = InitialValueProblem(lambda t, x, u: u[0, 0] * x * torch.sin(t), x, args=(control.values,))
    return problem, control, x


@pytest.mark.parametrize("case", ["plain", "saves", "sphere", "event", "function"])
@pytest.mark.parametrize("name", ["euler", "rk4", "dopri5", "reversible"])
def test_a_fixed_grid_reads_nothing_back_forward_or_backward(reads, name, case):
    if name == "reversible" and case in ("sphere", "event", "saves"):
        pytest.skip("not offered")
    problem, control, x = grid_problem(case)
    method = Reversible(RungeKutta("rk4", steps=8)) if name == "reversible" else RungeKutta(name, steps=8)
    for gradient in (Discrete(), Checkpointed()) if name != "reversible" else (Discrete(),):
        saves = [0.0, 0.3, 0.5, 1.0] if case == "saves" else None
        with reads:
            solution = solve(problem, method, gradient=gradient, throw=False, save_at=saves)
            torch.autograd.grad(solution.value.sum(), [control.values, x])
        assert solution.status.shape == (2,)
        assert reads.count == 0


@pytest.mark.parametrize("case", ["plain", "saves", "sphere", "event", "function"])
@pytest.mark.parametrize("per_row", [True, False])
def test_an_adaptive_step_reads_once_and_the_way_back_never(reads, per_row, case, monkeypatch):
    # As on a device: only a CPU, where to look costs nothing, sorts the steps for the way back.
    monkeypatch.setattr(discrete, "packs", lambda problem, scheme: False)
    problem, control, x = grid_problem(case)
    saves = [0.0, 0.3, 0.5, 1.0] if case == "saves" else None
    tries = []

    class Watched(PIController):
        def factor(self, *args):
            tries.append(1)
            return super().factor(*args)

    method = RungeKutta("dopri5", per_row=per_row, controller=Watched())
    with reads:
        solution = solve(problem, method, tolerance=Tolerance(1e-9, 1e-9), throw=False, save_at=saves)
    assert len(tries) > 3
    # Whether any row runs at all is the one read before the first step.
    assert reads.count <= len(tries) + 1
    reads.count = 0
    with reads:
        torch.autograd.grad(solution.value.sum(), [control.values, x])
    assert reads.count == 0
