"""Every method converges as fast as it claims, on problems whose right-hand side depends on the time."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from cde_nets.controls import PiecewiseConstantControl, PiecewiseLinearControl
from cde_nets.fields import RidgeFields
from cde_nets.gradient import solve
from cde_nets.solver import TABLEAUS, InitialValueProblem, Reversible, RungeKutta, SaveAt, Tolerance

# Thousands of steps: the shape checker would take most of the time.
pytestmark = pytest.mark.usefixtures("bad_input")

F64 = torch.float64
# The first of five step counts, each twice the one before: errors are far above rounding up to the last.
COARSEST = {1: 20, 2: 16, 3: 12, 4: 12, 5: 10}
CONTROLS = {"constant": PiecewiseConstantControl, "linear": PiecewiseLinearControl}


@pytest.fixture(params=TABLEAUS)
def method(request):
    return TABLEAUS[request.param]


def counts(order, of=5):
    return [COARSEST[order] * 2**k for k in range(of)]


def slope(errors):
    """The slope that halved steps tend to: that between two of them is the order + c h, and c h is extrapolated."""
    *_, before, last = np.log2(np.divide(errors[:-1], errors[1:]))
    return 2 * last - before


def rms(error):
    return float(error.detach().square().mean().sqrt())


def riccati(t, y):
    """Two rows y' = -2 t y^2, y = 1 / (1 / y_0 + t^2)."""
    return -2 * t * y * y


def riccati_at(t):
    return 1 / (1 / torch.tensor([[3.0], [1.5]], dtype=F64) + t**2)


def riccati_errors(make, order, of=5):
    problem = InitialValueProblem(riccati, riccati_at(0.0), 0.0, 1.5)
    return [rms(solve(problem, make(n)).value - riccati_at(1.5)) for n in counts(order, of)]


def spiral(t, x):
    """x' = t^2 (x + J x), so that x = exp(t^3 / 3) (x_0 turned by t^3 / 3): one state of one axis."""
    return t**2 * torch.stack([x[0] - x[1], x[0] + x[1]])


def spiralled(t):
    s = t**3 / 3
    return math.exp(s) * torch.tensor([math.cos(s) - 2 * math.sin(s), math.sin(s) + 2 * math.cos(s)], dtype=F64)


def spiral_errors(make, order, of=5):
    end = 2.0
    problem = InitialValueProblem(spiral, spiralled(0.0), 0.0, end)
    return [rms(solve(problem, make(n)).value - spiralled(end)) for n in counts(order, of)]


def steps_of(name):
    return lambda n: RungeKutta(name, steps=n)


@pytest.mark.parametrize("errors", [riccati_errors, spiral_errors])
def test_the_order_shows_where_time_enters(method, errors):
    found = errors(steps_of(method.name), method.order)
    assert found[-1] > 1e-13
    assert abs(slope(found) - method.order) < 0.1


@pytest.mark.parametrize("errors", [riccati_errors, spiral_errors])
@pytest.mark.parametrize("name", ["midpoint", "rk4", "dopri5"])
def test_mistyped_nodes_show_in_the_order(monkeypatch, name, errors):
    true = TABLEAUS[name]
    nodes = list(true.c)
    for j in range(1, len(nodes)):
        nodes[j] += 0.02 * (-1) ** j
    monkeypatch.setitem(TABLEAUS, name, replace(true, c=tuple(nodes)))
    assert slope(errors(steps_of(name), true.order)) < true.order - 0.5


def drive(kind):
    return CONTROLS[kind].random(3, 4, scale=3.0 if kind == "constant" else 2.0, seed=0, dtype=F64)


FIELDS = RidgeFields.random(3, 4, 2, seed=1, dtype=F64)
POINTS = torch.tensor([[0.3, -0.2, 0.1], [-0.4, 0.1, 0.3]], dtype=F64)


def reference(control, t0=0.0, t1=1.0, save=()):
    """By another code, piece by piece; at the end, and at the times of save."""
    values = control.values.detach()
    knots = sorted({t0, t1, *(t for t in control.breakpoints if min(t0, t1) < t < max(t0, t1)), *save})
    y, found = POINTS.numpy().ravel(), []
    for start, end in itertools.pairwise(knots if t1 > t0 else knots[::-1]):
        n = int((start + end) / 2 * control.steps)

        def f(t, flat, n=n):
            s = t * control.steps - n
            if isinstance(control, PiecewiseConstantControl):
                u = values[n]
            else:
                u = values[n] + s * (values[n + 1] - values[n])
            return FIELDS.velocity(torch.from_numpy(flat.reshape(2, 3).copy()), u).numpy().ravel()

        y = solve_ivp(f, (start, end), y, method="DOP853", rtol=1e-13, atol=1e-13).y[:, -1]
        found.append(torch.from_numpy(y.reshape(2, 3)))
    return found[-1] if not save else torch.stack([found[knots.index(t) - 1] for t in save])


@pytest.fixture(scope="module")
def truth():
    return {kind: reference(drive(kind)) for kind in CONTROLS}


@pytest.mark.parametrize("kind", CONTROLS)
def test_the_order_holds_across_the_breakpoints_of_a_control(method, kind, truth):
    problem = InitialValueProblem.controlled(FIELDS, drive(kind), POINTS)
    first = {1: 12, 2: 12}.get(method.order, 6)
    errors = [rms(solve(problem, RungeKutta(method.name, steps=first * 2**k)).value - truth[kind]) for k in range(5)]
    assert errors[-1] > 1e-13
    assert abs(slope(errors) - method.order) < 0.1


def test_a_step_that_straddles_a_jump_shows_in_the_order(monkeypatch, truth):
    monkeypatch.setattr(
        "cde_nets.solver.flow.runge_kutta.aligned_mesh",
        lambda t0, t1, n, _: tuple(t0 + k * (t1 - t0) / n for k in range(n + 1)),
    )
    problem = InitialValueProblem.controlled(FIELDS, drive("constant"), POINTS)
    errors = [rms(solve(problem, RungeKutta("rk4", steps=n)).value - truth["constant"]) for n in (10, 20, 40, 80, 160)]
    assert slope(errors) < 2


@pytest.mark.parametrize("kind", CONTROLS)
def test_uneven_shares_of_the_pieces_do_no_harm(kind, truth):
    problem = InitialValueProblem.controlled(FIELDS, drive(kind), POINTS)
    even, uneven = (rms(solve(problem, RungeKutta("rk4", steps=n)).value - truth[kind]) for n in (48, 50))
    assert uneven < 2 * even


@pytest.mark.parametrize("kind", CONTROLS)
@pytest.mark.parametrize(("name", "tight"), [("heun", 1e-4), ("bosh3", 1e-5), ("dopri5", 1e-7), ("tsit5", 1e-7)])
def test_adaptive_steps_come_as_near_as_the_tolerance_asks(kind, name, tight, truth):
    problem = InitialValueProblem.controlled(FIELDS, drive(kind), POINTS)
    for tol in (1e-3, tight):
        end = solve(problem, RungeKutta(name), tolerance=Tolerance(tol, tol)).value
        assert rms(end - truth[kind]) < 20 * tol


@pytest.mark.parametrize("kind", CONTROLS)
def test_backward_in_time_the_control_is_read_from_the_step_s_side(kind):
    problem = InitialValueProblem.controlled(FIELDS, drive(kind), POINTS, 1.0, 0.0)
    want = reference(drive(kind), 1.0, 0.0)
    for method in (RungeKutta("rk4", steps=192), RungeKutta("dopri5")):
        assert rms(solve(problem, method).value - want) < 1e-5


def inside_errors(name, numbers):
    """Of the states within steps, saved and by the dense output, which are the same."""
    problem = InitialValueProblem(riccati, riccati_at(0.0), 0.0, 1.5)
    found = []
    for n in numbers:
        times = [1.5 * (k + theta) / n for k in range(n) for theta in (0.2, 0.5, 0.8)]
        solution = solve(problem, RungeKutta(name, steps=n), save_at=SaveAt(times=times, dense=True))
        for k in range(0, len(times), len(times) // 5):
            torch.testing.assert_close(solution.dense(times[k]), solution.value[k], rtol=0, atol=1e-13)
        found.append(rms(solution.value - torch.stack([riccati_at(t) for t in times])))
    return found


def test_between_step_ends_dense_output_has_the_order_it_claims_or_the_next(method):
    found = inside_errors(method.name, counts(method.order, 4))
    assert found[-1] > 1e-13
    # Within a step one more than the dense order, if the step ends themselves are that near.
    assert abs(slope(found) - min(method.order, method.dense_order + 1)) < 0.2


@pytest.mark.parametrize("theta", [0.3, 0.7])
def test_within_one_step_from_the_exact_solution_dense_output_gains_an_order(method, theta):
    errors = []
    for h in (0.2, 0.1, 0.05, 0.025):
        problem = InitialValueProblem(spiral, spiralled(1.2), 1.2, 1.2 + h)
        dense = solve(problem, RungeKutta(method.name, steps=1), save_at=SaveAt(dense=True)).dense
        errors.append(rms(dense(1.2 + theta * h) - spiralled(1.2 + theta * h)))
    assert errors[-1] > 1e-14
    assert slope(errors) > method.dense_order + 1 - 0.2


def test_a_mistyped_dense_coefficient_shows_within_steps_only(monkeypatch):
    true = TABLEAUS["dopri5"]
    dense = [list(row) for row in true.dense]
    dense[2][3] += 1e-2
    dense[2][1] -= 1e-2
    monkeypatch.setitem(TABLEAUS, "dopri5", replace(true, dense=tuple(map(tuple, dense))))
    assert slope(inside_errors("dopri5", counts(5, 4))) < 2
    assert slope(riccati_errors(steps_of("dopri5"), 5)) > 4.9


@pytest.mark.parametrize(("mixing", "errors"), [(1.0, spiral_errors), (0.5, riccati_errors)])
def test_a_reversible_method_keeps_the_order_of_its_base(monkeypatch, method, mixing, errors):
    # The two copies take a while to agree.
    finer = 8 if method.order == 5 else 4
    monkeypatch.setitem(COARSEST, method.order, finer * COARSEST[method.order])
    found = errors(lambda n: Reversible(RungeKutta(method.name, steps=n), mixing=mixing), method.order, of=3)
    assert slope(found) > method.order - 0.1
    if mixing < 1:
        assert slope(found) < method.order + 0.1
