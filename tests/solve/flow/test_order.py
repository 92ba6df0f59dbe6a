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
from cde_nets.solve import TABLEAUS, InitialValueProblem, Reversible, RungeKutta, SaveAt

F64 = torch.float64
# The first of five step counts, each twice the one before: errors are far above rounding up to the last.
COARSEST = {1: 80, 2: 20, 3: 12, 4: 12, 5: 10}
CONTROLS = {"constant": PiecewiseConstantControl, "linear": PiecewiseLinearControl}


@pytest.fixture(params=TABLEAUS)
def method(request):
    return TABLEAUS[request.param]


def counts(order):
    return [COARSEST[order] * 2**k for k in range(5)]


def slope(errors):
    """The slope that halved steps tend to: that between two of them is the order + c h, and c h is extrapolated."""
    *_, before, last = np.log2(np.divide(errors[:-1], errors[1:]))
    return 2 * last - before


def rms(error):
    return float(error.square().mean().sqrt())


def riccati(t, y):
    """Two rows y' = -2 t y^2, y = 1 / (1 / y_0 + t^2)."""
    return -2 * t * y * y


def riccati_errors(make, order):
    start = torch.tensor([[3.0], [1.5]], dtype=F64)
    problem = InitialValueProblem(riccati, start, 0.0, 1.5)
    return [rms(solve(problem, make(n)).value - 1 / (1 / start + 1.5**2)) for n in counts(order)]


def spiral(t, x):
    """x' = t^2 (x + J x), so that x = exp(t^3 / 3) (x_0 turned by t^3 / 3): one state of one axis."""
    return t**2 * torch.stack([x[0] - x[1], x[0] + x[1]])


def spiralled(t):
    s = t**3 / 3
    return math.exp(s) * torch.tensor([math.cos(s) - 2 * math.sin(s), math.sin(s) + 2 * math.cos(s)], dtype=F64)


def spiral_errors(make, order, end=2.0):
    problem = InitialValueProblem(spiral, spiralled(0.0), 0.0, end)
    return [rms(solve(problem, make(n)).value - spiralled(end)) for n in counts(order)]


def steps_of(name):
    return lambda n: RungeKutta(name, steps=n)


@pytest.mark.parametrize("errors", [riccati_errors, spiral_errors])
def test_the_order_shows_where_time_enters(method, errors):
    found = errors(steps_of(method.name), method.order)
    assert found[-1] > 1e-13
    assert abs(slope(found) - method.order) < 0.1


@pytest.mark.parametrize("errors", [riccati_errors, spiral_errors])
@pytest.mark.parametrize("name", ["midpoint", "rk4", "dopri5"])
def test_a_mistyped_node_shows_in_the_order(monkeypatch, name, errors):
    true = TABLEAUS[name]
    nodes = list(true.c)
    nodes[-2 if name == "rk4" else -1] -= 0.01
    nodes[1] += 0.02
    monkeypatch.setitem(TABLEAUS, name, replace(true, c=tuple(nodes)))
    assert slope(errors(steps_of(name), true.order)) < true.order - 0.9


def drive(kind, seed=0):
    return CONTROLS[kind].random(3, 4, scale=2.0, seed=seed, dtype=F64)


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
    steps = STEPS[method.order]
    # Two more than a multiple of three: the pieces' shares differ, and so do their widths.
    counts = [3 * n // 4 for n in steps]
    errors = [float((solve(problem, RungeKutta(method.name, steps=n)).value - truth[kind]).norm()) for n in counts]
    assert errors[-1] > 1e-13
    assert abs(slope([1 / n for n in counts], errors) - method.order) < 0.1


@pytest.mark.parametrize("kind", CONTROLS)
@pytest.mark.parametrize("name", ["heun", "bosh3", "dopri5", "tsit5"])
def test_adaptive_steps_come_as_near_as_the_tolerance_asks(kind, name, truth):
    from cde_nets.solve import Tolerance

    problem = InitialValueProblem.controlled(FIELDS, drive(kind), POINTS)
    tight = 1e-5 if name == "heun" else 1e-8
    for tol in (1e-4, tight):
        end = solve(problem, RungeKutta(name), tolerance=Tolerance(tol, tol)).value
        assert float((end - truth[kind]).norm()) < 20 * tol


@pytest.mark.parametrize("kind", CONTROLS)
def test_backward_in_time_reads_the_control_from_the_right_side(kind):
    control = drive(kind)
    problem = InitialValueProblem.controlled(FIELDS, control, POINTS, 1.0, 0.0)
    want = reference(control, 1.0, 0.0)
    for method in (RungeKutta("rk4", steps=96), RungeKutta("dopri5")):
        assert float((solve(problem, method).value - want).norm()) < 2e-6


def test_a_control_read_across_its_breakpoint_shows_in_the_order(monkeypatch, truth):
    # A step that straddles the jump loses all but the first order.
    monkeypatch.setattr("cde_nets.solve.flow.runge_kutta.aligned_mesh", lambda t0, t1, n, _: np.linspace(t0, t1, n + 1))
    problem = InitialValueProblem.controlled(FIELDS, drive("constant"), POINTS)
    counts = (16, 31, 64, 125)
    errors = [float((solve(problem, RungeKutta("rk4", steps=n)).value - truth["constant"]).norm()) for n in counts]
    assert slope([1 / n for n in counts], errors) < 2


def inside_errors(method, counts):
    """The worst error over the inside of all steps, of the dense output and of saved states."""
    problem = InitialValueProblem(turning, START, 0.0, 1.4)
    found = []
    for n in counts:
        times = [1.4 * (k + theta) / n for k in range(n) for theta in (0.2, 0.5, 0.8)]
        solution = solve(problem, RungeKutta(method.name, steps=n), save_at=SaveAt(times=times, dense=True))
        want = torch.stack([turned(t) for t in times])
        some = range(0, len(times), max(1, len(times) // 8))
        for k in some:
            torch.testing.assert_close(solution.dense(times[k]), solution.value[k], rtol=0, atol=1e-13)
        found.append(float((solution.value - want).norm(dim=(1, 2)).max()))
    return found


def test_dense_output_has_the_order_it_claims_within_a_step_and_the_method_s_between(method):
    counts = [n // 2 for n in STEPS[method.order]]
    found = inside_errors(method, counts)
    assert found[-1] > 1e-13
    # Locally one more than the dense order, which the method's own error may be below.
    assert abs(slope([1 / n for n in counts], found) - min(method.order, method.dense_order + 1)) < 0.2


def test_dense_output_within_one_step_from_the_exact_solution_gains_an_order(method):
    widths = [0.4, 0.2, 0.1, 0.05] if method.order > 2 else [0.1, 0.05, 0.025]
    for theta in (0.3, 0.7):
        errors = []
        for h in widths:
            problem = InitialValueProblem(turning, turned(0.5), 0.5, 0.5 + h)
            dense = solve(problem, RungeKutta(method.name, steps=1), save_at=SaveAt(dense=True)).dense
            errors.append(float((dense(0.5 + theta * h) - turned(0.5 + theta * h)).norm()))
        assert errors[-1] > 1e-14
        assert slope(widths, errors) > method.dense_order + 1 - 0.15


def test_a_mistyped_dense_coefficient_shows_within_the_step(monkeypatch):
    true = TABLEAUS["dopri5"]
    dense = [list(row) for row in true.dense]
    dense[2][3] += 1e-2
    dense[2][1] -= 1e-2
    monkeypatch.setitem(TABLEAUS, "dopri5", replace(true, dense=tuple(map(tuple, dense))))
    counts = STEPS[5]
    assert slope([1 / n for n in counts], inside_errors(TABLEAUS["dopri5"], counts)) < 2


@pytest.mark.parametrize("mixing", [1.0, 0.99])
def test_a_reversible_method_keeps_the_order_of_its_base(method, mixing):
    steps = STEPS[method.order]
    found = vector_errors(lambda n: Reversible(RungeKutta(method.name, steps=n), mixing=mixing), steps)
    assert found[-1] > 1e-13
    assert abs(slope([1 / n for n in steps], found) - method.order) < 0.1


def test_a_reversible_method_keeps_the_order_with_a_control(truth):
    problem = InitialValueProblem.controlled(FIELDS, drive("linear"), POINTS)
    counts = [12, 24, 48]
    errors = [
        float((solve(problem, Reversible(RungeKutta("rk4", steps=n))).value - truth["linear"]).norm()) for n in counts
    ]
    assert abs(slope([1 / n for n in counts], errors) - 4) < 0.1
