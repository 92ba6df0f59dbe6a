"""Adaptive steps: every row its own, failures that stay in their row, controllers, breakpoints, save times, events."""

import itertools
import math
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cde_nets.controls import PiecewiseConstantControl, PiecewiseLinearControl, SpectralControl
from cde_nets.errors import ConvergenceError, DivergedError
from cde_nets.fields import PolynomialFields
from cde_nets.gradient import Autograd, Checkpointed, Discrete, solve
from cde_nets.solver import (
    TABLEAUS,
    Event,
    InitialValueProblem,
    PIController,
    Reversible,
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
    assert int(mixed.failed) == len(ILL)
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


# -- what reaches the host ---------------------------------------------------------------------------------------------


class Reads(TorchDispatchMode):
    """Counts what is read from the device: through the dispatcher, and past it."""

    PAST = ("tolist", "item", "numpy", "__bool__", "__float__", "__int__", "__index__", "__array__", "nonzero")

    def __init__(self, monkeypatch):
        super().__init__()
        self.counts, self._depth = Counter(), 0
        for name in self.PAST:
            monkeypatch.setattr(torch.Tensor, name, self._counted(name, getattr(torch.Tensor, name)))

    def _counted(self, name, plain):
        def read(tensor, *args, **kwargs):
            self._depth += 1
            self.counts["read"] += self._depth == 1
            try:
                return plain(tensor, *args, **kwargs)
            finally:
                self._depth -= 1

        return read

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        reading = name in ("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select")
        if name == "index":
            # A mask is turned into numbers, and how many they are is read.
            reading = any(k is not None and k.dtype == torch.bool for k in args[1])
        self.counts["read"] += reading and self._depth == 0
        return func(*args, **(kwargs or {}))


@pytest.fixture
def reads(monkeypatch):
    with Reads(monkeypatch) as counted:
        yield counted


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
        reads.counts.clear()
        read()
        found.append(reads.counts["read"])
    assert all(n >= 1 for n in found), found


def grid_problem(case):
    control = PiecewiseLinearControl(2, 2, values=torch.full((3, 2), 0.5, dtype=F64))
    x = torch.tensor(MIXED[:2], dtype=F64, requires_grad=True)
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
        reads.counts.clear()
        saves = [0.0, 0.3, 0.5, 1.0] if case == "saves" else None
        solution = solve(problem, method, gradient=gradient, throw=False, save_at=saves)
        torch.autograd.grad(solution.value.sum(), [control.values, x])
        assert solution.status.shape == (2,)
        assert reads.counts["read"] == 0


@pytest.mark.parametrize("case", ["plain", "saves", "sphere", "event", "function"])
@pytest.mark.parametrize("per_row", [True, False])
def test_an_adaptive_step_reads_once_and_the_way_back_never(reads, per_row, case):
    problem, control, x = grid_problem(case)
    saves = [0.0, 0.3, 0.5, 1.0] if case == "saves" else None
    tries = []

    class Watched(PIController):
        def factor(self, *args):
            tries.append(1)
            return super().factor(*args)

    method = RungeKutta("dopri5", per_row=per_row, controller=Watched())
    reads.counts.clear()
    solution = solve(problem, method, tolerance=TIGHT, throw=False, save_at=saves)
    assert len(tries) > 3
    # Whether any row runs at all is the one read before the first step.
    assert reads.counts["read"] <= len(tries) + 1
    reads.counts.clear()
    torch.autograd.grad(solution.value.sum(), [control.values, x])
    assert reads.counts["read"] == 0


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
    x = torch.tensor(HEALTHY[:2], dtype=F64)
    problem = InitialValueProblem.controlled(driven(), control, x, *times)
    solution = solve(problem, method, tolerance=LOOSE, save_at=SaveAt(steps=True))
    low, high = sorted(times)
    inner = {t for t in control.breakpoints if low < t < high}
    for row in solution.trace.times.reshape(len(solution.trace.times), -1).mT.tolist():
        assert inner <= set(row)
        moved = [t for t, after in itertools.pairwise([*row, None]) if t != after]
        assert moved == sorted(moved, reverse=times[1] < times[0])
    if method.steps is None:
        assert len(asked) > 20
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
    problem = InitialValueProblem.controlled(driven(), control, torch.tensor(HEALTHY[:2], dtype=F64))
    adaptive, fine = solve(problem, RungeKutta("tsit5")), solve(problem, RungeKutta("rk4", steps=400))
    torch.testing.assert_close(adaptive.value, fine.value, rtol=0, atol=1e-5)
    assert adaptive.statistics.evaluations < 200
