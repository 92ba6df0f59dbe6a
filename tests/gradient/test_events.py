"""Events move with all that the flow depends on: their times and states, differentiated once, twice and forward."""

import pytest
import torch
from torch.autograd import forward_ad

from cde_nets.controls import PiecewiseConstantControl
from cde_nets.fields import LinearFields
from cde_nets.gradient import Autograd, Checkpointed, Discrete, ForwardMode, solve
from cde_nets.solver import Event, InitialValueProblem, RungeKutta, Tolerance

F64 = torch.float64
MODES = [Discrete(), Checkpointed(), Checkpointed(2), Autograd()]
COARSE = {
    "euler": RungeKutta("euler", steps=5),
    "heun": RungeKutta("heun", steps=4),
    "rk4": RungeKutta("rk4", steps=3),
    "dopri5": RungeKutta("dopri5", steps=3),
}


def tensor(*numbers):
    return torch.tensor(numbers, dtype=F64)


def turning(t, x, k):
    """Turns the plane about the origin, and pushes outward."""
    return k * torch.stack([-x[:, 1], x[:, 0]], 1) + 0.5 * torch.cos(3 * t) * x


def turned(method, gradient, *, manifold=None):
    """x, k, c -> (event times, states there), of three rows; the last meets nothing."""

    def run(x, k, c):
        event = Event(lambda t, x: x[:, 0] - c * (1 + 0.1 * t.reshape(-1)) * x[:, 1])
        problem = InitialValueProblem(turning, x, 0.0, 2.0, args=(k,), event=event, manifold=manifold)
        solution = solve(problem, method, gradient=gradient)
        assert solution.words() == ["event", "event", "done"]
        return solution.event_time, solution.value

    return run


def starts():
    x = tensor([1.0, 0.3], [1.2, 0.1], [0.2, 1.0])
    return [each.requires_grad_() for each in (x, tensor(1.0)[0], tensor(0.4)[0])]


@pytest.mark.parametrize("manifold", [None, "sphere"])
@pytest.mark.parametrize("method", COARSE.values(), ids=COARSE)
def test_first_and_second_derivatives_are_those_of_the_steps_taken(method, manifold):
    run, inputs = turned(method, Autograd(), manifold=manifold), starts()
    assert torch.autograd.gradcheck(run, inputs, eps=1e-6, atol=1e-7, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, inputs, eps=1e-6, atol=1e-6, fast_mode=True)
    expected = up_to_second(run, inputs)
    for gradient in (Discrete(), Checkpointed(2)):
        for one, other in zip(up_to_second(turned(method, gradient, manifold=manifold), inputs), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)


def up_to_second(run, inputs):
    """First and second ones of a sum of everything, each number with a weight of its own."""
    sums = sum((torch.linspace(1.0, 2.0, y.numel(), dtype=F64) * y.flatten()).sum() for y in run(*inputs))
    first = torch.autograd.grad(sums, inputs, create_graph=True)
    ones = torch.cat([g.flatten() for g in first])
    second = [torch.autograd.grad(one, inputs, retain_graph=True) for one in ones]
    return [ones, *(g for row in second for g in row)]


@pytest.mark.parametrize("gradient", MODES, ids=str)
@pytest.mark.parametrize(
    "method", [RungeKutta("dopri5"), RungeKutta("dopri5", per_row=False), RungeKutta("rk4", steps=8)], ids=str
)
def test_a_row_that_meets_nothing_gives_no_nan(method, gradient):
    # Thrown straight up: x + v t - k t^2 / 2 = c. The second row, thrown with speed 0 from high above, is never there.
    x, k, c = (each.requires_grad_() for each in (tensor([1.0, 0.0], [100.0, 0.0]), tensor(1.0)[0], tensor(0.0)[0]))
    problem = InitialValueProblem(
        lambda t, x, k: torch.stack([x[:, 1], -k * torch.ones_like(x[:, 0])], 1),
        x,
        0.0,
        3.0,
        args=(k,),
        event=Event(lambda t, x: x[:, 0] - c),
    )
    solution = solve(problem, method, gradient=gradient)
    assert solution.words() == ["event", "done"]
    found = torch.autograd.grad(solution.event_time.sum(), (x, k, c), retain_graph=True)
    t = 2**0.5
    torch.testing.assert_close(found[0], tensor([1 / t, 1.0], [0.0, 0.0]), rtol=0, atol=1e-9)
    torch.testing.assert_close(torch.stack(found[1:]), tensor(-1 / t, -1 / t), rtol=0, atol=1e-9)
    found = torch.autograd.grad(solution.value.sum(), (x, k, c))
    # The first row ends at (c, -sqrt(2 k (x - c))), the second at (x + 3 v - 9 k / 2, v - 3 k).
    torch.testing.assert_close(found[0], tensor([-1 / t, 0.0], [1.0, 4.0]), rtol=0, atol=1e-9)
    torch.testing.assert_close(torch.stack(found[1:]), tensor(-1 / t - 7.5, 1 + 1 / t), rtol=0, atol=1e-9)


@pytest.mark.parametrize("gradient", MODES, ids=str)
def test_where_nobody_meets_the_event_its_time_has_the_gradient_zero(gradient):
    x, c = tensor([1.0, 2.0], [0.5, 0.0]).requires_grad_(), tensor(9.0)[0].requires_grad_()
    problem = InitialValueProblem(lambda t, x: -x, x, event=Event(lambda t, x: x[:, 0] - c), manifold="sphere")
    solution = solve(problem, RungeKutta("rk4", steps=2), gradient=gradient)
    assert solution.words() == ["done", "done"]
    found = torch.autograd.grad(solution.event_time.sum(), (x, c))
    assert not any(bool(part.any()) for part in found)


@pytest.mark.parametrize("gradient", MODES, ids=str)
def test_fresh_fields_are_those_of_the_interval_in_which_the_event_lies(gradient):
    fields = [LinearFields(tensor([[0.0, speed], [0.0, 0.0]])[None, 0]) for speed in (1.0, 3.0)]
    control = PiecewiseConstantControl(2, 1, values=torch.ones(2, 1, dtype=F64))
    x = tensor([0.0, 1.0])[None, 0].requires_grad_()
    problem = InitialValueProblem.controlled(fields, control, x, event=Event(lambda t, x: x[:, 0] - 1.0))
    solution = solve(problem, RungeKutta("rk4", steps=2), gradient=gradient)
    # x + v / 2 + 3 (T - 1/2) v = 1.
    torch.testing.assert_close(solution.event_time, tensor(2 / 3), rtol=1e-12, atol=0)
    (found,) = torch.autograd.grad(solution.event_time.sum(), x)
    torch.testing.assert_close(found, tensor([-1 / 3, -1 / 3])[None, 0], rtol=1e-12, atol=0)


def derivatives(run, a, count):
    """Of the first event's time in the start, one after the other."""
    a = tensor([a]).requires_grad_()
    found, all_of_them = run(a)[0].sum(), []
    for _ in range(count):
        (found,) = torch.autograd.grad(found.sum(), a, create_graph=True)
        all_of_them.append(found.item())
    return all_of_them


@pytest.mark.parametrize("gradient", [Discrete(), Autograd()], ids=str)
def test_two_derivatives_of_an_adaptive_event_are_those_of_the_closed_form(gradient):
    found = derivatives(bursting(RungeKutta("dopri5"), gradient), 0.5, 2)
    assert found == pytest.approx([-4.0, 16.0], rel=1e-3)


@pytest.mark.parametrize("gradient", [Discrete(), Autograd()], ids=str)
def test_higher_derivatives_are_those_of_the_steps_too(gradient):
    run = bursting(RungeKutta("rk4", steps=3), gradient)
    low, high = (derivatives(run, 0.5 + shift, 3) for shift in (-1e-5, 1e-5))
    differences = [(b - a) / 2e-5 for a, b in zip(low, high, strict=True)]
    assert derivatives(run, 0.5, 4)[1:] == pytest.approx(differences, rel=1e-5)


def bursting(method, gradient):
    """a -> (T, X(T)) of dX/dt = X^2, X(0) = a, at X = 1: T = 1 / a - 1."""

    def run(a):
        problem = InitialValueProblem(lambda t, x: x**2, a, 0.0, 1.5, event=Event(lambda t, x: x[:, 0] - 1.0))
        tight = Tolerance(1e-8, 1e-9)
        solution = solve(problem, method, gradient=gradient, throw=False, tolerance=tight)
        return solution.event_time, solution.value

    return run


@pytest.mark.parametrize("gradient", [ForwardMode(), *MODES], ids=str)
@pytest.mark.parametrize("method", [RungeKutta("dopri5"), RungeKutta("rk4", steps=20)], ids=["adaptive", "grid"])
def test_forward_mode_moves_the_event(method, gradient):
    run, a = bursting(method, gradient), tensor([0.5], [0.2])
    with forward_ad.dual_level():
        by_hand = [forward_ad.unpack_dual(part).tangent for part in run(forward_ad.make_dual(a, torch.ones_like(a)))]
    for time, value in (torch.func.jvp(run, (a,), (torch.ones_like(a),))[1], by_hand):
        # The second row is at 1 only after the end, and moves by 1 / (1 - 1.5 a)^2.
        assert float(time[0]) == pytest.approx(-4.0, rel=1e-3)
        assert float(time[1]) == 0.0
        torch.testing.assert_close(value[:, 0], tensor(0.0, 1 / 0.49), rtol=1e-3, atol=1e-9)


def test_forward_over_reverse_is_the_second_derivative():
    run = bursting(RungeKutta("rk4", steps=20), Autograd())
    hessian = torch.func.hessian(lambda a: run(a)[0].sum())(tensor([0.5])[None, 0])
    assert float(hessian) == pytest.approx(16.0, rel=1e-2)


@pytest.mark.parametrize("manifold", [None, "sphere"])
@pytest.mark.parametrize("method", COARSE.values(), ids=COARSE)
def test_tangents_of_forward_mode_are_those_of_the_way_back(method, manifold):
    inputs = [each.detach() for each in starts()]
    directions = [torch.linspace(0.3, 1.1, each.numel(), dtype=F64).reshape(each.shape) for each in inputs]
    _, found = torch.func.jvp(turned(method, ForwardMode(), manifold=manifold), tuple(inputs), tuple(directions))
    run, live = turned(method, Discrete(), manifold=manifold), starts()
    for k, tangent in enumerate(found):
        weights = torch.linspace(1.0, 2.0, tangent.numel(), dtype=F64).reshape(tangent.shape)
        back = torch.autograd.grad((run(*live)[k] * weights).sum(), live, allow_unused=True)
        pulled = sum((g * d).sum() for g, d in zip(back, directions, strict=True) if g is not None)
        torch.testing.assert_close((tangent * weights).sum(), pulled, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("gradient", MODES, ids=str)
def test_a_single_precision_event_keeps_its_value_and_dtypes(gradient):
    x = torch.tensor([[1.0], [0.9]], requires_grad=True)
    problem = InitialValueProblem(lambda t, x: -x, x, 0.0, 2.0, event=Event(lambda t, x: x[:, 0] - 0.5))
    solution = solve(problem, gradient=gradient)
    with torch.no_grad():
        plain = solve(problem)
    assert (solution.event_time.dtype, solution.value.dtype) == (F64, torch.float32)
    assert torch.equal(solution.event_time, plain.event_time)
    assert torch.equal(solution.value, plain.value)
    (found,) = torch.autograd.grad(solution.event_time.sum(), x)
    torch.testing.assert_close(found, 1 / x.detach(), rtol=1e-3, atol=0)
