"""What a search does with its time, and what it keeps: against closed forms, scipy, and clocks."""

import math
import time

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import cde_nets as cn
from cde_nets.solver.flow.tableau import TABLEAUS
from cde_nets.steer.damped import Attempt, approach
from cde_nets.steer.endpoint import Endpoint
from cde_nets.steer.energy import shorten
from cde_nets.steer.search import Search
from cde_nets.steer.starts import loops

pytestmark = pytest.mark.usefixtures("unchecked")

F = cn.PolynomialFields.random(3, 6, 2, seed=0, dtype=torch.float64)
PLANE = cn.PolynomialFields.random(2, 5, 2, seed=0, dtype=torch.float64)
# x' = u and x' = u x**2 on the line, from 1.
LINE = cn.PolynomialFields(torch.tensor([[[1.0, 0.0]]], dtype=torch.float64), degree=1)
SQUARE = cn.PolynomialFields(torch.tensor([[[0.0, 0.0, 1.0]]], dtype=torch.float64), degree=2)
ONE = torch.ones(1, 1, dtype=torch.float64)


def uniform(count, dim, seed):
    return 2 * torch.rand(count, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) - 1


def along(fields, x, steps=8, substeps=1, method="rk4"):
    return Endpoint(fields, x, TABLEAUS[method].bare, substeps)


def searching(endpoint, shift, steps, deadline=math.inf, tolerance=1e-10):
    generator = torch.Generator().manual_seed(0)
    return Search(endpoint, shift, steps, tolerance, deadline, generator)


def ode(fields, found, x):
    """The ends of the ODE itself, by scipy."""
    u, state = found.control.values.detach(), x.numpy().ravel()

    def velocity(t, state, n):
        return fields.velocity(torch.from_numpy(state).reshape(x.shape), u[n]).numpy().ravel()

    for n in range(len(u)):
        state = solve_ivp(velocity, (0, 1 / len(u)), state, "DOP853", rtol=1e-13, atol=1e-14, args=(n,)).y[:, -1]
    return torch.from_numpy(state).reshape(x.shape)


@pytest.mark.parametrize(("lam", "steps", "method"), [(3.0, 12, "rk4"), (1.0, 6, None)])
def test_steps_are_refined_and_the_ode_interpolates(lam, steps, method):
    x, y = uniform(4, 3, 0)[:2], uniform(4, 3, 1)[:2]
    coarse = cn.interpolate(F, x, y, lam=lam, steps=steps, method=method, certify=False)
    assert (lam * (ode(F, coarse, x) - x) - y).abs().max() > 1e-7, "these steps are too long for what is asked"
    found = cn.interpolate(F, x, y, lam=lam, steps=steps, method=method, refine_to=1e-8, certify=False)
    assert found.status is cn.SteerStatus.SOLVED
    assert found.substeps > 1
    assert found.method.steps == steps * found.substeps
    assert found.residual <= 1e-10
    assert found.refined_residual <= 1e-8
    assert (lam * (ode(F, found, x) - x) - y).abs().max() < 2e-8


def test_without_lambda_the_ode_of_a_small_one_is_reached():
    x, y = uniform(4, 3, 0)[:2], uniform(4, 3, 1)[:2]
    found = cn.interpolate(F, x, y, steps=6, refine_to=1e-8, certify=False)
    assert found
    assert found.lam <= 2
    assert (found.lam * (ode(F, found, x) - x) - y).abs().max() < 2e-8


def test_where_the_ode_of_the_smallest_lambda_is_out_of_reach_that_of_a_larger_one_is_taken(looks):
    # The order of points on the line is the ODE's to keep: with lambda 2 they would change it, with 5 and more not.
    line = cn.PolynomialFields.random(1, 4, 3, seed=0, dtype=torch.float64)
    x = torch.tensor([[0.0], [0.2]], dtype=torch.float64)
    y = torch.tensor([[0.5], [-0.3]], dtype=torch.float64)
    assert float((x + y / 2).diff(dim=0)) < 0 < float((x + y / 5).diff(dim=0))
    search = searching(along(line, x), y, 8)
    with torch.no_grad():
        assert all(search.solve(lam) for lam in (5.0, 2.0)), "with coarse steps both are reached"
        search.deadline = looks.now + 6
        search.finish(False, 1e-6, 4)
    assert search.best.lam == 5
    assert search.best.refined <= 1e-6
    assert search.best.nearest <= 1e-10


def test_the_descent_leaves_time_for_what_comes_after_it(monkeypatch):
    # Each lambda takes a second; 10 seconds in all.
    clock = [0.0]
    monkeypatch.setattr("cde_nets.steer.search.time.monotonic", lambda: clock[0])
    search = searching(along(LINE, ONE), ONE, 4, deadline=10)

    def solve(lam):
        clock[0] += 1
        return search._take(Attempt(torch.full((4, 1), 1 / lam, dtype=torch.float64), 0.0), lam)

    monkeypatch.setattr(search, "_from", lambda found, lam: Attempt(found.values, math.inf))
    monkeypatch.setattr(search, "solve", solve)
    search.lower((100.0, 50.0, 20.0, 10.0, 5.0, 2.0, 1.0), 0.4)
    assert clock[0] in (4, 5)
    assert search.best.lam in (10, 5)
    assert search.deadline == 10
    assert search.best.missing == (f"lambda below {search.best.lam:g}",)


def test_a_lambda_out_of_reach_does_not_take_all_the_time(looks):
    # Two ends that all but meet at lambda 10: others are reached.
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.3, -0.8]], dtype=torch.float64)
    for off in (0.0, 1e-5):
        y = torch.tensor([[10.0 + off, 0.0], [0.0, 0.0], [0.1, 0.2]], dtype=torch.float64)
        found = cn.interpolate(PLANE, x, y, time_limit=20, certify=False)
        assert found
        assert found.lam < 10


def test_a_control_far_from_the_ode_is_told_with_the_way_out():
    found = cn.interpolate(SQUARE, ONE, 100 * ONE, readout="identity", steps=4, certify=False)
    # 1 / (1 - mean of u) is the ODE's end.
    assert abs(1 / (1 - float(found.control.values.detach().mean())) - 100) > 1
    assert found.status is cn.SteerStatus.SOLVED
    assert f"misses the targets by {found.refined_residual:.1e}" in found.reason
    assert "ask for refine_to" in found.reason
    assert found.blown_up > 0
    near = cn.interpolate(LINE, ONE, 2 * ONE, readout="identity", steps=4, certify=False)
    assert "ODE" not in near.reason


def test_a_search_ends_when_time_is_up(looks):
    fields = cn.RidgeFields.random(6, 4, 3, seed=0, dtype=torch.float64)
    x, y = uniform(12, 6, 0), uniform(12, 6, 1)
    found = cn.interpolate(fields, x, y, lam=1.0, time_limit=1, certify=False)
    assert not found
    # A hundred looks at the clock; after those it is looked at once by each loop that is left, and no step is taken.
    assert 1 < looks.now < 1.2


def test_by_the_clock_on_the_wall_a_search_ends_as_well():
    fields = cn.RidgeFields.random(6, 4, 3, seed=0, dtype=torch.float64)
    x, y = uniform(6, 6, 0), uniform(6, 6, 1)
    begun = time.monotonic()
    found = cn.interpolate(fields, x, y, lam=0.1, time_limit=0.5, certify=False)
    assert not found
    # A Jacobian at work is finished, and flows are compared: far less than the minute that is the default.
    assert 0.5 < time.monotonic() - begun < 40


def test_loops_that_are_all_lost_stop_at_the_deadline():
    # x' = u x**2 from 1e12 is soon at infinity.
    endpoint = Endpoint(SQUARE, 1e12 * ONE, TABLEAUS["rk4"].bare, 1, 1e13)
    generator = torch.Generator().manual_seed(0)
    found, blown_up = loops(endpoint, ONE, 8, tries=1000, generator=generator, deadline=time.monotonic() - 1)
    assert (found, blown_up) == ([], 0)


def test_loops_come_back():
    # Along x' = u the end is x and the mean of u; along others they come back as far as steps are right.
    for fields, x, substeps in ((LINE, ONE, 1), (F, uniform(4, 3, 0), 16)):
        endpoint = along(fields, x, substeps=substeps)
        generator = torch.Generator().manual_seed(0)
        starts, _ = loops(endpoint, torch.ones_like(x), 24, tries=1, generator=generator, deadline=math.inf)
        gentle = min(starts, key=lambda start: float(start.values.norm()))
        assert float(gentle.values.norm()) > 0
        torch.testing.assert_close(endpoint.at(gentle.values), x, rtol=0, atol=1e-5)
        assert all(float(start.values.mean(0).abs().max()) < 1e-12 for start in starts)


def test_damped_least_squares_ends_at_the_deadline_and_counts_what_blew_up():
    endpoint = Endpoint(SQUARE, ONE, TABLEAUS["rk4"].bare, 1)
    start = torch.zeros(4, 1, dtype=torch.float64)
    none = approach(endpoint, start, 3 * ONE, tolerance=1e-10, most=40, deadline=time.monotonic() - 1)
    assert (none.steps, none.rejected, none.residual, none.late) == (0, 0, 2.0, True)
    assert none.values is start
    some = approach(endpoint, start, 3 * ONE, tolerance=1e-10, most=40, deadline=math.inf)
    assert (some.residual <= 1e-10, some.late) == (True, False)
    # From 1 to a million: the first step, J = 1, would take 1 / (1 - u) far past infinity.
    far = approach(endpoint, start, 1e6 * ONE, tolerance=1e-10, most=40, deadline=math.inf, damping=1e-12)
    assert far.blown_up > 0
    assert far.rejected >= far.blown_up
    search = searching(endpoint, 2 * ONE, 4)
    search._counted(far)
    assert (search.blown_up, search.evaluations) == (far.blown_up, far.steps + far.rejected)


def test_what_is_known_is_not_computed_again(monkeypatch):
    endpoint = Endpoint(SQUARE, ONE, TABLEAUS["rk4"].bare, 1)
    start = torch.zeros(4, 1, dtype=torch.float64)
    known = endpoint.linearized(start)
    monkeypatch.setattr(Endpoint, "linearized", lambda self, values: pytest.fail("it is known"))
    found = approach(endpoint, start, ONE, tolerance=1e-10, most=40, deadline=math.inf, known=known)
    assert found.residual == 0
    assert found.linearized[1] is known[1]


def test_a_residual_is_that_of_the_readout():
    # |X_1 - target| = 5e-11 is ten times more of 10 (X_1 - x).
    search = searching(along(LINE, ONE), ONE, 4)
    values = torch.zeros(4, 1, dtype=torch.float64)
    assert not search._take(Attempt(values, 5e-11), 10.0)
    assert search.best.nearest == pytest.approx(5e-10)
    assert search._take(Attempt(values, 5e-12), 10.0)


def test_a_solution_is_not_made_longer():
    # 0.99 is short of the target 1, and orthogonal to the kernel of the mean: all that is left is to lengthen it.
    endpoint = along(LINE, 0 * ONE)
    values = torch.full((6, 1), 0.99, dtype=torch.float64)
    found = shorten(endpoint, values, ONE, tolerance=1e-12, deadline=math.inf)
    assert found.values is values
    assert found.residual == math.inf
    # A longer one is made short: to the mean, by Cauchy and Schwarz.
    bent = torch.tensor([[3.0], [-1.0], [3.0], [-1.0], [3.0], [-1.0]], dtype=torch.float64)
    found = shorten(endpoint, bent, ONE, tolerance=1e-12, deadline=math.inf)
    torch.testing.assert_close(found.values, torch.ones_like(bent), rtol=0, atol=0.05)
    # Without time it stays as it is.
    found = shorten(endpoint, bent, ONE, tolerance=1e-12, deadline=time.monotonic() - 1)
    assert (found.late, float(found.values.norm()) == float(bent.norm())) == (True, True)


def test_least_energy_is_less():
    x, y = 2 * torch.rand(3, 2, 6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)[1] - 1
    found, short = (
        cn.interpolate(PLANE, x, y, lam=20.0, steps=24, certify=False, least_energy=wanted) for wanted in (False, True)
    )
    u = short.control.values.detach().numpy()
    assert short.energy == pytest.approx((u**2).sum() / 24)
    assert short.energy < 0.95 * found.energy
    ends = cn.ControlledODE(PLANE, short.control, short.method)(x).detach()
    torch.testing.assert_close(20 * (ends - x), y, rtol=0, atol=1e-9)


def test_seeds_lead_elsewhere():
    x, y = uniform(4, 3, 0), uniform(4, 3, 1)
    one, two = (cn.interpolate(F, x, y, lam=20.0, steps=24, seed=seed, certify=False) for seed in (0, 1))
    assert not torch.equal(one.control.values, two.control.values)


def test_singular_values_of_constant_fields_are_known():
    # (1, 0) and (0, 2) over eight equal intervals: the Jacobian's rows are 1/8 and 2/8, eight times each.
    fields = cn.PolynomialFields(torch.tensor([[[1.0, 0, 0], [0, 0, 0]], [[0, 0, 0], [2.0, 0, 0]]]).double(), degree=1)
    x = torch.zeros(1, 2, dtype=torch.float64)
    found = cn.interpolate(fields, x, x + 1, readout="identity", steps=8, certify=False)
    assert found.smallest_singular_value == pytest.approx(8**-0.5)
    assert found.condition == pytest.approx(2)
    np.testing.assert_allclose(found.ends, [[1, 1]], atol=1e-10)


def test_targets_far_away_do_not_count_as_blown_up():
    found = cn.interpolate(LINE, 0 * ONE, 1e7 * ONE, readout="identity", tolerance=1e-6, certify=False)
    assert found
    assert float(found.control.values.detach().mean()) == pytest.approx(1e7, rel=1e-12)
