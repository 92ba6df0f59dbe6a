"""What a flow gives besides its end: save times, traces, dense output, events; and manifolds on the way."""

import math
from dataclasses import dataclass, replace

import pytest
import torch

from cde_nets.controls import SpectralControl
from cde_nets.fields import PolynomialFields
from cde_nets.gradient import Autograd, Checkpointed, Discrete, solve
from cde_nets.solver import (
    Event,
    InitialValueProblem,
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


def driven():
    """On rows (a, b, w): V_1 = (-w b, w a, 0) turns, V_2 = (a^2, 0, 0) blows up where a > 0."""
    empty = PolynomialFields(torch.zeros(2, 3, 10, dtype=F64), 2)
    place = {tuple(e): k for k, e in enumerate(empty.exponents.tolist())}
    c = torch.zeros(2, 3, 10, dtype=F64)
    c[0, 0, place[0, 1, 1]], c[0, 1, place[1, 0, 1]], c[1, 0, place[2, 0, 0]] = -1.0, 1.0, 1.0
    return PolynomialFields(c, 2)


def flat(t, x):
    return torch.ones_like(x)


@dataclass(frozen=True)
class Always:
    """The same factor whatever the error."""

    value: float

    def factor(self, error, previous, order):
        return torch.full_like(error, self.value)


# -- save times, traces, dense output ----------------------------------------------------------------------------------


def sway(t, x):
    """Rows (a, w): a' = w cos(w t), so that a = a_0 + sin(w t)."""
    w = x[..., 1]
    s = t.expand(*x.shape[:-1], 1)[..., 0] if t.ndim else t
    return torch.stack([w * torch.cos(w * s), torch.zeros_like(w)], -1)


def swayed(x, t, t0):
    a, w = x.unbind(-1)
    return torch.stack([a + torch.sin(w * t) - torch.sin(w * t0), w], -1)


SAVES = {
    "inside": [0.1, 0.11, 0.5, 0.83],
    "both ends": [0.0, 1.0],
    "the start": [0.0],
    "the end": [1.0],
    "many": [k / 40 for k in range(41)],
    "none": [],
}
SWAYING = torch.tensor([[0.0, 1.0], [1.0, 9.0], [-1.0, 0.01]], dtype=F64)
TIGHT = Tolerance(rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("saves", SAVES.values(), ids=SAVES)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "method", [RungeKutta("dopri5"), RungeKutta("tsit5", per_row=False), RungeKutta("rk4", steps=100)]
)
def test_states_are_saved_where_they_were_asked_for(method, reverse, saves):
    times, saves = ((1.0, 0.0), saves[::-1]) if reverse else ((0.0, 1.0), saves)
    wanted = SaveAt(times=saves, dense=True)
    solution = solve(InitialValueProblem(sway, SWAYING, *times), method, tolerance=TIGHT, save_at=wanted)
    assert solution.value.shape == (len(saves), 3, 2)
    for t, got in zip(saves, solution.value, strict=True):
        torch.testing.assert_close(got, swayed(SWAYING, t, times[0]), rtol=0, atol=2e-7)
        torch.testing.assert_close(got, solution.dense(t), rtol=0, atol=1e-14)
    torch.testing.assert_close(solution.dense(saves), solution.value, rtol=0, atol=1e-14)
    assert torch.equal(solution.dense(torch.tensor(saves, dtype=F64)), solution.dense(saves))


@pytest.mark.parametrize(
    "method", [RungeKutta("dopri5"), RungeKutta("tsit5", per_row=False), RungeKutta("rk4", steps=100)]
)
def test_every_gradient_saves_the_same_states_and_differentiates_them(method):
    found = []
    for gradient in (Discrete(), Autograd(), Checkpointed()):
        x = SWAYING.clone().requires_grad_()
        problem = InitialValueProblem(sway, x)
        solution = solve(problem, method, gradient=gradient, tolerance=LOOSE, save_at=SAVES["inside"])
        found.append((solution.value, torch.autograd.grad(solution.value.square().sum(), x)[0]))
    for value, grad in found[1:]:
        torch.testing.assert_close(value, found[0][0], rtol=0, atol=0)
        torch.testing.assert_close(grad, found[0][1], rtol=1e-12, atol=1e-12)


def test_saving_takes_no_step_more():
    problem = InitialValueProblem(sway, SWAYING)
    plain, saving = (solve(problem, save_at=s).statistics for s in (None, SAVES["many"]))
    assert saving.evaluations == plain.evaluations
    assert torch.equal(saving.accepted, plain.accepted)


@pytest.mark.parametrize("per_row", [True, False])
def test_many_save_times_within_one_step_lie_on_its_polynomial(per_row):
    # One step: x = t^4 is what dopri5 and its continuous extension of degree 4 find exactly.
    method = RungeKutta("dopri5", first_step=1.0, controller=Always(1.0), per_row=per_row)
    saves = torch.linspace(0, 1, 33, dtype=F64)
    problem = InitialValueProblem(lambda t, x: 4 * t**3 * torch.ones_like(x), column(0.0, 1.0, 2.0))
    solution = solve(problem, method, tolerance=Tolerance(1.0, 1.0), save_at=saves)
    assert solution.statistics.accepted.tolist() == [1, 1, 1]
    want = column(0.0, 1.0, 2.0) + saves[:, None, None] ** 4
    torch.testing.assert_close(solution.value, want, rtol=1e-14, atol=1e-14)


def test_rows_pass_save_times_at_different_steps():
    saves = SAVES["many"]
    together = solve(InitialValueProblem(sway, SWAYING), save_at=saves)
    counts = together.statistics.accepted.tolist()
    assert max(counts) > 2 * min(counts)
    for n in range(3):
        alone = solve(InitialValueProblem(sway, SWAYING[n : n + 1]), save_at=saves)
        assert torch.equal(together.value[:, n], alone.value[:, 0])


def test_a_row_that_ended_keeps_its_last_value_at_later_save_times():
    problem = InitialValueProblem(lambda t, x: x**2, column(2.0, 0.1))
    for method in (RungeKutta("dopri5"), RungeKutta("dopri5", per_row=False), RungeKutta("rk4", steps=50)):
        solution = solve(problem, method, save_at=SaveAt(times=[0.25, 0.75, 1.0]), throw=False)
        torch.testing.assert_close(solution.value[0, 0], column(4.0)[0], rtol=1e-4, atol=0)
        assert bool(solution.value.isfinite().all())
        assert float(solution.value[1, 0]) > 100
        assert torch.equal(solution.value[1, 0], solution.value[2, 0])
        want = column(1 / 9.75, 1 / 9.25, 1 / 9)[:, 0]
        torch.testing.assert_close(solution.value[:, 1, 0], want, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    "method", [RungeKutta("dopri5"), RungeKutta("dopri5", per_row=False), RungeKutta("rk4", steps=60)]
)
def test_a_trace_has_every_step(method):
    solution = solve(
        InitialValueProblem(sway, SWAYING), method, tolerance=TIGHT, save_at=SaveAt(steps=True, dense=True)
    )
    values, times = solution.trace.values, solution.trace.times
    assert torch.equal(values[0], SWAYING)
    assert torch.equal(values[-1], solution.value)
    assert times.dtype == F64
    rows = times if times.ndim == 2 else times[:, None].expand(-1, 3)
    assert len(rows) == len(values)
    for n in range(3):
        moves = rows[:, n].diff()
        assert bool((moves >= 0).all())
        assert int((moves > 0).sum()) == int(solution.statistics.accepted[n])
        for k in (1, len(rows) // 2, len(rows) - 1):
            t = float(rows[k, n])
            torch.testing.assert_close(values[k, n], swayed(SWAYING, t, 0.0)[n], rtol=0, atol=1e-3)
            torch.testing.assert_close(values[k, n], solution.dense(t)[n], rtol=1e-12, atol=1e-13)
    with pytest.raises(ValueError, match=r"t=1\.5 lies outside of the flow's times, 0 to 1"):
        solution.dense(1.5)
    with pytest.raises(ValueError, match=r"t=1\.5 lies outside"):
        solution.dense([0.5, 1.5])
    for none in ("now", [[0.1, 0.2]], {0.1: 0.2}):
        with pytest.raises(ValueError, match="t must be a time or a sequence of times"):
            solution.dense(none)


# -- events ------------------------------------------------------------------------------------------------------------


def height(level):
    return lambda t, x: x[:, 0] - level


EVENT_METHODS = {
    "per row": RungeKutta("dopri5"),
    "joint": RungeKutta("tsit5", per_row=False),
    "grid": RungeKutta("rk4", steps=40),
    "one step an interval": RungeKutta("dopri5", steps=4),
}


@pytest.mark.parametrize("method", EVENT_METHODS.values(), ids=EVENT_METHODS)
def test_each_row_stops_at_its_own_event(method):
    # a = a_0 + sin(w t) reaches 0.5 at arcsin(0.5 - a_0) / w.
    x = torch.tensor([[0.0, 1.0], [0.2, 2.0], [0.0, 0.1], [0.7, 1.0]], dtype=F64)
    problem = InitialValueProblem(sway, x, event=height(0.5))
    solution = solve(problem, method, tolerance=TIGHT)
    assert solution.words() == ["event", "event", "done", "done"]
    want = torch.tensor([math.asin(0.5), math.asin(0.3) / 2, 1.0, 1.0], dtype=F64)
    exact = 1e-5 if method.steps == 4 else 1e-8
    torch.testing.assert_close(solution.event_time, want, rtol=0, atol=exact)
    torch.testing.assert_close(solution.time, want, rtol=0, atol=exact)
    torch.testing.assert_close(solution.value[:2, 0], torch.full((2,), 0.5, dtype=F64), rtol=0, atol=1e-14)
    torch.testing.assert_close(solution.value[2:], swayed(x[2:], 1.0, 0.0), rtol=0, atol=1e-6)
    torch.testing.assert_close(solution.size, solution.value.norm(dim=1))


@pytest.mark.parametrize("method", EVENT_METHODS.values(), ids=EVENT_METHODS)
@pytest.mark.parametrize("direction", ["any", "rising", "falling"])
def test_an_event_may_ask_for_a_direction(direction, method):
    # sin(5 t): 0.5 rising at pi / 30, falling at pi / 6; the other row starts above and only falls.
    x = torch.tensor([[0.0, 5.0], [0.6, -5.0]], dtype=F64)
    problem = InitialValueProblem(sway, x, event=Event(height(0.5), direction))
    solution = solve(problem, replace(method, steps=400) if method.steps else method, tolerance=TIGHT)
    falling = math.asin(0.1) / 5
    # a = 0.6 - sin 5 t falls through 0.5, and rises through it again at pi - arcsin 0.1.
    want = {
        "any": [math.pi / 30, falling],
        "rising": [math.pi / 30, (math.pi - math.asin(0.1)) / 5],
        "falling": [math.pi / 6, falling],
    }[direction]
    assert solution.words() == ["event", "event"]
    torch.testing.assert_close(solution.event_time, torch.tensor(want, dtype=F64), rtol=0, atol=1e-7)


@pytest.mark.parametrize("method", EVENT_METHODS.values(), ids=EVENT_METHODS)
def test_an_event_that_nobody_meets_changes_nothing(method):
    plain, watched = (solve(InitialValueProblem(sway, SWAYING, event=event), method) for event in (None, height(100.0)))
    assert watched.words() == ["done"] * 3
    torch.testing.assert_close(watched.value, plain.value, rtol=1e-15, atol=1e-15)
    assert watched.event_time.tolist() == [1.0] * 3


@pytest.mark.parametrize(
    "method", [RungeKutta("rk4", steps=4), RungeKutta("dopri5", first_step=0.25, controller=Always(1.0))]
)
@pytest.mark.parametrize("level", [0.25, 0.5, 0.75])
def test_an_event_on_a_step_s_end_is_met_there(method, level):
    solution = solve(InitialValueProblem(flat, column(0.0, 0.0), event=height(level)), method)
    assert solution.words() == ["event", "event"]
    assert solution.event_time.tolist() == pytest.approx([level, level], abs=1e-15)


def test_an_event_that_holds_at_the_start_is_none():
    solution = solve(InitialValueProblem(flat, column(0.0), event=height(0.0)))
    assert solution.words() == ["done"]


@pytest.mark.parametrize("method", EVENT_METHODS.values(), ids=EVENT_METHODS)
@pytest.mark.parametrize("reverse", [False, True])
def test_the_event_is_given_a_time_for_each_row(method, reverse):
    seen = []

    def before(t, x):
        seen.append(tuple(t.shape))
        return (x - t)[:, 0]

    # x = x_0 + 3 (t - t_0) meets the time.
    times, x = ((1.0, 0.0), column(2.0, 1.4)) if reverse else ((0.0, 1.0), column(-1.0, -0.4))
    solution = solve(InitialValueProblem(lambda t, x: 3 * torch.ones_like(x), x, *times, event=before), method)
    assert set(seen) == {(2, 1)}
    want = [0.5, 0.8] if reverse else [0.5, 0.2]
    torch.testing.assert_close(solution.event_time, torch.tensor(want, dtype=F64), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "method", [RungeKutta("dopri5"), RungeKutta("dopri5", per_row=False), RungeKutta("rk4", steps=9)]
)
def test_after_an_event_save_times_hold_its_state(method):
    problem = InitialValueProblem(flat, column(0.0, -9.0), event=height(0.4))
    solution = solve(problem, method, save_at=[0.0, 0.39, 0.41, 1.0])
    want = torch.tensor([[0.0, -9.0], [0.39, -8.61], [0.4, -8.59], [0.4, -8.0]], dtype=F64)
    torch.testing.assert_close(solution.value[:, :, 0], want, rtol=0, atol=1e-12)


# -- manifolds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_row", [True, False])
@pytest.mark.parametrize("name", PAIRS)
def test_steps_that_are_put_back_on_the_sphere_adapt_too(name, per_row):
    # w x x is tangent, plus an outward part that the retraction takes away: the flow is a rotation about the axis w.
    axis = torch.tensor([0.0, 0.0, 3.0], dtype=F64)

    def leaving(t, x):
        return torch.linalg.cross(axis.expand_as(x), x) + 0.1 * x

    x = torch.tensor([[1.0, 0.0, 0.5], [0.0, -2.0, 1.0], [0.0, 0.0, 1.0]], dtype=F64)
    problem = InitialValueProblem(leaving, x, manifold="sphere")
    tolerance = Tolerance(1e-4, 1e-4) if name == "heun" else Tolerance(1e-6, 1e-6)
    solution = solve(problem, RungeKutta(name, per_row=per_row), tolerance=tolerance, save_at=[0.37, 1.0])
    norms = solution.value.norm(dim=2)
    torch.testing.assert_close(norms, x.norm(dim=1).expand(2, -1), rtol=1e-13, atol=0)
    for t, got in zip((0.37, 1.0), solution.value, strict=True):
        c, s = math.cos(3 * t), math.sin(3 * t)
        turn = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=F64)
        torch.testing.assert_close(got, x @ turn.mT, rtol=0, atol=50 * tolerance.atol)


def test_a_smooth_control_needs_few_steps_and_reaches_what_a_fine_grid_reaches():
    control = SpectralControl.random(4, 2, scale=0.5, seed=0, dtype=F64)
    problem = InitialValueProblem.controlled(
        driven(), control, torch.tensor([[-0.5, 0.2, 1.0], [0.1, 0.3, 3.0]], dtype=F64)
    )
    adaptive, fine = solve(problem, RungeKutta("tsit5")), solve(problem, RungeKutta("rk4", steps=400))
    torch.testing.assert_close(adaptive.value, fine.value, rtol=0, atol=1e-5)
    assert adaptive.statistics.evaluations < 200
