"""Rows that fail leave the others alone, forward and backward, in every mode that keeps its own steps."""

import pytest
import torch

from cde_nets.controls import PiecewiseConstantControl
from cde_nets.fields import PolynomialFields
from cde_nets.gradient import Backsolve, Checkpointed, Discrete, Implicit, Truncated, solve
from cde_nets.solver import (
    Anderson,
    FixedPointProblem,
    InitialValueProblem,
    Picard,
    Reversible,
    RungeKutta,
    Status,
    Tolerance,
)

F64 = torch.float64
METHODS = {
    "euler": RungeKutta("euler", steps=40),
    "rk4": RungeKutta("rk4", steps=40),
    "dopri5": RungeKutta("dopri5"),
    "bosh3": RungeKutta("bosh3"),
    "reversible": Reversible(RungeKutta("heun", steps=40)),
}
GRADIENTS = {
    "discrete": Discrete(),
    "checkpointed": Checkpointed(),
    "backsolve": Backsolve(),
}
TOLERANCE = Tolerance(rtol=1e-4, atol=1e-6)


def squares():
    """V_1 = x^2 and V_2 = 1 on the line: with u = (1, 0) the solution from x is x / (1 - x t)."""
    fields = PolynomialFields(torch.tensor([[[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]]], dtype=F64), 2)
    control = PiecewiseConstantControl(2, 2, values=torch.tensor([[1.0, 0.1], [0.9, -0.1]], dtype=F64))
    return fields, control


def outcome(x, method, gradient, save_at=None):
    fields, control = squares()
    x = x.clone().requires_grad_()
    solution = solve(
        InitialValueProblem.controlled(fields, control, x),
        method,
        gradient=gradient,
        tolerance=TOLERANCE,
        max_steps=2000,
        throw=False,
        save_at=save_at,
    )
    return solution, x, control


@pytest.mark.parametrize("save_at", [None, [0.0, 0.3, 1.0]], ids=["end", "saved"])
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("method", METHODS)
def test_a_nan_row_a_blow_up_and_a_hard_row_leave_the_others_as_if_alone(method, gradient, save_at):
    if method == "reversible" and (gradient == "backsolve" or save_at):
        pytest.skip("a reversible method has neither a continuous adjoint nor an extension")
    # x = 0.98 comes near its pole and needs many more steps; x = 40 meets it at t = 1/40.
    healthy, hard, bad = [[-0.5], [0.3]], [[0.98]], [[torch.nan], [40.0]]
    alone, x_alone, u_alone = outcome(
        torch.tensor(healthy + hard, dtype=F64), METHODS[method], GRADIENTS[gradient], save_at
    )
    both, x_both, u_both = outcome(
        torch.tensor([bad[0], healthy[0], bad[1], healthy[1], hard[0]], dtype=F64),
        METHODS[method],
        GRADIENTS[gradient],
        save_at,
    )
    good = [1, 3, 4]
    assert alone.succeeded.all()
    assert both.succeeded.tolist() == [False, True, False, True, True]
    assert Status(int(both.status[0])) is Status.DIVERGED
    assert Status(int(both.status[2])) in (Status.DIVERGED, Status.STEP_TOO_SMALL)
    torch.testing.assert_close(both.value[..., good, :], alone.value, rtol=1e-14, atol=0)
    assert both.statistics.accepted[good].tolist() == alone.statistics.accepted.tolist()
    # What failed holds its last finite value: never what was not computed.
    assert both.value[..., 2, :].isfinite().all()
    weight = torch.tensor([[1.0], [-2.0], [0.5]], dtype=F64)
    want = torch.autograd.grad((alone.value * weight).sum(), (x_alone, u_alone.values))
    # The failed rows' values take part in the loss.
    spread = torch.ones(5, 1, dtype=F64)
    spread[good] = weight
    got = torch.autograd.grad((both.value * spread).nan_to_num().sum(), (x_both, u_both.values))
    torch.testing.assert_close(got[0][good], want[0], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(got[1], want[1], rtol=1e-12, atol=1e-14)
    if save_at is None:
        assert not got[0][[0, 2]].any()


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_where_all_rows_fail_shared_gradients_are_zero_and_not_nan(method, gradient):
    solution, _, control = outcome(torch.tensor([[torch.nan], [90.0]], dtype=F64), METHODS[method], GRADIENTS[gradient])
    assert not solution.succeeded.any()
    (got,) = torch.autograd.grad(solution.value.nan_to_num().sum(), (control.values,))
    assert not got.any()


@pytest.mark.parametrize("gradient", [Discrete(), Checkpointed()], ids=["discrete", "checkpointed"])
@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_failed_rows_stand_where_a_living_row_stands(method, gradient):
    """A field that is infinite at 0 and 1, where a careless adjoint would put failed rows."""
    k = torch.tensor(0.4, dtype=F64, requires_grad=True)

    def field(t, x, k):
        return k / (x * (x - 1)).sqrt()

    def run(x):
        problem = InitialValueProblem(field, torch.tensor(x, dtype=F64), args=(k,))
        return solve(problem, METHODS[method], gradient=gradient, throw=False)

    want = torch.autograd.grad(run([[3.0], [5.0]]).value.sum(), k)[0]
    both = run([[torch.nan], [3.0], [0.5], [5.0]])
    assert both.succeeded.tolist() == [False, True, False, True]
    got = torch.autograd.grad(both.value[[1, 3]].sum(), k)[0]
    torch.testing.assert_close(got, want, rtol=1e-12, atol=0)


@pytest.mark.parametrize("gradient", [Implicit(), Truncated(5)], ids=["implicit", "truncated"])
@pytest.mark.parametrize("method", [Picard(), Anderson()], ids=["picard", "anderson"])
def test_rest_points_of_healthy_rows_are_those_they_have_alone(method, gradient):
    w = (torch.randn(3, 3, dtype=F64, generator=torch.Generator().manual_seed(0)) / 4).requires_grad_()
    x = torch.randn(4, 3, dtype=F64, generator=torch.Generator().manual_seed(1))

    def f(z, w, x):
        # Rows marked by a large first entry run away.
        return torch.where(x[:, :1] > 10, 2 * z + x, torch.tanh(z @ w.T + x))

    def run(x):
        problem = FixedPointProblem(f, torch.zeros_like(x), args=(w, x))
        return solve(problem, method, gradient=gradient, tolerance=Tolerance(1e-11, 1e-13), max_steps=200, throw=False)

    alone = run(x)
    bad = torch.full((1, 3), torch.nan, dtype=F64)
    away = torch.tensor([[20.0, 1.0, -3.0]], dtype=F64)
    both = run(torch.cat([bad, x[:2], away, x[2:]]))
    good = [1, 2, 4, 5]
    assert both.succeeded[good].all()
    assert not both.succeeded[0]
    torch.testing.assert_close(both.value[good], alone.value, rtol=1e-10, atol=1e-12)
    want = torch.autograd.grad(alone.value.square().sum(), w)[0]
    got = torch.autograd.grad(both.value[good].square().sum(), w)[0]
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)
