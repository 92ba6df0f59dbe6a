"""The one loop, driven by stub schemes: what it calls, when it stops, and what it makes of a row that goes wrong."""

import math
from dataclasses import dataclass, field, replace

import pytest
import torch

from cde_nets.gradient import solve
from cde_nets.solver import (
    GMRES,
    Anderson,
    FixedPointProblem,
    InitialValueProblem,
    Iterate,
    Limits,
    LinearProblem,
    Neumann,
    Observer,
    Picard,
    RungeKutta,
    Scheme,
    Status,
    Tolerance,
    run,
    start,
)
from cde_nets.solver.convergence import norms

F64 = torch.float64
X = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]], dtype=F64)
PROBLEMS = {
    "flow": lambda x=X: InitialValueProblem(lambda t, x: -x, x),
    "rest": lambda x=X: FixedPointProblem(lambda z: z / 2, x),
    "linear": lambda x=X: LinearProblem(lambda w: w / 2, x),
}


@pytest.fixture(params=PROBLEMS)
def make(request):
    return PROBLEMS[request.param]


@dataclass
class Halving(Scheme):
    """Halves every row; a row is done when its norm is below 1/4. It writes down how it is driven."""

    steps: int | None = None
    calls: list = field(default_factory=list)

    def planned(self, problem):
        return self.steps

    def init(self, problem, tolerance):
        self.calls.append(("init", problem, tolerance))
        x = problem.packed()
        return start(x, residual=norms(x), memory=0)

    def step(self, problem, state):
        self.calls.append(("step", problem, state))
        value = self.move(state.value, state.memory)
        return replace(state, value=value, residual=norms(value), moved=None, memory=state.memory + 1)

    def terminate(self, problem, state):
        self.calls.append(("terminate", problem, state))
        return torch.where(norms(state.value) < 0.25, int(Status.CONVERGED), int(Status.RUNNING))

    def move(self, value, n):
        return value / 2

    @property
    def names(self):
        return [name for name, *_ in self.calls]


class Watching:
    """An observer."""

    def __init__(self):
        self.seen = []

    def observe(self, before, after, signals):
        self.seen.append((before, after, list(signals)))


def test_the_three_kinds_of_problem_are_driven_alike(make):
    problem, scheme, tolerance = make(), Halving(), Tolerance(1e-3, 1e-4)
    end = run(problem, scheme, Limits(tolerance))
    # Norms 1, 2 and 5 need 3, 4 and 5 halvings.
    assert scheme.names == ["init", "terminate"] + ["step", "terminate"] * 5
    assert all(call[1] is problem for call in scheme.calls)
    assert scheme.calls[0][2] is tolerance
    assert end.accepted.tolist() == [3, 4, 5]
    assert end.rejected.tolist() == [0, 0, 0]
    assert end.status.tolist() == [Status.CONVERGED] * 3
    assert not end.running.any()
    torch.testing.assert_close(end.value, X / torch.tensor([[8.0], [16.0], [32.0]], dtype=F64), rtol=0, atol=0)
    assert end.residual.tolist() == [1 / 8, 1 / 8, 5 / 32]
    assert end.memory == 5


def test_a_planned_number_of_steps_is_taken_and_the_end_looked_at_once(make):
    scheme = Halving(steps=4)
    end = run(make(), scheme, Limits())
    assert scheme.names == ["init"] + ["step"] * 4 + ["terminate"]
    # Whoever is not said to have ended otherwise took all its steps.
    assert end.status.tolist() == [Status.CONVERGED, Status.CONVERGED, Status.DONE]
    assert end.accepted.tolist() == [4, 4, 4]
    torch.testing.assert_close(end.value, X / 16, rtol=0, atol=0)


def test_solve_drives_every_kind_of_problem_with_this_loop(monkeypatch):
    driven = []

    def counted(problem, scheme, limits, observers=()):
        driven.append((problem.kind, type(scheme).__name__))
        return run(problem, scheme, limits, observers)

    for room in ("flows", "rest", "implicit"):
        monkeypatch.setattr(f"cde_nets.gradient.{room}.run", counted)
    solve(PROBLEMS["flow"](), RungeKutta("rk4", steps=2))
    solve(PROBLEMS["flow"](), RungeKutta("dopri5"))
    a = torch.tensor(0.5, dtype=F64, requires_grad=True)
    rest = FixedPointProblem(lambda z, a: a * torch.cos(z), X, args=(a,))
    solve(rest, Anderson()).value.sum().backward()
    solve(PROBLEMS["linear"](), Neumann(terms=3))
    assert driven == [
        ("flow", "FixedRungeKutta"),
        ("flow", "AdaptiveRungeKutta"),
        ("rest", "Anderson"),
        ("linear", "GMRES"),
        ("linear", "Neumann"),
    ]


@dataclass
class Breaking(Halving):
    """One row becomes NaN, and another infinite, at steps of their own."""

    def move(self, value, n):
        bad = torch.full_like(value, 1.0)
        bad[0] = math.nan if n == 1 else 1.0
        bad[2, 1] = math.inf if n == 2 else 1.0
        return value / 2 * bad


@pytest.mark.parametrize("steps", [None, 6])
def test_rows_that_leave_the_finite_numbers_keep_their_last_value(make, steps):
    end = run(make(), Breaking(steps), Limits())
    assert end.status.tolist() == [Status.DIVERGED, Status.CONVERGED, Status.DIVERGED]
    assert end.accepted.tolist() == [1, 4 if steps is None else 6, 2]
    shrunk = torch.tensor([[2.0], [2.0 ** (4 if steps is None else 6)], [4.0]], dtype=F64)
    torch.testing.assert_close(end.value, X / shrunk, rtol=0, atol=0)


@pytest.mark.parametrize("steps", [None, 3])
def test_rows_that_are_not_finite_at_the_start_never_run(make, steps):
    x = X.clone()
    x[1, 0] = math.nan
    scheme = Halving(steps)
    end = run(make(x), scheme, Limits())
    assert end.status[1] == Status.DIVERGED
    assert end.accepted[1] == 0
    assert torch.equal(end.value[1].isnan(), x[1].isnan())
    assert not scheme.calls[0 if steps else 2][2].running[1] if steps is None else True
    alone = run(make(X[[0, 2]]), Halving(steps), Limits())
    assert torch.equal(end.value[[0, 2]], alone.value)


def test_where_every_row_is_lost_before_the_first_step_none_is_taken(make):
    scheme = Halving()
    end = run(make(torch.full_like(X, math.nan)), scheme, Limits())
    assert scheme.names == ["init", "terminate"]
    assert end.status.tolist() == [Status.DIVERGED] * 3


@dataclass
class Endless(Halving):
    """Never ends by itself."""

    def move(self, value, n):
        return value

    def terminate(self, problem, state):
        self.calls.append(("terminate", problem, state))
        return torch.full_like(state.status, int(Status.RUNNING))


@pytest.mark.parametrize("most", [1, 17])
def test_what_never_ends_is_ended_by_max_steps(make, most):
    scheme = Endless()
    end = run(make(), scheme, Limits(max_steps=most))
    assert scheme.names.count("step") == most
    assert end.status.tolist() == [Status.MAX_STEPS] * 3
    assert end.accepted.tolist() == [most] * 3


def test_without_a_limit_there_is_one_all_the_same(bad_input):
    scheme = Endless()
    run(PROBLEMS["rest"](X[:1]), scheme, Limits())
    assert scheme.names.count("step") == 4096


@dataclass
class Choosy(Endless):
    """Moves row 0 at every step, row 1 at every other, row 2 never."""

    def step(self, problem, state):
        moved = torch.tensor([True, state.memory % 2 == 0, False])
        return replace(super().step(problem, state), value=state.value - 1, moved=moved)


def test_steps_tried_in_vain_are_counted_as_such(make):
    end = run(make(), Choosy(), Limits(max_steps=6))
    assert end.accepted.tolist() == [6, 3, 0]
    assert end.rejected.tolist() == [0, 3, 6]
    torch.testing.assert_close(end.value, X - torch.tensor([[6.0], [3.0], [0.0]], dtype=F64), rtol=0, atol=0)


@dataclass
class Ending(Halving):
    """Ends rows within the step, as events do."""

    def step(self, problem, state):
        after = super().step(problem, state)
        ends = torch.tensor([False, state.memory == 1, False])
        status = torch.where(ends & state.running, int(Status.EVENT), state.status)
        return replace(after, running=state.running & ~ends, status=status)


@pytest.mark.parametrize("steps", [None, 5])
def test_a_scheme_may_end_rows_within_a_step(make, steps):
    end = run(make(), Ending(steps), Limits())
    assert end.status[1] == Status.EVENT
    assert end.accepted[1] == 2
    assert torch.equal(end.value[1], X[1] / 4)


@dataclass
class Dropping(Halving):
    """Lets a row stop running without a word."""

    def step(self, problem, state):
        return replace(super().step(problem, state), running=state.running & torch.tensor([True, False, True]))


@pytest.mark.parametrize("steps", [None, 5])
def test_a_row_that_stops_without_a_word_is_not_called_a_success(make, steps):
    assert run(make(), Dropping(steps), Limits()).status[1] == Status.DIVERGED


def test_observers_see_every_step_and_the_signals_that_were_asked_for(make):
    class Signalling(Halving):
        def signals(self, state):
            return [torch.tensor(10 * state.memory), state.running.sum()]

    first, second = Watching(), Watching()
    assert isinstance(first, Observer)
    end = run(make(), Signalling(), Limits(), [first, second])
    assert len(first.seen) == len(second.seen) == 5
    assert [signals for *_, signals in first.seen] == [[10, 3], [20, 3], [30, 2], [40, 1], [50, 0]]
    for (_, after, _), (before, _, _) in zip(first.seen[:-1], first.seen[1:], strict=True):
        assert after is before
    assert first.seen[-1][1].value is end.value
    planned = Watching()
    run(make(), Signalling(steps=3), Limits(), [planned])
    # Nothing is read from the device, and so there is nothing to tell.
    assert [signals for *_, signals in planned.seen] == [[], [], []]


def test_a_row_that_ended_is_shielded_from_what_the_scheme_makes_of_it(make):
    class Spoiling(Halving):
        def move(self, value, n):
            spoiled = value / 2
            spoiled[~self.calls[-1][2].running] = math.nan
            return spoiled

    end = run(make(), Spoiling(), Limits())
    assert end.status.tolist() == [Status.CONVERGED] * 3
    torch.testing.assert_close(end.value, run(make(), Halving(), Limits()).value, rtol=0, atol=0)
    assert bool(end.residual.isfinite().all())


@pytest.mark.parametrize("fraction", [None, 0.5])
def test_progress_is_the_scheme_s_own_or_the_share_of_the_steps(make, fraction):
    class Telling(Halving):
        def fraction(self, state):
            return fraction

    told = []
    run(make(), Telling(), Limits(max_steps=10, progress=told.append))
    assert told == ([0.1, 0.2, 0.3, 0.4, 0.5] if fraction is None else [fraction] * 5)
    told.clear()
    run(make(), Telling(steps=4), Limits(progress=told.append))
    assert told == [0.25, 0.5, 0.75, 1.0]


def test_an_iterate_starts_with_nothing_done():
    x = torch.tensor([[1.0], [math.inf]], dtype=F64)
    state = start(x, memory="mine")
    assert isinstance(state, Iterate)
    assert state.status.tolist() == [Status.RUNNING, Status.DIVERGED]
    assert state.running.tolist() == [True, False]
    assert (state.accepted.tolist(), state.rejected.tolist(), state.memory) == ([0, 0], [0, 0], "mine")


def test_euler_with_step_one_to_rest_is_picard():
    # z' = f(z) - z.
    f = FixedPointProblem(torch.cos, X)
    flow = InitialValueProblem(lambda t, z: torch.cos(z) - z, X, 0.0, 7.0)
    picard = solve(f, Picard(), max_steps=7, tolerance=Tolerance(1e-16, 1e-16), throw=False)
    torch.testing.assert_close(solve(flow, RungeKutta("euler", steps=7)).value, picard.value, rtol=1e-14, atol=1e-14)
    assert picard.statistics.accepted.tolist() == [7, 7, 7]


def test_the_default_methods_are_driven_too():
    assert solve(PROBLEMS["flow"]()).words() == ["done"] * 3
    assert solve(PROBLEMS["rest"]()).words() == ["converged"] * 3
    solution = solve(PROBLEMS["linear"](), GMRES())
    torch.testing.assert_close(solution.value, 2 * X)
