"""Controls that carry points to targets, checked by flows that know nothing of how they were found."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import cde_nets as cn
from cde_nets.solver.flow.tableau import TABLEAUS
from cde_nets.steer.damped import approach
from cde_nets.steer.endpoint import Endpoint
from cde_nets.steer.energy import shorten
from cde_nets.steer.regularized import calm
from cde_nets.steer.search import Search
from cde_nets.steer.starts import loops, quiet

F = cn.PolynomialFields.random(3, 6, 2, seed=0, dtype=torch.float64)


def uniform(count, dim, seed):
    return 2 * torch.rand(count, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) - 1


X, Y = uniform(4, 3, 0), uniform(4, 3, 1)


def flow(found, fields=F):
    made = cn.ControlledODE(fields, found.control, found.method)
    return lambda x: made(x).detach()


def test_the_readout_of_the_flow_are_the_targets():
    found = cn.interpolate(F, X, Y, lam=10.0, steps=24)
    assert found
    assert found.status is cn.SteerStatus.SOLVED
    ends = flow(found)(X)
    torch.testing.assert_close(10 * (ends - X), Y, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.ends, ends, rtol=0, atol=1e-12)
    assert found.residual <= 1e-10
    assert found.lam == 10
    assert (found.rank, found.full_rank) == (12, 12)
    values = found.control.values.detach()
    assert found.energy == pytest.approx(float(values.square().sum() / 24))
    assert "residual" in str(found)


def test_with_the_identity_the_points_arrive():
    target = X + 0.1 * Y
    found = cn.interpolate(F, X, target, readout="identity", steps=24)
    assert found
    assert found.lam == 1
    torch.testing.assert_close(flow(found)(X), target, rtol=0, atol=1e-10)


def test_refined_until_the_ode_itself_interpolates():
    found = cn.interpolate(F, X[:2], Y[:2], lam=20.0, steps=12, refine_to=1e-6)
    assert found.status is cn.SteerStatus.SOLVED
    assert found.refined_residual <= 1e-6
    u = found.control.values.detach()

    def velocity(t, state, n):
        return F.velocity(torch.from_numpy(state).reshape(2, 3), u[n]).numpy().ravel()

    state = X[:2].numpy().ravel()
    for n in range(12):
        state = solve_ivp(velocity, (0, 1 / 12), state, "DOP853", rtol=1e-12, atol=1e-13, args=(n,)).y[:, -1]
    assert np.abs(20 * (state.reshape(2, 3) - X[:2].numpy()) - Y[:2].numpy()).max() < 2e-6


def test_without_lambda_a_small_one_is_found():
    found = cn.interpolate(F, X, Y, steps=24)
    assert found
    assert found.lam <= 50
    torch.testing.assert_close(found.lam * (flow(found)(X) - X), Y, rtol=0, atol=1e-9)


@pytest.mark.parametrize("missing", [(), ("finer steps", "the least energy")])
def test_what_there_was_no_time_for_comes_with_the_way_out(missing, monkeypatch):
    finish = Search.finish

    def finished(self, *args):
        finish(self, *args)
        self.best = replace(self.best, missing=missing)

    monkeypatch.setattr(Search, "finish", finished)
    found = cn.interpolate(F, X, Y, lam=20.0, steps=24, certify=False, time_limit=40)
    words = "; no time for finer steps and the least energy in 40 s: raise time_limit"
    assert found.reason.endswith(words) is bool(missing)
    assert ("no time" in found.reason) is bool(missing)


def test_a_seed_says_it_all():
    one, two = (cn.interpolate(F, X, Y, lam=20.0, steps=24, seed=3, certify=False) for _ in range(2))
    assert torch.equal(one.control.values, two.control.values)
    assert one.rank is None


def test_float32_fields_are_computed_with_in_float64():
    narrow = cn.PolynomialFields.random(3, 6, 2, seed=0)
    found = cn.interpolate(narrow, X.float(), Y.float(), lam=20.0, steps=24)
    assert found
    assert found.control.values.dtype == torch.float64
    assert narrow.coefficients.dtype == torch.float32


def test_on_the_line_coarse_steps_change_the_order_of_points_and_the_ode_cannot(looks):
    line = cn.PolynomialFields.random(1, 4, 3, seed=0, dtype=torch.float64)
    x = torch.tensor([[0.0], [0.2]], dtype=torch.float64)
    coarse = cn.interpolate(line, x, x.flip(0), readout="identity", steps=8, method="rk4")
    assert coarse.status is cn.SteerStatus.SOLVED
    assert coarse.refined_residual > 0.1
    assert "on the line no flow changes the order of points" in coarse.reason
    assert "ask for refine_to" not in coarse.reason
    fine = cn.interpolate(line, x, x.flip(0), readout="identity", steps=8, method="rk4", refine_to=1e-6)
    assert fine.status is cn.SteerStatus.COARSE
    assert not fine
    assert "under refinement where 1.0e-06 was asked for; on the line no flow" in fine.reason
    kept = cn.interpolate(line, x, x + 0.1, readout="identity", steps=8, refine_to=1e-6)
    assert kept
    assert "on the line" not in kept.reason


def test_fields_that_are_not_certified_are_warned_of(looks):
    # Forty steps; the certificate has its share of the time by the clock on the wall.
    looks.tick = 1.0
    linear = cn.LinearFields.random(2, 3, seed=0, dtype=torch.float64)
    x, y = uniform(4, 2, 2), uniform(4, 2, 3)
    with pytest.warns(UserWarning, match="Not proved: rank 4 of 8"):
        found = cn.interpolate(linear, x, y, lam=10.0, steps=12, time_limit=40)
    assert not found
    assert (found.rank, found.full_rank) == (4, 8)


def test_fields_that_are_no_polynomials_at_the_points_are_warned_of(looks):
    looks.tick = 1.0
    inside = cn.Cutoff(F, 0.5)
    with pytest.warns(UserWarning, match="No certificate of the fields: .* outside the ball"):
        found = cn.interpolate(inside, X, Y, lam=20.0, steps=24, time_limit=10)
    assert found.rank is None


def test_blow_up_is_counted_and_the_best_loop_told(looks):
    endpoint = Endpoint(F, X, TABLEAUS["rk4"].bare, 1, 1e6)
    starts, blown_up = loops(endpoint, Y, 24, tries=2, generator=torch.Generator().manual_seed(0), deadline=math.inf)
    # Amplitudes double until more than half of the six are lost.
    assert blown_up >= 4
    assert [start.need for start in starts] == sorted(start.need for start in starts)
    # One field never leaves its line, x' = u x, so that loops are tried until time is up.
    line = cn.LinearFields(torch.eye(2, dtype=torch.float64)[None])
    aside = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    found = cn.interpolate(line, aside.flip(1), aside, lam=2.0, steps=4, time_limit=1, certify=False)
    assert not found
    assert "singular values down to 0.0e+00" in found.reason


def test_where_all_loops_blow_up_it_says_so():
    found = cn.interpolate(F, 1e100 * X, 1e100 * Y, lam=10.0, steps=24, certify=False, tolerance=1e87)
    assert found.status is cn.SteerStatus.NO_START
    assert "left every bounded set" in found.reason


def test_less_energy_with_the_same_ends():
    # From a solution far from the shortest: the one that a loop leads to.
    endpoint = Endpoint(F, X[:2], TABLEAUS["rk4"].bare, 1, 1e6)
    generator = torch.Generator().manual_seed(0)
    starts, _ = loops(endpoint, Y[:2] / 10, 12, tries=1, generator=generator, deadline=math.inf)
    target = X[:2] + Y[:2] / 10
    from_a_loop = next(
        found
        for start in starts
        if (found := approach(endpoint, start.values, target, tolerance=1e-11, most=60, deadline=math.inf)).residual
        <= 1e-11
    )
    short = shorten(endpoint, from_a_loop.values, target, tolerance=1e-11, deadline=math.inf)
    assert short.residual <= 1e-11
    torch.testing.assert_close(endpoint.at(short.values), target, rtol=0, atol=1e-11)
    assert float(short.values.square().sum()) < 0.5 * float(from_a_loop.values.square().sum())
    # Lagrange's condition: to first order no shorter control has the same ends.
    u = short.values.flatten()
    _, jacobian = endpoint.linearized(short.values)
    seen = jacobian.mT @ torch.linalg.lstsq(jacobian.mT, u[:, None]).solution
    assert float((u - seen[:, 0]).norm()) < 0.2 * float(u.norm())


def test_the_shortest_control_is_known_for_one_field_and_one_point():
    # x' = u, from 0 to 1: u = 1, by Cauchy and Schwarz.
    line = cn.PolynomialFields(torch.tensor([[[1.0, 0.0]]], dtype=torch.float64), degree=1)
    x, y = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    found = cn.interpolate(line, x, y, readout="identity", steps=6, least_energy=True)
    assert found
    torch.testing.assert_close(found.control.values.detach(), torch.ones(6, 1, dtype=torch.float64), rtol=0, atol=1e-2)
    assert found.energy == pytest.approx(1, abs=1e-3)


def test_calm_finds_what_needs_least():
    endpoint = Endpoint(F, X, TABLEAUS["rk4"].bare, 1, 1e6)
    start = quiet(endpoint, 24, generator=torch.Generator().manual_seed(0))
    found = calm(endpoint, start, X + Y / 100, tolerance=1e-11, most=100, deadline=math.inf)
    first = float((endpoint.at(start) - X - Y / 100).abs().amax())
    assert found.residual < 0.3 * first
    assert found.steps + found.rejected <= 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": X[:3]}, r"x has shape \(3, 3\) and y \(4, 3\), expected \(points, 3\) both"),
        ({"x": X[:, :2], "y": Y[:, :2]}, r"expected \(points, 3\) both"),
        ({"x": X[:0], "y": Y[:0]}, "points >= 1"),
        ({"x": X[[0, 1, 2, 0]]}, "x: rows 0 and 3 are the same point, which no flow tells apart"),
        ({"y": Y[[0, 1, 1, 2]], "readout": "identity"}, "y: rows 1 and 2 are the same point"),
        ({"y": 5 * (X[[0]] - X), "lam": 5.0}, "x \\+ y / lam: rows 0 and 1 are the same point"),
        ({"x": X.clone().fill_(float("nan"))}, "x: row 0 is not finite"),
        ({"y": Y.clone().fill_(float("inf"))}, "y: row 0 is not finite"),
        ({"steps": 1}, "1 x 6 numbers for 12 that are asked for; expected at least 2 steps"),
        ({"lam": 0.0}, "lam is 0.0, expected a positive number"),
        ({"lam": 1.0, "readout": "identity"}, "the identity readout has none"),
        ({"readout": "identiy"}, "expected one of difference, identity"),
        ({"tolerance": 0.0}, "tolerance is 0.0, expected a positive number"),
        ({"refine_to": -1.0}, "refine_to is -1.0, expected a positive number"),
        ({"time_limit": float("nan")}, "time_limit is nan, expected a positive number"),
        ({"substeps": 0}, "substeps is 0, expected a whole number of at least 1"),
        ({"x": 1e7 * X, "lam": 10.0}, "tolerance is 1e-10, less than rounding leaves of x"),
        ({"method": "rk5"}, "method is 'rk5', expected one of"),
        ({"fields": [[1, 2]]}, "fields is a list, expected a family of fields"),
        ({"fields": cn.PolynomialFields}, "fields is the class PolynomialFields, expected"),
        ({"fields": cn.LinearFields(1j * torch.eye(3, dtype=torch.complex128)[None])}, "expected real fields"),
        ({"x": X.tolist()}, r"x is a list, expected a tensor of shape \(points, 3\): torch.as_tensor"),
        ({"y": Y.numpy()}, "y is a ndarray, expected a tensor"),
        ({"x": X + 1j}, "x is torch.complex128, expected real numbers"),
        ({"x": X.to("meta")}, "x is on meta and the fields are on cpu"),
        ({"x": 1e200 * X, "tolerance": 1e190}, "x: at row 0, .* the fields are not finite"),
        ({"steps": 24.0}, "steps is 24.0, expected a whole number of at least 1"),
        ({"steps": "24"}, "steps is '24', expected a whole number"),
        ({"steps": True}, "steps is True, expected a whole number"),
        ({"substeps": 1.5}, "substeps is 1.5, expected a whole number"),
        ({"seed": 1.5}, "seed is 1.5, expected a whole number from 0"),
        ({"seed": None}, "seed is None, expected a whole number from 0"),
        ({"seed": -1}, "seed is -1, expected a whole number from 0"),
        ({"seed": 2**64}, "seed is 18446744073709551616, expected a whole number from 0 to"),
        ({"lam": True}, "lam is True, expected a positive number or None"),
        ({"lam": 10**400}, "lam is 1000.*, expected a positive number or None"),
        ({"tolerance": float("inf")}, "tolerance is inf, expected a positive number"),
        ({"refine_to": float("inf")}, "refine_to is inf, expected a positive number or None"),
        ({"refine_to": 1e-13}, "refine_to is 1e-13, less than tolerance, which is 1e-10"),
        ({"y": X + 9e5 * Y, "readout": "identity"}, "less than rounding leaves of x, y: expected"),
        ({"y": 1e8 * Y, "lam": 1.0}, "less than rounding leaves of x, y and lambda: expected"),
    ],
)
def test_bad_input_is_refused_before_work(change, message, bad_input):
    arguments = {"fields": F, "x": X, "y": Y} | change
    begun = time.monotonic()
    with pytest.raises(ValueError, match=message):
        cn.interpolate(arguments.pop("fields"), arguments.pop("x"), arguments.pop("y"), **arguments)
    # Before any search, which would take its whole limit.
    assert time.monotonic() - begun < 20


SPHERE = cn.SphericalFields(F)


@pytest.mark.parametrize(
    ("fields", "change", "message"),
    [
        (SPHERE, {"lam": 10.0}, r"x \+ y / lam: row 0 has the norm .* |x| stays as it is: take readout=\"identity\""),
        (SPHERE, {}, "|x| stays as it is: take readout"),
        (SPHERE, {"readout": "identity"}, "y: row 0 has the norm .* take targets on the points' spheres"),
        (cn.Cutoff(SPHERE, 5.0), {"lam": 10.0}, "|x| stays as it is"),
    ],
)
def test_what_lies_off_the_sphere_is_refused_along_it(fields, change, message):
    with pytest.raises(ValueError, match=message):
        cn.interpolate(fields, X, Y, **change)
