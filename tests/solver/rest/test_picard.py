"""Picard's iteration, damped and not."""

import math

import pytest
import torch

from cde_nets.gradient import Implicit, solve
from cde_nets.solver import Limits, Neumann, Tolerance, run
from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.rest import Picard

F64 = torch.float64


class Record:
    def __init__(self):
        self.values, self.residuals = [], []

    def observe(self, before, after, signals):
        self.values.append(after.value)
        self.residuals.append(after.residual)


def test_iterates_are_f_of_f(find):
    record, z = Record(), torch.linspace(0, 1, 6, dtype=F64).reshape(2, 3)
    find(torch.cos, z, Picard(), rtol=1e-15, atol=1e-300, max_steps=10, observers=(record,))
    for value in record.values:
        z = torch.cos(z)
        torch.testing.assert_close(value, z, rtol=0, atol=1e-15)


@pytest.mark.parametrize("damping", [1.0, 0.5, 0.25])
def test_damped_iterates(find, maps, damping):
    f, _ = maps.contraction()
    record, z = Record(), torch.ones(4, 6, dtype=F64)
    find(f, z, Picard(damping=damping), rtol=1e-15, atol=1e-300, max_steps=10, observers=(record,))
    for value in record.values:
        z = (1 - damping) * z + damping * f(z)
        torch.testing.assert_close(value, z, rtol=0, atol=1e-14)


@pytest.mark.parametrize("damping", [0.5, 0.1, 0.01])
def test_damping_does_not_stop_early(damping):
    """A test of the damped step would pass damping times too soon."""
    problem = FixedPointProblem(lambda z: 0.5 * z, torch.ones(2, 3, dtype=F64)).counted()
    tolerance = Tolerance(rtol=1e-300, atol=1e-3)
    state = run(problem, Picard(damping=damping), Limits(tolerance, 200_000))
    residual = (0.5 * state.value).norm(dim=1)
    assert (residual <= 1e-3).all()
    # The iterates are (1 - damping/2)^k: the first with |z/2| <= 1e-3, no earlier, no later.
    steps = math.ceil(math.log(2e-3 / math.sqrt(3)) / math.log1p(-damping / 2))
    assert state.accepted.tolist() == [steps] * 2
    assert problem.evaluations == steps + 1


def test_evaluations_are_steps_and_one(find, maps):
    f, _ = maps.contraction()
    found = find(f, torch.zeros(4, 6, dtype=F64), Picard())
    assert found.evaluations == int(found.state.accepted.max()) + 1
    assert found.products == 0
    assert found.state.rejected.tolist() == [0] * 4
    # The rows took different numbers of steps, each its own.
    alone = [find(lambda z: f(z.expand(4, 6))[k : k + 1], torch.zeros(1, 6, dtype=F64), Picard()) for k in range(4)]  # noqa: B023
    assert found.state.accepted.tolist() == [int(one.state.accepted) for one in alone]


def test_the_tolerance_is_relative_to_the_image(find):
    found = find(lambda z: 0.5 * z + 500.0, torch.zeros(1, 1, dtype=F64), Picard(), rtol=1e-3, atol=1e-300)
    # |f(z) - z| = 500 / 2^k falls under 1e-3 |f(z)| = 1 - .. after 9 steps.
    assert int(found.state.accepted) == 9


def test_a_row_that_leaves_the_finite_numbers_keeps_its_last_value(find):
    found = find(lambda z: z * z, torch.tensor([[3.0], [0.5]], dtype=F64), Picard())
    assert found.words == ["DIVERGED", "CONVERGED"]
    assert torch.isfinite(found.state.value).all()
    assert float(found.value[0]) > 1e100


def test_functions_are_not_asked_about_states_that_are_not_finite():
    seen = []

    def f(z):
        seen.append(z)
        return torch.stack([torch.exp(z[0]), 0.9 * z[1]])

    problem = FixedPointProblem(f, torch.ones(2, 1, dtype=F64)).counted()
    run(problem, Picard(), Limits(Tolerance(rtol=1e-10, atol=1e-10), 1000))
    assert all(torch.isfinite(z).all() for z in seen)


def test_images_that_overflow_have_not_converged(find, maps):
    """Beyond the root of the largest number |f(z)| is infinite, and any residual small beside it."""
    f, _ = maps.rotation(3.0)
    assert find(f, torch.ones(3, 6, dtype=F64), Picard()).words == ["DIVERGED"] * 3


@pytest.mark.parametrize("steps", [1, 7, 60])
def test_as_many_steps_as_planned(steps, reads):
    """All are taken, also past the tolerance; rows that do not meet it are done; no device is read on the way."""
    rates = torch.tensor([[0.5], [0.99], [1.2]], dtype=torch.float64)
    problem = FixedPointProblem(lambda z: rates * z + 1, torch.zeros(3, 1, dtype=torch.float64))
    with reads:
        solution = solve(problem, Picard(steps=steps), tolerance=Tolerance(1e-6, 1e-8), throw=False)
    assert reads.count == 0
    torch.testing.assert_close(solution.value, (rates**steps - 1) / (rates - 1), rtol=1e-12, atol=0)
    assert solution.statistics.accepted.tolist() == [steps] * 3
    assert solution.words() == ["converged" if steps == 60 else "done", "done", "done"]
    assert solution.statistics.evaluations == steps + 1
    for refused in (0, -1, True):
        with pytest.raises(ValueError, match="steps must be an integer of at least 1"):
            Picard(steps=refused)


@pytest.mark.parametrize("damping", [1.0, 0.5])
@pytest.mark.parametrize("root", [False, True])
@pytest.mark.parametrize("start", [[2.0, 3.0], [2.0, 1e3], [2.0, 1e300], [2.0, math.nan]])
def test_planned_steps_are_the_same_watched_or_not(start, root, damping):
    """Row by row: the second comes to rest, leaves the numbers on the way, at once, or never was among them."""
    make = FixedPointProblem.root if root else FixedPointProblem
    z0 = torch.tensor(start, dtype=F64)[:, None]

    def f(z):
        assert torch.isfinite(z).all()
        return torch.where(z < 5, 0.5 * z, z * z)

    limits, method = Limits(Tolerance(1e-3, 1e-3)), Picard(damping, steps=12)
    with torch.no_grad():
        watched = run(make(f, z0), method, limits, (Record(),))
        problem = make(f, z0)
        alone = run(problem, method, limits)
    assert problem.evaluations == 13
    for name in ("value", "residual", "status", "running", "accepted", "rejected"):
        a, b = getattr(alone, name), getattr(watched, name)
        assert torch.equal(a, b) or torch.allclose(a, b, rtol=0, atol=0, equal_nan=True), name


def test_planned_steps_give_their_gradient_where_they_end():
    """As recurrent back-propagation is used: Neumann's series at the state after a given number of steps."""
    rate = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
    problem = FixedPointProblem(lambda z, a: a * z + 1, torch.zeros(2, 1, dtype=torch.float64), args=(rate,))
    value = solve(problem, Picard(steps=5), gradient=Implicit(Neumann(3)), tolerance=Tolerance(1e-12, 1e-12)).value
    (grad,) = torch.autograd.grad(value.sum(), rate)
    # Both rows: z_5 sum_{k<=3} a^k.
    assert float(grad) == pytest.approx(2 * (1 - 0.9**5) / 0.1 * sum(0.9**k for k in range(4)), rel=1e-12)
