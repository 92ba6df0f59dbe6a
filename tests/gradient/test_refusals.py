"""What would make a gradient wrong without a word is refused, with the way out; what is given up by no one is given."""

import pytest
import torch
from torch import nn

import cde_nets as cn
from cde_nets.compat.torchdiffeq import odeint
from cde_nets.gradient import (
    Autograd,
    Backsolve,
    Checkpointed,
    Discrete,
    ForwardMode,
    Implicit,
    Truncated,
    Unrolled,
    sensitivity,
    solve,
)
from cde_nets.solver import GMRES, Event, FixedPointProblem, InitialValueProblem, Newton, RungeKutta, SaveAt, Tolerance

pytestmark = pytest.mark.usefixtures("bad_input")

F64 = torch.float64
FOUR = RungeKutta("rk4", steps=4)
AGAIN = [Discrete(), Checkpointed(), Backsolve()]


def leaf(*numbers):
    return torch.tensor(numbers, dtype=F64, requires_grad=True)


def ones():
    return torch.ones(3, 2, dtype=F64)


class Noisy(nn.Module):
    """A layer with dropout, or with batch normalisation."""

    def __init__(self, last):
        super().__init__()
        self.linear, self.last = nn.Linear(2, 2, dtype=F64), last

    def forward(self, t, x):
        return self.last(torch.tanh(self.linear(x)))


# -- hidden tensors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", AGAIN, ids=str)
def test_a_tensor_computed_from_an_argument_is_not_that_argument(gradient):
    k = leaf(2.0)
    hidden = k**2
    problem = InitialValueProblem(lambda t, x, k: -0.1 * (k + hidden) * x, ones(), args=(k,))
    with pytest.raises(ValueError, match=r"depends on 1 tensor.*want a gradient.*f\(t, x, \*args\)"):
        solve(problem, FOUR, gradient=gradient)
    problem = InitialValueProblem(lambda t, x, k, other: -0.1 * (k + other) * x, ones(), args=(k, hidden))
    exact = InitialValueProblem(lambda t, x: -0.1 * (k + hidden) * x, ones())
    found = [
        torch.autograd.grad(solve(p, FOUR, gradient=g).value.sum(), k, retain_graph=True)[0]
        for p, g in ((problem, gradient), (exact, Autograd()))
    ]
    torch.testing.assert_close(*found, rtol=1e-3 if gradient == Backsolve() else 0, atol=1e-12)


@pytest.mark.parametrize("gradient", [Implicit(), Truncated(50)], ids=str)
def test_the_same_of_a_map(gradient):
    k = leaf(0.3)
    hidden = k**2
    with pytest.raises(ValueError, match=r"The map depends on 1 tensor.*f\(z, \*args\)"):
        solve(FixedPointProblem(lambda z, k: torch.tanh(k * z + hidden), ones(), args=(k,)), gradient=gradient)


@pytest.mark.parametrize(
    "make",
    [
        lambda k: (InitialValueProblem(lambda t, x: -k * x, ones()), FOUR),
        lambda k: (InitialValueProblem(lambda t, x: -k * x, ones()), RungeKutta("dopri5")),
        lambda k: (FixedPointProblem(lambda z: k * torch.cos(z), ones()), None),
    ],
    ids=["grid", "adaptive", "rest"],
)
def test_under_torch_func_hidden_tensors_are_seen_too(make):
    with pytest.raises(ValueError, match="that want a gradient and that it was not given"):
        torch.func.grad(lambda k: solve(*make(k), throw=False).value.sum())(torch.tensor(0.5, dtype=F64))


def test_under_torch_func_what_is_given_has_its_gradient():
    def end(k):
        return solve(InitialValueProblem(lambda t, x, k: -k * x, ones(), args=(k,)), FOUR, throw=False).value.sum()

    k = leaf(1.0)
    torch.testing.assert_close(torch.func.grad(end)(k[0].detach()), torch.autograd.grad(end(k), k)[0][0])


@pytest.mark.parametrize("gradient", AGAIN, ids=str)
def test_what_a_field_depends_on_later_is_seen_on_the_way_back(gradient):
    k, a = leaf(2.0), leaf(1.0)
    problem = InitialValueProblem(
        lambda t, x, a: -a * x if t < 0.5 else -k * a * x, ones(), args=(a,), breakpoints=[0.5]
    )
    end = solve(problem, FOUR, gradient=gradient).value
    with pytest.raises(RuntimeError, match="The field depends here on tensors that want a gradient"):
        end.sum().backward()


def test_what_only_a_hidden_tensor_would_train_is_seen_at_the_end():
    linear = nn.Linear(2, 2, dtype=F64)
    problem = InitialValueProblem(lambda t, x: 0 * x if t <= 0 else linear(x), ones())
    with pytest.raises(ValueError, match="though not at the start"):
        solve(problem, FOUR)
    problem = FixedPointProblem(lambda z: torch.cos(z) if not z.any() else torch.cos(linear(z) / 9), 0 * ones())
    with pytest.raises(ValueError, match="The map depends on 2 tensor"):
        solve(problem)


# -- functions that are not the same twice -----------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", AGAIN, ids=str)
def test_random_fields_are_refused_and_leave_the_generator_alone(gradient):
    field = Noisy(nn.Dropout(0.5))
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match=r"random numbers \(dropout\?\).*eval mode.*Autograd"):
        solve(InitialValueProblem(field, ones()), FOUR, gradient=gradient)
    assert torch.equal(torch.get_rng_state(), before)
    solve(InitialValueProblem(field.eval(), ones()), FOUR, gradient=gradient).value.sum().backward()
    assert field.linear.weight.grad.any()


def test_autograd_and_the_librarys_interface_take_random_fields():
    field, t = Noisy(nn.Dropout(0.5)), torch.tensor([0.0, 1.0], dtype=F64)
    options = {"method": "euler", "options": {"step_size": 0.25}}
    for run in (
        lambda: solve(InitialValueProblem(field, ones()), RungeKutta("euler", steps=4), gradient=Autograd()).value,
        lambda: odeint(field, ones(), t, **options)[-1],
    ):

        def seeded(run=run):
            torch.manual_seed(3)
            return run().sum()

        (grad,) = torch.autograd.grad(seeded(), field.linear.bias)
        with torch.no_grad():
            ends = []
            for shift in (1e-6, -2e-6):
                field.linear.bias += shift
                ends.append(seeded())
            field.linear.bias += 1e-6
        assert float(grad.sum()) == pytest.approx(float(ends[0] - ends[1]) / 2e-6, rel=1e-6)


@pytest.mark.parametrize("gradient", AGAIN, ids=str)
def test_buffers_that_change_are_refused_and_left_as_they_are(gradient):
    field = Noisy(nn.BatchNorm1d(2, dtype=F64))
    with pytest.raises(ValueError, match=r"changes buffers.*num_batches_tracked.*eval mode"):
        solve(InitialValueProblem(field, ones(), coupled=True), FOUR, gradient=gradient)
    assert int(field.last.num_batches_tracked) == 0
    assert not field.last.running_mean.any()
    solve(InitialValueProblem(field.eval(), ones()), FOUR, gradient=gradient).value.sum().backward()


def test_a_map_with_dropout_is_refused():
    class Map(Noisy):
        def forward(self, z):
            return super().forward(None, z)

    with pytest.raises(ValueError, match=r"The map depends on random numbers.*Unrolled"):
        solve(FixedPointProblem(Map(nn.Dropout(0.5)), ones()))


# -- options that are none ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Implicit(tolerance=1e-3), r"tolerance must be a Tolerance.*got 0\.001: say cn\.Tolerance\(0\.001\)\."),
        (lambda: Implicit(tolerance=Tolerance), r"tolerance must be a Tolerance.*: say Tolerance\(\)"),
        (lambda: Implicit(tolerance="tight"), r"tolerance must be a Tolerance\(rtol, atol\); got 'tight'\."),
        (lambda: Implicit(max_steps=0), "max_steps must be an integer of at least 1; got 0"),
        (lambda: Implicit(max_steps="a"), "max_steps must be an integer of at least 1; got 'a'"),
        (lambda: Implicit(max_steps=True), "max_steps must be an integer of at least 1; got True"),
        (lambda: Implicit(GMRES), r"Implicit takes a method for linear problems.*: say GMRES\(\)"),
        (lambda: Backsolve(tolerance=1e-3), r"tolerance must be a Tolerance.*: say cn\.Tolerance\(0\.001\)"),
        (lambda: Backsolve(method="rk4"), r"Backsolve goes back by a Rung.*got 'rk4': say cn\.RungeKutta\('rk4'\)"),
        (lambda: Backsolve(method=RungeKutta), "Backsolve goes back by a RungeKutta"),
        (lambda: Backsolve(method=Newton()), r"Backsolve goes back by a RungeKutta.*got Newton\("),
        (lambda: solve(FixedPointProblem(torch.cos, ones()), tolerance=1e-3), r"say cn\.Tolerance\(0\.001\)"),
    ],
)
def test_options_that_are_none_are_refused_when_they_are_given(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("options", [{"tolerance": 1e-3}, {"max_steps": 0}])
def test_options_of_a_sensitivity_that_are_none(options):
    a = leaf(0.5)
    problem = FixedPointProblem(lambda z, a: a * torch.cos(z), ones(), args=(a,))
    with pytest.raises(ValueError, match=r"say cn\.Tolerance|max_steps must be an integer"):
        sensitivity(problem, solve(problem).value, a, **options)


# -- times -------------------------------------------------------------------------------------------------------------


def test_times_that_want_a_gradient_are_refused():
    with pytest.raises(ValueError, match=r"t1 wants a gradient.*odeint"):
        InitialValueProblem(lambda t, x: -x, ones(), 0.0, leaf(1.0)[0])
    with pytest.raises(ValueError, match="save times want a gradient"):
        solve(InitialValueProblem(lambda t, x: -x, ones()), FOUR, save_at=leaf(0.5, 1.0))


@pytest.mark.parametrize(
    ("breakpoints", "words"),
    [(0.5, "must be a sequence of times.*got 0.5"), ([float("nan")], "must be times"), ("ab", "must be a sequence")],
)
def test_breakpoints_that_are_none(breakpoints, words):
    with pytest.raises(ValueError, match=words):
        InitialValueProblem(lambda t, x: -x, ones(), breakpoints=breakpoints)


def test_breakpoints_may_be_a_tensor_and_lie_next_to_an_end():
    times = torch.tensor([1e-17, 0.5, 1 - 1e-16], dtype=F64)
    problem = InitialValueProblem(lambda t, x: torch.ones_like(x), ones(), breakpoints=times)
    assert problem.breakpoints == (0.5,)
    torch.testing.assert_close(solve(problem).value, 2 * ones(), rtol=1e-12, atol=0)


def test_args_are_a_tuple():
    for args in (torch.ones(3), torch.tensor(1.0), {"a": 1.0}):
        with pytest.raises(ValueError, match=r"args must be a tuple.*args=\(a,\)"):
            InitialValueProblem(lambda t, x, a: a * x, ones(), args=args)


# -- what nothing keeps from being right -------------------------------------------------------------------------------


@pytest.mark.parametrize("wants", [True, False])
def test_what_an_event_depends_on_has_its_gradient_whether_or_not_the_state_wants_one(wants):
    c, x = leaf(0.5), ones().requires_grad_(wants)
    problem = InitialValueProblem(lambda t, x: -x, x, 0.0, 2.0, event=Event(lambda t, x: x[:, 0] - c))
    solution = solve(problem, RungeKutta("dopri5"))
    # t = -log c in each of three rows.
    (grad,) = torch.autograd.grad(solution.event_time.sum(), c)
    torch.testing.assert_close(grad, torch.tensor([-6.0], dtype=F64), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    "method", [RungeKutta("dopri5"), RungeKutta("dopri5", per_row=False), FOUR], ids=["per row", "joint", "grid"]
)
def test_a_row_that_met_its_event_stands_still_in_trace_and_dense_output(method):
    x = torch.tensor([[1.0], [2.0], [0.1]], dtype=F64)
    problem = InitialValueProblem(lambda t, x: -x, x, 0.0, 4.0, event=lambda t, x: x[:, 0] - 0.5)
    solution = solve(problem, method, save_at=SaveAt(steps=True, dense=True))
    assert solution.words() == ["event", "event", "done"]
    torch.testing.assert_close(solution.dense(4.0), solution.value, rtol=1e-12, atol=0)
    torch.testing.assert_close(solution.trace.values[-1], solution.value, rtol=1e-12, atol=0)
    assert float(solution.trace.values[..., :2, 0].min()) == pytest.approx(0.5, abs=1e-12)
    # Before they stopped, rows are where they were.
    torch.testing.assert_close(solution.dense(0.1), x * torch.exp(torch.tensor(-0.1, dtype=F64)), rtol=0.02, atol=0)


def test_unrolled_newton_is_the_gradient_of_its_steps():
    generator = torch.Generator().manual_seed(0)
    w, v = (torch.randn(3, 3, dtype=F64, generator=generator) for _ in range(2))
    b = torch.randn(2, 3, dtype=F64, generator=generator)

    def end(w):
        problem = FixedPointProblem(lambda z, w: torch.tanh(z @ w.T + b), torch.zeros_like(b), args=(w,))
        return solve(problem, Newton(), gradient=Unrolled(), max_steps=2, throw=False).value.sum()

    (grad,) = torch.autograd.grad(end(w.requires_grad_()), w)
    with torch.no_grad():
        slope = (end(w + 1e-6 * v) - end(w - 1e-6 * v)) / 2e-6
    torch.testing.assert_close((grad * v).sum(), slope, rtol=1e-7, atol=1e-9)


def test_unrolled_from_rest_has_a_gradient_of_zero():
    w = torch.eye(2, dtype=F64, requires_grad=True)
    problem = FixedPointProblem(lambda z, w: torch.tanh(z @ w.T), torch.zeros(3, 2, dtype=F64), args=(w,))
    (grad,) = torch.autograd.grad(solve(problem, gradient=Unrolled()).value.sum(), w)
    assert not grad.any()


@pytest.mark.parametrize("gradient", [None, Checkpointed(), Backsolve(FOUR), ForwardMode()])
@pytest.mark.parametrize("where", ["the family's", "its base's", "a parameter"])
def test_frozen_fields_that_want_a_gradient_are_refused(gradient, where):
    family = cn.RidgeFields.random(3, 2, 2, seed=0, dtype=F64)
    control = cn.PiecewiseConstantControl.random(4, 2, scale=0.3, seed=1, dtype=F64)
    outer = cn.SphericalFields(family) if where == "its base's" else family
    flow = cn.ControlledODE(outer, control, FOUR, gradient=gradient)
    x = nn.functional.normalize(torch.randn(2, 3, dtype=F64, generator=torch.Generator().manual_seed(0)))
    # What has been prepared for the frozen family is not taken for this one.
    flow(x)
    wanted = family.offsets
    if where == "a parameter":
        del family.offsets
        family.offsets = nn.Parameter(wanted)
    else:
        wanted.requires_grad_()
    with pytest.raises(ValueError, match=r"offsets of (Ridge|Spherical)Fields wants a gradient.*frozen.*Autograd\(\)"):
        flow(x)
    with torch.no_grad():
        end = flow(x)
    flow.gradient = Autograd()
    wanted = family.offsets
    found = flow(x)
    torch.testing.assert_close(found.detach(), end)
    assert torch.autograd.grad(found.sum(), wanted)[0].abs().max() > 0
