"""Adaptive steps: breakpoints, widths, controllers and progress."""

import itertools
import math
from dataclasses import dataclass, field

import pytest
import torch

from cde_nets.controls import PiecewiseConstantControl, PiecewiseLinearControl
from cde_nets.fields import PolynomialFields
from cde_nets.gradient import solve
from cde_nets.solver import (
    TABLEAUS,
    InitialValueProblem,
    PIController,
    RungeKutta,
    SaveAt,
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


def driven():
    """On rows (a, b, w): V_1 = (-w b, w a, 0) turns, V_2 = (a^2, 0, 0) blows up where a > 0."""
    empty = PolynomialFields(torch.zeros(2, 3, 10, dtype=F64), 2)
    place = {tuple(e): k for k, e in enumerate(empty.exponents.tolist())}
    c = torch.zeros(2, 3, 10, dtype=F64)
    c[0, 0, place[0, 1, 1]], c[0, 1, place[1, 0, 1]], c[1, 0, place[2, 0, 0]] = -1.0, 1.0, 1.0
    return PolynomialFields(c, 2)


# -- breakpoints -------------------------------------------------------------------------------------------------------


def stairs(t, x):
    """x' = 1, 3, -2 on the thirds; what it says on the breakpoints themselves is far off."""
    on = (t == 1 / 3) | (t == 2 / 3)
    return torch.where(on, 1e6, torch.where(t < 1 / 3, 1.0, torch.where(t < 2 / 3, 3.0, -2.0))) * torch.ones_like(x)


THIRDS = (1 / 3, 2 / 3)
STEPPERS = {
    "per row": RungeKutta("dopri5"),
    "joint": RungeKutta("tsit5", per_row=False),
    "heun": RungeKutta("heun"),
    "grid": RungeKutta("rk4", steps=7),
    "euler": RungeKutta("euler", steps=3),
}


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("method", STEPPERS.values(), ids=STEPPERS)
@pytest.mark.parametrize("times", [(0.0, 1.0), (1.0, 0.0), (0.1, 0.9), (-1.0, 1.0)])
def test_a_discontinuous_function_is_followed_exactly_where_its_breakpoints_are_named(times, method, dtype):
    def level(t):
        return t + 2 * max(0.0, t - 1 / 3) - 5 * max(0.0, t - 2 / 3)

    problem = InitialValueProblem(stairs, column(0.0, 1.0, dtype=dtype), *times, breakpoints=THIRDS)
    solution = solve(problem, method, save_at=SaveAt(steps=True))
    exact = level(times[1]) - level(times[0]) + column(0.0, 1.0, dtype=dtype)
    torch.testing.assert_close(solution.value, exact, rtol=0, atol=1e-13 if dtype == F64 else 2e-6)
    assert not solution.statistics.rejected.any()
    for row in solution.trace.times.reshape(len(solution.trace.times), -1).mT.tolist():
        assert {times[0], *THIRDS, times[1]} <= set(row)


def test_without_breakpoints_the_same_function_costs_many_more_steps():
    def jump(t, x):
        return torch.where(t < 1 / 3, 1.0, 3.0) * torch.ones_like(x)

    named, found = (
        solve(InitialValueProblem(jump, column(0.0), breakpoints=b), RungeKutta("dopri5")) for b in ((1 / 3,), ())
    )
    assert int(found.statistics.steps.max()) > 4 * int(named.statistics.steps.max())


@pytest.mark.parametrize("kind", [PiecewiseConstantControl, PiecewiseLinearControl])
@pytest.mark.parametrize("times", [(0.0, 1.0), (1.0, 0.0), (0.9, 0.15)])
@pytest.mark.parametrize(
    "method", [RungeKutta("dopri5"), RungeKutta("tsit5", per_row=False), RungeKutta("rk4", steps=9)]
)
def test_steps_end_on_the_breakpoints_of_a_control_and_stages_stay_on_their_side(monkeypatch, method, times, kind):
    control = kind.random(5, 2, scale=1.0, seed=0, dtype=F64)
    asked = []
    plain = kind.at

    def at(self, times, inside=None):
        asked.append((times, inside.expand(times.shape)))
        return plain(self, times, inside)

    monkeypatch.setattr(kind, "at", at)
    x = torch.tensor([[-0.5, 0.2, 1.0], [0.1, 0.3, 3.0], [-0.4, 0.1, 25.0]][:2], dtype=F64)
    problem = InitialValueProblem.controlled(driven(), control, x, *times)
    solution = solve(problem, method, tolerance=LOOSE, save_at=SaveAt(steps=True))
    low, high = sorted(times)
    inner = {t for t in control.breakpoints if low < t < high}
    for row in solution.trace.times.reshape(len(solution.trace.times), -1).mT.tolist():
        assert inner <= set(row)
        moved = [t for t, after in itertools.pairwise([*row, None]) if t != after]
        assert moved == sorted(moved, reverse=times[1] < times[0])
    if method.steps is None:
        # The stages of a step together.
        assert sum(len(t) for t, _ in asked) > 20
        edges = torch.tensor(control.breakpoints, dtype=F64)
        for t, inside in asked:
            piece = torch.searchsorted(edges, inside)
            start, end = torch.cat([edges[:1] - 1, edges])[piece], torch.cat([edges, edges[-1:] + 1])[piece]
            assert bool(((start - 1e-15 <= t) & (t <= end + 1e-15)).all())


# -- widths and controllers --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Always:
    """The same factor whatever the error."""

    value: float

    def factor(self, error, previous, order):
        return torch.full_like(error, self.value)


@dataclass(frozen=True)
class Recording:
    """What the true controller is told, and says."""

    seen: list = field(default_factory=list)

    def factor(self, error, previous, order):
        found = PIController().factor(error, previous, order)
        self.seen.append((error, previous, order, found))
        return found


def flat(t, x):
    return torch.ones_like(x)


def widths(solution):
    return solution.trace.times.diff(dim=0).flatten().tolist()


@pytest.mark.parametrize("first_step", [0.125, 0.3, 7.0])
@pytest.mark.parametrize("times", [(0.0, 1.0), (2.0, 1.0)])
def test_the_first_step_is_as_wide_as_was_asked(first_step, times):
    problem = InitialValueProblem(flat, column(0.0, 1.0), *times)
    solution = solve(problem, RungeKutta("dopri5", first_step=first_step), save_at=SaveAt(steps=True))
    first = solution.trace.times[1] - solution.trace.times[0]
    want = math.copysign(min(first_step, 1.0), times[1] - times[0])
    torch.testing.assert_close(first, torch.full_like(first, want), rtol=1e-15, atol=0)


def test_a_controller_that_always_halves_ends_with_steps_that_are_too_small():
    method = RungeKutta("dopri5", first_step=0.5, controller=Always(0.5))
    solution = solve(InitialValueProblem(flat, column(0.0)), method, save_at=SaveAt(steps=True), throw=False)
    assert solution.words() == ["step_too_small"]
    got = widths(solution)
    assert got[:20] == [0.5 / 2**k for k in range(20)]
    assert 40 < len(got) < 60
    assert float(solution.time[0]) == pytest.approx(1.0, abs=1e-13)


@pytest.mark.parametrize(("jumps", "name", "evaluations"), [((), "dopri5", 7 + 6 * 7), ((0.5,), "dopri5", 56)])
def test_a_controller_that_keeps_the_width_makes_equal_steps(jumps, name, evaluations):
    # Eight of them; the last stage of a step is the first of the next, but where the function may jump in between.
    calls = []

    def counting(t, x):
        calls.append(float(t))
        return torch.ones_like(x)

    problem = InitialValueProblem(counting, column(0.0), breakpoints=jumps)
    method = RungeKutta(name, first_step=0.125, controller=Always(1.0))
    with torch.no_grad():
        solution = solve(problem, method, save_at=SaveAt(steps=True))
    assert widths(solution) == [0.125] * 8
    assert solution.statistics.evaluations == len(calls) == evaluations
    assert max(calls) == 1.0


def test_a_controller_that_never_lets_a_step_pass_ends_with_max_steps():
    # The error of this step is far above the tolerance, and stays so.
    method = RungeKutta("heun", first_step=1.0, controller=Always(1.0))
    problem = InitialValueProblem(lambda t, x: torch.exp(5 * t) * torch.ones_like(x), column(0.0))
    solution = solve(problem, method, max_steps=37, throw=False)
    assert solution.words() == ["max_steps"]
    assert int(solution.statistics.rejected[0]) == 37
    assert float(solution.time[0]) == 0.0
    # One evaluation before the first step; then the slope at the row's place is known.
    assert solution.statistics.evaluations == 2 * 37


@pytest.mark.parametrize("per_row", [True, False])
def test_the_controller_is_told_the_scaled_error_and_the_last_accepted_one(per_row):
    # Heun on x' = 2 t: the embedded difference is h (k_2 - k_1) / 2 = h^2, whatever x is.
    recording, tolerance = Recording(), Tolerance(rtol=1e-3, atol=1e-2)
    method = RungeKutta("heun", first_step=0.5, controller=recording, per_row=per_row)
    problem = InitialValueProblem(
        lambda t, x: 2 * t * torch.ones_like(x), torch.tensor([[0.0, 1.0], [4.0, 2.0]], dtype=F64)
    )
    solution = solve(problem, method, tolerance=tolerance)
    errors, previous, orders, _ = zip(*recording.seen, strict=True)
    assert set(orders) == {2}
    end = torch.tensor([[0.25, 1.25], [4.25, 2.25]], dtype=F64)
    each = (0.25 / (1e-2 + 1e-3 * end)).square().mean(1, keepdim=True)
    want = each.sqrt() if per_row else each.mean(0, keepdim=True).sqrt()
    torch.testing.assert_close(errors[0], want, rtol=1e-12, atol=0)
    assert errors[0].dtype == F64
    last = torch.ones_like(errors[0])
    for error, told in zip(errors, previous, strict=True):
        torch.testing.assert_close(told, last, rtol=0, atol=0)
        last = torch.where(error <= 1, error, last)
    assert sum((e > 1).long() for e in errors)[0] == solution.statistics.rejected[0] > 0


@pytest.mark.parametrize("name", PAIRS)
def test_the_controller_is_told_the_order_the_error_falls_with(name):
    recording = Recording()
    solve(InitialValueProblem(swing, swings(1.0)), RungeKutta(name, controller=recording), tolerance=LOOSE)
    assert {order for _, _, order, _ in recording.seen} == {TABLEAUS[name].order}


def test_the_pi_controller_follows_its_formula_within_its_bounds():
    controller = PIController()
    error = torch.tensor([0.5, 1e-30, 0.0, 1.0, 1.001, 1e9, math.nan, math.inf], dtype=F64)
    got = controller.factor(error, torch.full_like(error, 0.8), 5)
    plain = 0.9 * 0.5 ** (-0.85 / 5) * 0.8 ** (0.2 / 5)
    assert float(got[0]) == pytest.approx(plain, rel=1e-14)
    assert got[1:3].tolist() == [10.0, 10.0]
    # A step that was refused never lets the next one grow, and what is not finite shrinks as far as is allowed.
    refused = PIController(safety=0.99).factor(error, torch.full_like(error, 1e4), 5)
    assert float(refused[4]) <= 0.99
    assert got[5:].tolist() == [0.2, 0.2, 0.2]


def test_a_stop_that_cuts_a_step_short_does_not_shrink_the_next():
    problem = InitialValueProblem(flat, column(0.0), breakpoints=(0.401,))
    method = RungeKutta("dopri5", first_step=0.2, controller=Always(1.0))
    got = widths(solve(problem, method, save_at=SaveAt(steps=True)))
    assert got == pytest.approx([0.2, 0.2, 0.001, 0.2, 0.2, 0.199], abs=1e-12)


# -- progress ----------------------------------------------------------------------------------------------------------


PROGRESS = {
    "grid": (swing, swings(1.0, 2.0), (0.0, 1.0), RungeKutta("rk4", steps=7), None),
    "per row": (swing, swings(1.0, 30.0), (0.0, 1.0), RungeKutta("dopri5"), None),
    "joint": (swing, swings(1.0, 30.0), (0.0, 1.0), RungeKutta("dopri5", per_row=False), None),
    "backward": (swing, swings(1.0, 9.0), (1.5, -0.5), RungeKutta("tsit5"), None),
    "failing": (lambda t, x: x**2, column(0.1, 3.0), (0.0, 1.0), RungeKutta("dopri5"), None),
    "failing jointly": (lambda t, x: x**2, column(2.0, 3.0), (0.0, 1.0), RungeKutta("dopri5", per_row=False), None),
    "event": (flat, column(0.0, 0.1), (0.0, 1.0), RungeKutta("dopri5", per_row=False), lambda t, x: x[:, 0] - 0.3),
}


@pytest.mark.parametrize("case", PROGRESS.values(), ids=PROGRESS)
def test_progress_rises_to_one(case):
    f, x, times, method, event = case
    told = []
    solve(InitialValueProblem(f, x, *times, event=event), method, throw=False, progress=told.append)
    assert len(told) > 2
    assert told == sorted(told)
    assert 0 < told[0] < told[-1] == 1
