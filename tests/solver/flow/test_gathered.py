"""Fields are asked only at the rows that still run, where no row is told from another."""

import pytest
import torch

from cde_nets.controls import DataControl, PiecewiseConstantControl, SpectralControl
from cde_nets.fields import PolynomialFields
from cde_nets.gradient import solve
from cde_nets.solver import InitialValueProblem, RungeKutta, Tolerance

# Hundreds of steps: the shape checker would take most of the time.
pytestmark = pytest.mark.usefixtures("bad_input")

F64 = torch.float64
LOOSE = Tolerance(rtol=1e-3, atol=1e-4)
ROWS = 128


def turns():
    """On rows (a, b, w): V_1 = (-w b, w a, 0), V_2 = (b, a, 0)."""
    empty = PolynomialFields(torch.zeros(2, 3, 10, dtype=F64), 2)
    place = {tuple(e): k for k, e in enumerate(empty.exponents.tolist())}
    c = torch.zeros(2, 3, 10, dtype=F64)
    c[0, 0, place[0, 1, 1]], c[0, 1, place[1, 0, 1]] = -1.0, 1.0
    c[1, 0, place[0, 1, 0]] = c[1, 1, place[1, 0, 0]] = 1.0
    return PolynomialFields(c, 2)


def uneven():
    """A quarter of the rows turn fast."""
    w = torch.linspace(0.0, 1.0, ROWS, dtype=F64)
    w[::4] += 6
    return torch.stack([torch.ones_like(w), -torch.ones_like(w), w], 1).requires_grad_()


def controls(kind):
    if kind == "smooth":
        return SpectralControl.random(3, 2, scale=1.0, seed=0, dtype=F64)
    return PiecewiseConstantControl.random(4, 2, scale=1.0, seed=0, dtype=F64)


@pytest.fixture
def asked(monkeypatch):
    """How many rows the fields were asked at, call by call."""
    sizes, plain = [], PolynomialFields.velocity

    def velocity(self, x, u):
        sizes.append(len(x))
        return plain(self, x, u)

    monkeypatch.setattr(PolynomialFields, "velocity", velocity)
    return sizes


@pytest.mark.parametrize("kind", ["smooth", "pieces"])
def test_rows_that_have_ended_are_not_asked_at_and_the_others_do_not_notice(asked, kind):
    control, x = controls(kind), uneven()
    weights = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(0), dtype=F64)

    def run(rows):
        problem = InitialValueProblem.controlled(turns(), control, x[rows])
        solution = solve(problem, RungeKutta("dopri5"), tolerance=LOOSE, save_at=[0.3, 0.9, 1.0])
        gradient = torch.autograd.grad((solution.value * weights[rows]).sum(), [x, *control.leaves])
        return solution, gradient

    together, gradient = run(slice(None))
    forward = asked[: together.statistics.evaluations]
    # All of them at first, only those that turn fast in the end.
    assert forward[0] == ROWS
    assert forward[-1] <= ROWS // 4
    # So few rows are never gathered.
    parts = [run(slice(k, k + 64)) for k in range(0, ROWS, 64)]
    torch.testing.assert_close(together.value, torch.cat([s.value for s, _ in parts], 1), rtol=1e-11, atol=1e-11)
    for name in ("accepted", "rejected"):
        got = getattr(together.statistics, name)
        assert torch.equal(got, torch.cat([getattr(s.statistics, name) for s, _ in parts]))
    for k, whole in enumerate(gradient):
        torch.testing.assert_close(whole, sum(found[k] for _, found in parts), rtol=1e-9, atol=1e-9)


def test_a_function_is_always_asked_at_all_rows():
    # It may hold a number for every row.
    rates, seen = torch.linspace(0.0, 20.0, ROWS, dtype=F64)[:, None], []

    def grow(t, x):
        seen.append(len(x))
        return -rates * x

    with torch.no_grad():
        solution = solve(InitialValueProblem(grow, torch.ones(ROWS, 1, dtype=F64)), RungeKutta("dopri5"))
    assert set(seen) == {ROWS}
    assert int(solution.statistics.steps.min()) < int(solution.statistics.steps.max())
    torch.testing.assert_close(solution.value, torch.exp(-rates), rtol=1e-5, atol=1e-7)


def test_a_control_for_each_row_keeps_its_rows(asked):
    angle = torch.ones(ROWS, dtype=F64)
    angle[::4] = 6.0
    path = torch.stack([torch.zeros(ROWS, 2, dtype=F64), torch.stack([angle, torch.zeros_like(angle)], 1)], 1)
    x = torch.tensor([[1.0, 0.0, 1.0]], dtype=F64).repeat(ROWS, 1)
    problem = InitialValueProblem.controlled(turns(), DataControl([0.0, 1.0], path), x)
    with torch.no_grad():
        solution = solve(problem, RungeKutta("tsit5"))
    assert set(asked) == {ROWS}
    torch.testing.assert_close(
        solution.value[:, :2], torch.stack([torch.cos(angle), torch.sin(angle)], 1), rtol=0, atol=1e-4
    )
