"""Every row by itself: the steps it would take alone, and failures that stay in their row."""

import math

import pytest
import torch

from cde_nets.controls import PiecewiseConstantControl, PiecewiseLinearControl
from cde_nets.errors import ConvergenceError, DivergedError
from cde_nets.fields import PolynomialFields
from cde_nets.gradient import Autograd, Checkpointed, Discrete, solve
from cde_nets.solver import (
    InitialValueProblem,
    RungeKutta,
    SaveAt,
    Status,
    Tolerance,
)

# Thousands of steps: the shape checker would take most of the time.
pytestmark = pytest.mark.usefixtures("bad_input")

F64 = torch.float64
PAIRS = ("heun", "bosh3", "dopri5", "tsit5")
LOOSE = Tolerance(rtol=1e-4, atol=1e-6)


def column(*numbers, dtype=F64):
    return torch.tensor(numbers, dtype=dtype)[:, None]


def swing(t, x):
    """Rows (a, b, w): an oscillator of frequency w, pushed by cos t; w stays."""
    a, b, w = x.unbind(-1)
    push = torch.cos(t).expand(*x.shape[:-1], 1)[..., 0] if t.ndim else torch.cos(t)
    return torch.stack([-w * b + push, w * a, torch.zeros_like(w)], -1)


def swings(*frequencies):
    return torch.tensor([[1.0, -0.5, w] for w in frequencies], dtype=F64)


# -- rows by themselves ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAIRS)
def test_a_row_takes_the_steps_it_would_take_alone(name):
    x, times = swings(0.5, 30.0, 6.0), [0.1, 0.5, 0.51, 1.0]

    tolerance = Tolerance(1e-2, 1e-3) if name == "heun" else LOOSE

    def run(x):
        return solve(InitialValueProblem(swing, x), RungeKutta(name), tolerance=tolerance, save_at=times)

    together = run(x)
    counts = together.statistics.steps.tolist()
    assert counts[1] >= 10 * counts[0]
    for n in range(len(x)):
        alone = run(x[n : n + 1])
        assert torch.equal(together.value[:, n], alone.value[:, 0])
        for part in ("accepted", "rejected"):
            assert getattr(together.statistics, part)[n] == getattr(alone.statistics, part)[0]
    assert together.statistics.evaluations == run(x[1:2]).statistics.evaluations


@pytest.mark.parametrize("name", PAIRS)
def test_joint_steps_are_those_of_the_root_mean_square_of_the_errors(name):
    joint = RungeKutta(name, per_row=False)

    tolerance = Tolerance(1e-2, 1e-3) if name == "heun" else LOOSE

    def run(x, method=joint):
        return solve(InitialValueProblem(swing, x), method, tolerance=tolerance, save_at=SaveAt(steps=True))

    # Of equal rows the mean is that of each.
    row, copies = run(swings(5.0)), run(swings(5.0, 5.0, 5.0))
    torch.testing.assert_close(copies.trace.times, row.trace.times, rtol=1e-13, atol=0)
    torch.testing.assert_close(copies.value, row.value.expand(3, -1), rtol=1e-13, atol=0)
    # Many calm rows hide a wild one, which takes steps of its own where it may.
    mixed = swings(5.0, *[0.1] * 9)
    together = run(mixed)
    assert together.statistics.accepted.unique().numel() == 1
    assert together.trace.times.ndim == 1
    assert int(together.statistics.accepted[0]) < int(run(mixed, RungeKutta(name)).statistics.accepted[0])


def test_a_coupled_state_is_one_row():
    def pull(t, x):
        return x.mean(0) - x

    problem = InitialValueProblem(pull, column(1.0, 3.0), coupled=True)
    solution = solve(problem, RungeKutta("dopri5"))
    assert solution.status.tolist() == [Status.DONE]
    torch.testing.assert_close(solution.value, 2 + column(-1.0, 1.0) * math.exp(-1), rtol=1e-6, atol=0)


# -- rows that fail ----------------------------------------------------------------------------------------------------


def driven():
    """On rows (a, b, w): V_1 = (-w b, w a, 0) turns, V_2 = (a^2, 0, 0) blows up where a > 0."""
    empty = PolynomialFields(torch.zeros(2, 3, 10, dtype=F64), 2)
    place = {tuple(e): k for k, e in enumerate(empty.exponents.tolist())}
    c = torch.zeros(2, 3, 10, dtype=F64)
    c[0, 0, place[0, 1, 1]], c[0, 1, place[1, 0, 1]], c[1, 0, place[2, 0, 0]] = -1.0, 1.0, 1.0
    return PolynomialFields(c, 2)


HEALTHY = [[-0.5, 0.2, 1.0], [0.1, 0.3, 3.0], [-0.4, 0.1, 25.0]]
FAILING = {
    "nan": ([math.nan, 0.0, 1.0], Status.DIVERGED),
    "infinite": ([0.0, math.inf, 1.0], Status.DIVERGED),
    "overflow": ([1e200, 0.0, 0.0], Status.DIVERGED),
    "blow-up": ([3.0, 0.1, 0.1], Status.STEP_TOO_SMALL),
}
MIXED = [HEALTHY[0], FAILING["nan"][0], FAILING["blow-up"][0], HEALTHY[1], FAILING["overflow"][0], HEALTHY[2]]
MIXED.append(FAILING["infinite"][0])
WELL, ILL = [0, 3, 5], [1, 2, 4, 6]
METHODS = {
    "per row": RungeKutta("dopri5"),
    "joint": RungeKutta("dopri5", per_row=False),
    "grid": RungeKutta("rk4", steps=30),
    "euler": RungeKutta("euler", steps=200),
}


def fly(rows, method, gradient, kind=PiecewiseConstantControl, **options):
    """The solution, and the gradients of the control and of the start for a loss that looks at every row."""
    values = torch.tensor([[0.9, 1.1], [1.2, 0.8], [1.0, 1.0]], dtype=F64)[: 2 + (kind is PiecewiseLinearControl)]
    control = kind(2, 2, values=values)
    x = torch.tensor(rows, dtype=F64, requires_grad=True)
    problem = InitialValueProblem.controlled(driven(), control, x)
    solution = solve(problem, method, gradient=gradient, tolerance=LOOSE, throw=False, **options)
    loss = (solution.value * torch.arange(1.0, 4.0, dtype=F64)).sum()
    return solution, *torch.autograd.grad(loss, [control.values, x])


@pytest.mark.parametrize(
    ("method", "gradient", "kind"),
    [
        ("per row", Discrete(), PiecewiseConstantControl),
        ("per row", Checkpointed(), PiecewiseLinearControl),
        ("joint", Discrete(), PiecewiseConstantControl),
        ("joint", Checkpointed(), PiecewiseLinearControl),
        ("grid", Discrete(), PiecewiseLinearControl),
        ("grid", Checkpointed(), PiecewiseConstantControl),
        ("euler", Discrete(), PiecewiseConstantControl),
    ],
)
def test_failures_stay_in_their_row_forward_and_backward(method, gradient, kind):
    method = METHODS[method]
    mixed, u, x = fly(MIXED, method, gradient, kind)
    alone, u_alone, x_alone = fly(HEALTHY, method, gradient, kind)
    assert alone.words() == ["done"] * 3
    assert mixed.succeeded.tolist() == [n in WELL for n in range(len(MIXED))]
    assert int(mixed.failed.sum()) == len(ILL)
    # Where all take the same steps, those that are left when the others have failed are others.
    tight = {"rtol": 1e-4, "atol": 1e-4} if method is METHODS["joint"] else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(mixed.value[WELL], alone.value, **tight)
    scale = {"rtol": 1e-2, "atol": 1e-2} if method is METHODS["joint"] else {"rtol": 1e-12, "atol": 1e-13}
    torch.testing.assert_close(u, u_alone, **scale)
    torch.testing.assert_close(x[WELL], x_alone, **scale)
    assert not x[ILL].any()


@pytest.mark.parametrize("method", [METHODS["per row"], METHODS["joint"]])
@pytest.mark.parametrize("name", FAILING)
def test_a_failing_row_says_how_and_keeps_its_last_finite_value(method, name):
    row, status = FAILING[name]
    solution, *gradients = fly([HEALTHY[0], row], method, Discrete(), save_at=SaveAt(steps=True))
    assert solution.status.tolist() == [Status.DONE, status]
    assert all(bool(g.isfinite().all()) for g in gradients)
    if status == Status.DIVERGED:
        torch.testing.assert_close(solution.value[1], torch.tensor(row, dtype=F64), equal_nan=True)
        assert int(solution.statistics.accepted[1]) == 0
    else:
        # a' = u a^2 has a pole at the time where the integral of u is 1 / a_0.
        assert bool(solution.value[1].isfinite().all())
        assert solution.value[1, 0].item() > 1e6
    assert solution.time[0] == 1.0
    assert method.per_row is False or float(solution.time[1]) < 0.34
    assert bool(solution.size.isfinite()[0])


@pytest.mark.parametrize("method", [METHODS["grid"], METHODS["euler"]])
def test_on_a_grid_the_last_finite_value_is_that_of_the_last_step_taken(method):
    solution, *gradients = fly([HEALTHY[0], FAILING["blow-up"][0]], method, Discrete(), save_at=SaveAt(steps=True))
    assert solution.words() == ["done", "diverged"]
    taken = int(solution.statistics.accepted[1])
    assert 10 < taken < len(solution.trace.times) - 1
    states, times = solution.trace.values[:, 1], solution.trace.times
    assert bool(states.isfinite().all())
    assert torch.equal(states[taken], solution.value[1])
    assert torch.equal(states[taken:], states[taken].expand(len(states) - taken, -1))
    assert not torch.equal(states[taken], states[taken - 1])
    assert solution.time.tolist() == [1.0, float(times[taken])]
    assert all(bool(g.isfinite().all()) for g in gradients)


@pytest.mark.parametrize(
    ("gradient", "per_row"), [(Discrete(), True), (Discrete(), False), (Checkpointed(), True), (Autograd(), True)]
)
def test_a_trial_that_overflows_is_tried_again_with_less(gradient, per_row):
    # The first step is far too wide for the first row: its stages leave the finite numbers, and 0 times them is NaN.
    values = torch.tensor([[-1.0]], dtype=F64)
    fields = PolynomialFields(torch.tensor([[[0.0] * 9 + [1.0]]], dtype=F64), 9)

    def run(rows):
        control = PiecewiseConstantControl(1, 1, values=values)
        x = column(*rows).requires_grad_()
        problem = InitialValueProblem.controlled(fields, control, x)
        method = RungeKutta("dopri5", first_step=0.9, per_row=per_row)
        solution = solve(problem, method, gradient=gradient)
        return solution, torch.autograd.grad(solution.value.sum(), [control.values, x])

    rows = [3.0, 0.5]
    solution, (u, x) = run(rows)
    # x' = -x^9: x^-8 grows by 8 t.
    torch.testing.assert_close(solution.value, (column(*rows) ** -8 + 8) ** -0.125, rtol=1e-5, atol=0)
    assert int(solution.statistics.rejected[0]) > 5
    if gradient != Autograd():
        parts = [run([row]) for row in rows]
        close = {"rtol": 1e-11, "atol": 1e-14} if per_row else {"rtol": 1e-4, "atol": 1e-6}
        torch.testing.assert_close(u, sum(g[0] for _, g in parts), **close)
        torch.testing.assert_close(x, torch.cat([g[1] for _, g in parts]), **close)


def test_a_velocity_that_is_nan_from_some_time_on_ends_the_row_there():
    def until_half(t, x):
        return torch.where((t > 0.5) & (x > 0), math.nan, -x)

    solution = solve(InitialValueProblem(until_half, column(1.0, -1.0)), throw=False)
    assert solution.words() == ["diverged", "done"]
    assert float(solution.time[0]) == pytest.approx(0.5, abs=1e-12)
    torch.testing.assert_close(solution.value, column(math.exp(-0.5), -math.exp(-1)), rtol=1e-6, atol=0)


@pytest.mark.parametrize("per_row", [True, False])
def test_a_row_that_blows_up_takes_no_other_along(per_row):
    problem = InitialValueProblem(lambda t, x: x**2, column(2.0, 4.0, -1.0, 0.1))
    solution = solve(problem, RungeKutta("dopri5", per_row=per_row), throw=False)
    assert solution.words() == ["step_too_small", "step_too_small", "done", "done"]
    torch.testing.assert_close(solution.value[2:], column(-0.5, 1 / 9), rtol=1e-6, atol=0)


def test_the_error_names_rows_time_and_the_way_out():
    problem = InitialValueProblem(lambda t, x: x**2, column(0.1, 2.0))
    with pytest.raises(DivergedError, match=r"Row 1 of 2 could not be followed at t = 0\.5 .*breakpoints=") as caught:
        solve(problem)
    assert caught.value.solution.words() == ["done", "step_too_small"]


def test_rows_that_run_out_of_steps_say_so():
    problem = InitialValueProblem(swing, swings(0.5, 200.0))
    solution = solve(problem, max_steps=40, throw=False)
    assert solution.words() == ["done", "max_steps"]
    assert int(solution.statistics.steps[1]) == 40
    assert 0 < float(solution.time[1]) < 1
    with pytest.raises(ConvergenceError, match=r"Row 1 of 2 ran out of steps .* after 40 steps .*raise max_steps"):
        solve(problem, max_steps=40)


def test_no_rows_are_solved_too():
    for method in METHODS.values():
        solution = solve(InitialValueProblem(swing, swings()[:0].reshape(0, 3)), method, save_at=[0.0, 0.5, 1.0])
        assert solution.value.shape == (3, 0, 3)
