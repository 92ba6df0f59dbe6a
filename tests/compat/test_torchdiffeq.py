"""torchdiffeq's interface, against that library itself."""

import math

import pytest
import torch
import torchdiffeq
from torch import nn

from cde_nets.compat import torchdiffeq as compat
from cde_nets.compat.torchdiffeq import odeint, odeint_adjoint, odeint_event
from cde_nets.errors import DivergedError
from cde_nets.solver.flow.torchdiffeq import adapts, solvers

F64 = torch.float64
FIXED = ["euler", "midpoint", "heun2", "heun3", "rk4"]
ADAPTIVE = ["bosh3", "dopri5", "adaptive_heun"]
T = torch.linspace(0, 1, 5, dtype=F64)


class Swirl(nn.Module):
    def __init__(self):
        super().__init__()
        self.A = nn.Parameter(torch.tensor([[-0.1, 1.0], [-1.0, -0.2]], dtype=F64))
        self.b = nn.Parameter(torch.tensor([0.1, -0.3], dtype=F64))

    def forward(self, t, y):
        return torch.tanh(y) @ self.A + self.b * torch.sin(2 * t)


class Pair(nn.Module):
    """A tuple of two shapes."""

    def __init__(self):
        super().__init__()
        self.k = nn.Parameter(torch.tensor(0.7, dtype=F64))

    def forward(self, t, state):
        y, z = state
        return -self.k * y + z.sum(), torch.cos(t) * z * y.mean()


def start():
    return torch.tensor([[1.0, 0.5], [-0.3, 0.2]], dtype=F64, requires_grad=True)


def outcome(solver, make, t, y0=None, **settings):
    """The solution, and the gradients of a sum in y0, t and the parameters."""
    func, y0 = make(), start() if y0 is None else y0
    t = t.clone().requires_grad_(True)
    y = solver(func, y0, t, **settings)
    parts, inputs = (y, y0) if isinstance(y, tuple) else ((y,), (y0,))
    loss = sum(
        (part.abs() ** 2 * torch.arange(1, len(t) + 1).reshape(-1, *[1] * (part.ndim - 1))).sum() for part in parts
    )
    grads = torch.autograd.grad(loss, [*inputs, t, *func.parameters()])
    return [part.detach() for part in parts], [grads[: len(inputs)], grads[len(inputs) :][0], grads[len(inputs) + 1 :]]


def close(ours, theirs, **tolerance):
    torch.testing.assert_close(ours, theirs, **tolerance)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("method", FIXED)
@pytest.mark.parametrize("options", [None, {"step_size": 0.07}, {"step_size": 0.07, "interp": "cubic"}])
def test_fixed_steps_are_the_librarys_to_rounding(method, options, flip):
    t = T.flip(0) if flip else T
    (ours, (y0, _, parameters)) = outcome(odeint, Swirl, t, method=method, options=options)
    (theirs, (y0_theirs, _, parameters_theirs)) = outcome(torchdiffeq.odeint, Swirl, t, method=method, options=options)
    close(ours, theirs, rtol=1e-12, atol=1e-13)
    close(y0, y0_theirs, rtol=1e-11, atol=1e-12)
    close(parameters, parameters_theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("method", ADAPTIVE)
@pytest.mark.parametrize("name", ["odeint", "odeint_adjoint"])
def test_adaptive_steps_agree_within_tolerance(name, method, flip):
    t, error = T.flip(0) if flip else T, 1e-4 if method == "adaptive_heun" else 1e-6
    ours = outcome(getattr(compat, name), Swirl, t, method=method, rtol=error, atol=error)
    # The library's own interpolation between the steps of the low orders is far less exact than the steps.
    theirs = outcome(torchdiffeq.odeint_adjoint, Swirl, t, rtol=1e-8, atol=1e-9)
    close(ours, theirs, rtol=100 * error, atol=100 * error)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("name", ["odeint", "odeint_adjoint"])
def test_tuples(name, flip):
    t = T.flip(0) if flip else T

    def pair():
        y = torch.tensor([1.0, 0.3, -0.2], dtype=F64, requires_grad=True)
        return y, torch.tensor([[0.5], [0.1]], dtype=F64, requires_grad=True)

    values, gradients = outcome(getattr(compat, name), Pair, t, pair())
    theirs, gradients_theirs = outcome(torchdiffeq.odeint_adjoint, Pair, t, pair())
    assert values[0].shape == (5, 3)
    assert values[1].shape == (5, 2, 1)
    close(values, theirs, rtol=1e-6, atol=1e-7)
    close(gradients, gradients_theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_states_without_axes(method):
    y0 = torch.tensor(1.5, dtype=F64)
    found = odeint(lambda t, y: -y, y0, T, method=method)
    assert found.shape == (5,)
    close(found, 1.5 * torch.exp(-T), rtol=1e-4 if method == "rk4" else 1e-6, atol=0)
    close(found[0], y0)


@pytest.mark.parametrize("method", ["rk4", "dopri5", "bosh3"])
def test_complex_states(method):
    def make(solver):
        y0 = torch.tensor([1.0 + 0.5j, -0.2j], dtype=torch.complex128, requires_grad=True)
        w = nn.Parameter(torch.tensor([1.0j - 0.3, 0.5 + 1.0j], dtype=torch.complex128))
        y = solver(lambda t, y: w * y * torch.cos(t), y0, T, method=method, rtol=1e-8, atol=1e-10)
        return y.detach(), *torch.autograd.grad((y[-1] * y[2]).abs().sum(), [y0, w])

    loose = {"rtol": 1e-11, "atol": 1e-12} if method == "rk4" else {"rtol": 1e-5, "atol": 1e-5}
    close(make(odeint), make(torchdiffeq.odeint), **loose)


def test_float32_states_and_times():
    def f(t, y):
        assert t.dtype == y.dtype == torch.float32
        assert t.ndim == 0
        return -y * t

    y0, t = torch.tensor([1.0]), T.float()
    for method in ("rk4", "dopri5"):
        ours = odeint(f, y0, t, method=method, rtol=1e-5, atol=1e-6)
        assert ours.dtype == torch.float32
        close(ours, torchdiffeq.odeint(f, y0, t, method=method, rtol=1e-5, atol=1e-6), rtol=1e-4, atol=1e-5)


def test_one_time_gives_the_start():
    y0 = start()
    close(odeint(Swirl(), y0, T[:1]), y0[None])


@pytest.mark.parametrize("method", sorted(solvers()))
def test_every_method_of_the_library_is_taken(method):
    y0 = torch.tensor([1.0, 0.5], dtype=F64)
    # Multistep methods want steps, and the explicit ones of high order are unstable.
    options = None if adapts(method) or method == "scipy_solver" else {"step_size": 0.01}
    options = options | {"max_order": 4} if options and "adams" in method else options
    found = odeint(lambda t, y: -y, y0, T, method=method, options=options, rtol=1e-5, atol=1e-6)
    close(found, y0 * torch.exp(-T)[:, None], rtol=1e-2, atol=1e-2)


def test_fixed_steps_of_a_tolerance_per_element():
    """A component whose tolerance is loose does not ask for steps."""
    y0 = torch.tensor([1.0, 1.0], dtype=F64)

    def stiff(t, y):
        calls.append(1)
        return torch.stack([-y[0], torch.cos(40 * t) * y[1]])

    counts = []
    for atol in (torch.tensor([1e-8, 1e-8], dtype=F64), torch.tensor([1e-8, 1e3], dtype=F64)):
        calls: list[int] = []
        found = odeint(stiff, y0, T, rtol=1e-8, atol=atol)
        counts.append(len(calls))
        close(found[:, 0], torch.exp(-T), rtol=1e-6, atol=0)
    assert counts[1] < counts[0] / 2


def test_tolerances_a_part_of_a_tuple():
    y0 = (torch.ones(2, dtype=F64), torch.ones(3, dtype=F64))

    def f(t, state):
        calls.append(1)
        return -state[0], torch.cos(40 * t) * state[1]

    counts = []
    for atol in (1e-8, (1e-8, 1e3), [1e-8, torch.full((3,), 1e3)]):
        calls: list[int] = []
        found = odeint(f, y0, T, rtol=1e-8, atol=atol)
        counts.append(len(calls))
        close(found[0][:, 0], torch.exp(-T), rtol=1e-6, atol=0)
    assert counts[1] == counts[2] < counts[0] / 2
    with pytest.raises(ValueError, match=r"atol has 3 parts, and y0 has 2"):
        odeint(f, y0, T, atol=(1e-8, 1e-8, 1e-8))


def test_a_part_of_a_tuple_is_not_lost_among_many():
    """The library's error norm is the largest of the parts'; ours is never laxer."""
    y0 = (torch.ones(1, dtype=F64), torch.zeros(10_000, dtype=F64))
    found = odeint(lambda t, s: (torch.cos(20 * t) * s[0], 0 * s[1]), y0, T, rtol=1e-5, atol=1e-7)
    close(found[0][:, 0], torch.exp(torch.sin(20 * T) / 20), rtol=1e-4, atol=0)


def test_a_grid_of_ones_own():
    nodes = torch.tensor([0.0, 0.1, 0.25, 0.3, 0.6, 0.75, 0.9, 1.0], dtype=F64)
    for flip in (False, True):
        t = T.flip(0) if flip else T
        seen = []

        def grid(f, y, times, seen=seen, flip=flip):
            seen.append((f(times[0], y).shape, times.tolist()))
            return nodes.flip(0) if flip else nodes

        options = {"grid_constructor": grid}
        ours = outcome(odeint, Swirl, t, method="heun3", options=options)
        assert seen[0] == ((4,), t.tolist())
        theirs = outcome(
            torchdiffeq.odeint,
            Swirl,
            t,
            method="heun3",
            options={"grid_constructor": lambda f, y, t: nodes.flip(0) if t[0] > t[-1] else nodes},
        )
        close(ours[0], theirs[0], rtol=1e-12, atol=1e-13)
        close(ours[1][2], theirs[1][2], rtol=1e-11, atol=1e-12)
    with pytest.raises(ValueError, match="in order, from t"):
        odeint(Swirl(), start(), T, method="euler", options={"grid_constructor": lambda f, y, t: nodes[1:]})


@pytest.mark.parametrize("method", ["dopri5", "rk4"])
@pytest.mark.parametrize("name", ["odeint", "odeint_adjoint"])
def test_the_gradient_of_times(name, method):
    """d y(t_k) / d t_k = f; d y / d t_0 = -(dy/dy0) f."""
    k = torch.tensor(0.8, dtype=F64)
    t = torch.linspace(0.2, 1.2, 9, dtype=F64, requires_grad=True)
    y0 = torch.tensor([1.5], dtype=F64)
    # y' = k t y
    y = getattr(compat, name)(
        lambda t, y: k * t * y, y0, t, method=method, **({"adjoint_params": ()} if "adjoint" in name else {})
    )
    exact = y0 * torch.exp(k * (t**2 - t[0] ** 2) / 2)[:, None]
    weight = torch.linspace(1, 2, 9, dtype=F64)[:, None]
    (ours,) = torch.autograd.grad((weight * y).sum(), t)
    (theirs,) = torch.autograd.grad((weight * exact).sum(), t)
    close(ours, theirs, rtol=1e-4 if method == "rk4" else 1e-6, atol=1e-5)


@pytest.mark.parametrize("method", ["dopri5", "rk4"])
def test_second_derivatives_by_times_are_those_of_the_closed_form(method):
    """Of y = y0 exp(k (t^2 - t0^2) / 2), mixed ones with y0 and k too."""
    inputs = [
        torch.tensor(number, dtype=F64, requires_grad=True) for number in ([1.5], 0.8, [0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    ]

    def second(solved):
        y = solved(*inputs)
        first = torch.autograd.grad((y * torch.linspace(1, 2, 6, dtype=F64)).sum(), inputs, create_graph=True)
        total = sum((g * torch.linspace(1, 3, g.numel(), dtype=F64).reshape(g.shape)).sum() for g in first)
        return torch.autograd.grad(total, inputs)

    options = {"rtol": 1e-10, "atol": 1e-10} if method == "dopri5" else {}
    ours = second(lambda y0, k, t: odeint(lambda t, y: k * t * y, y0, t, method=method, **options)[:, 0])
    theirs = second(lambda y0, k, t: y0 * torch.exp(k * (t**2 - t[0] ** 2) / 2))
    for one, two in zip(ours, theirs, strict=True):
        close(one, two, rtol=1e-5, atol=1e-6)


def test_the_continuous_adjoint_refuses_second_derivatives_by_times():
    t = torch.linspace(0, 1, 3, dtype=F64, requires_grad=True)
    y = odeint_adjoint(lambda t, y: -t * y, torch.ones(1, dtype=F64), t, adjoint_params=())
    with pytest.raises(RuntimeError, match=r"odeint_adjoint gives first derivatives only.* Take odeint"):
        torch.autograd.grad(y.sum(), t, create_graph=True)


def test_odeint_is_exact_and_gradcheck_agrees():
    func = Swirl()
    y0 = start()

    def solved(y0, A, b):
        with torch.no_grad():
            func.A.copy_(A), func.b.copy_(b)
        return odeint(func, y0, T, method="rk4", options={"step_size": 0.2})

    y = odeint(func, y0, T, method="rk4", options={"step_size": 0.2})
    exact = torch.autograd.grad(y.square().sum(), [y0, func.A, func.b])
    for n, (value, gradient) in enumerate(zip([y0, func.A, func.b], exact, strict=True)):
        inputs = [y0.detach().clone(), func.A.detach().clone(), func.b.detach().clone()]
        direction = torch.randn(value.shape, dtype=F64, generator=torch.Generator().manual_seed(n))
        sides = []
        for sign in (1, -1):
            shifted = list(inputs)
            shifted[n] = inputs[n] + sign * 1e-6 * direction
            sides.append(solved(*shifted).square().sum().item())
        assert (sides[0] - sides[1]) / 2e-6 == pytest.approx((gradient * direction).sum().item(), rel=1e-6)


def test_second_derivatives():
    def second(solver):
        func, y0 = Swirl(), start()
        y = solver(func, y0, T, method="rk4")
        (first,) = torch.autograd.grad(y[-1].square().sum(), y0, create_graph=True)
        return torch.autograd.grad(first.square().sum(), [y0, func.A])

    close(second(odeint), second(torchdiffeq.odeint), rtol=1e-10, atol=1e-11)


def test_functions_that_close_over_parameters_give_them_gradients():
    net = nn.Linear(2, 2).double()

    def gradients(solver):
        y0 = start()
        y = solver(lambda t, y: torch.tanh(net(y)), y0, T, method="rk4")
        return torch.autograd.grad(y.square().sum(), [y0, *net.parameters()])

    close(gradients(odeint), gradients(torchdiffeq.odeint), rtol=1e-11, atol=1e-12)


class Conditioned(nn.Module):
    """Holds a tensor that is no parameter of its own, as conditional flows do."""

    def __init__(self, late=False):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.5, dtype=F64))
        self.late = late

    def forward(self, t, y):
        return self.a * y + (self.context if not self.late or t > 0.5 else 0.0)


def test_modules_that_hold_foreign_tensors_give_them_gradients():
    def gradients(solver):
        func = Conditioned()
        encoder = torch.tensor(0.3, dtype=F64, requires_grad=True)
        func.context = encoder * 2
        y = solver(func, torch.ones(3, dtype=F64), T, method="rk4")
        return torch.autograd.grad(y.square().sum(), [encoder, func.a])

    close(gradients(odeint), gradients(torchdiffeq.odeint), rtol=1e-11, atol=1e-12)


def test_a_foreign_tensor_that_shows_late_is_refused_and_not_lost():
    func = Conditioned(late=True)
    func.context = torch.tensor(0.3, dtype=F64, requires_grad=True)
    y = odeint(func, torch.ones(3, dtype=F64), T, method="rk4")
    with pytest.raises(RuntimeError, match="not its parameters"):
        y.sum().backward()
    y = odeint(lambda t, y: func(t, y), torch.ones(3, dtype=F64), T, method="rk4")
    y.sum().backward()
    assert func.context.grad is not None


class Trace(nn.Module):
    """Calls autograd itself, as continuous normalising flows do."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)).double()

    def forward(self, t, state):
        z = state[0]
        with torch.set_grad_enabled(True):
            z.requires_grad_(True)
            dz = self.net(z)
            trace = sum(
                torch.autograd.grad(dz[:, i].sum(), z, create_graph=True)[0].contiguous()[:, i] for i in range(2)
            )
        return dz, -trace[:, None]


@pytest.mark.parametrize("name", ["odeint", "odeint_adjoint"])
def test_a_continuous_normalising_flow(name):
    def run(solver):
        torch.manual_seed(0)
        func, z = Trace(), torch.randn(6, 2, dtype=F64)
        zs, logp = solver(func, (z, torch.zeros(6, 1, dtype=F64)), T.flip(0)[[0, -1]], rtol=1e-7, atol=1e-7)
        loss = (zs[-1].square().sum() - logp[-1].sum()) / 6
        # The last bias moves no trace.
        return loss.detach(), *torch.autograd.grad(loss, list(func.parameters()))

    close(run(getattr(compat, name)), run(getattr(torchdiffeq, name)), rtol=1e-4, atol=1e-6)


def test_functional_transforms_of_fixed_steps():
    y0 = torch.randn(3, 2, dtype=F64, generator=torch.Generator().manual_seed(0))

    def flow(y):
        return odeint(lambda t, y: torch.sin(y), y, T, method="rk4")[-1]

    rows = torch.vmap(flow)(y0)
    close(rows, torch.stack([flow(y) for y in y0]))
    _, tangent = torch.func.jvp(flow, (y0,), (torch.ones_like(y0),))
    close(tangent, torch.func.vmap(torch.func.jacrev(flow))(y0).sum(-1))


# Options.


def test_options_of_adaptive_steps():
    seen: list[float] = []

    def f(t, y):
        seen.append(float(t))
        return -y

    y0 = torch.ones(2, dtype=F64)
    odeint(f, y0, T, options={"first_step": 0.125})
    assert seen[1:3] == [0.125 * 0.2, pytest.approx(0.125 * 0.3)]
    counts = []
    for options in ({}, {"ifactor": 1.05, "first_step": 0.01}, {"safety": 0.5}, {"dfactor": 0.9}):
        seen.clear()
        odeint(f, y0, T, options=options)
        counts.append(len(seen))
    assert counts[0] < counts[2] < counts[1]
    with pytest.raises(AssertionError, match="max_num_steps"):
        odeint(f, y0, T, options={"max_num_steps": 1, "first_step": 1e-4})


@pytest.mark.parametrize("flip", [False, True])
def test_jumps(flip):
    """Steps end on a discontinuity, and f is evaluated next to it and never on it."""
    t = T.flip(0) if flip else T
    at = torch.tensor([0.3, 0.62], dtype=F64)
    seen: list[float] = []

    def f(t, y):
        seen.append(float(t))
        return torch.where(t < 0.3, 1.0, torch.where(t < 0.62, -2.0, 5.0)) * torch.ones_like(y)

    y0 = torch.zeros(1, dtype=F64)
    found = odeint(f, y0, t, options={"jump_t": at})[:, 0]
    integral = torch.where(t < 0.3, t, torch.where(t < 0.62, 0.3 - 2 * (t - 0.3), -0.34 + 5 * (t - 0.62)))
    close(found, integral - integral[0], rtol=0, atol=1e-12)
    assert not {0.3, 0.62} & set(seen)
    assert len(seen) < 120
    close(
        odeint(f, y0, t, options={"jump_t": at}),
        torchdiffeq.odeint(f, y0, t, options={"jump_t": at}),
        atol=1e-7,
        rtol=0,
    )
    with pytest.raises(ValueError, match="twice"):
        odeint(f, y0, t, options={"jump_t": at, "step_t": at[:1]})


def test_steps_end_on_step_t():
    ends: list[float] = []

    def f(t, y):
        ends.append(float(t))
        return torch.cos(t) * y

    odeint(f, torch.ones(1, dtype=F64), T[[0, -1]], options={"step_t": torch.tensor([0.123, 0.77], dtype=F64)})
    assert {0.123, 0.77} <= {round(t, 12) for t in ends}


@pytest.mark.parametrize(
    "options",
    [{"min_step": 0.05}, {"max_step": 0.01}, {"norm": lambda x: x.abs().max()}, {"dtype": torch.float32}],
)
def test_options_that_are_left_to_the_library(options):
    ours = outcome(odeint, Swirl, T, options=options, rtol=1e-5, atol=1e-5)
    theirs = outcome(torchdiffeq.odeint, Swirl, T, options=options, rtol=1e-5, atol=1e-5)
    close(ours, theirs, rtol=0, atol=0)


def test_perturbed_fixed_steps_are_left_to_the_library():
    seen: list[float] = []

    def f(t, y):
        seen.append(float(t))
        return -y

    odeint(f, torch.ones(1, dtype=F64), T[:2], method="rk4", options={"perturb": True})
    assert 0.0 < seen[0] < 1e-300
    assert seen[-1] < 0.25


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("dopri6", None, "dopri6.*did you mean 'dopri8'.*scipy_solver"),
        ("dopri5", {"first_stp": 0.1}, "first_stp.*did you mean 'first_step'"),
        ("dopri5", {"step_size": 0.1}, "dopri5 has no option 'step_size'"),
        ("rk4", {"stepsize": 0.1}, "stepsize.*did you mean 'step_size'"),
        ("rk4", {"interp": "cubik"}, "cubik.*did you mean 'cubic'"),
        ("rk4", {"step_size": 0.1, "grid_constructor": lambda f, y, t: t}, "twice"),
        ("implicit_adams", {"max_iter": 3}, "did you mean 'max_iters'"),
    ],
)
def test_what_is_misspelled_is_refused(method, options, message):
    for solver in (odeint, odeint_adjoint):
        with pytest.raises(ValueError, match=message):
            solver(Swirl(), start(), T, method=method, options=options)


def test_refusals():
    with pytest.raises(TypeError, match="floating point"):
        odeint(Swirl(), start(), torch.arange(3))
    with pytest.raises(TypeError, match=r"y0 must be of floating point .*got torch.int64: y0.double\(\) is"):
        odeint(Swirl(), torch.arange(2), T)
    with pytest.raises(ValueError, match="strictly"):
        odeint(Swirl(), start(), torch.tensor([0.0, 1.0, 0.5]))
    with pytest.raises(ValueError, match="one axis"):
        odeint(Swirl(), start(), torch.tensor(0.0))
    with pytest.raises(ValueError, match="tuple of tensors; got a list"):
        odeint(Swirl(), [start()], T)
    with pytest.raises(ValueError, match=r"must return a state as y0, of shape \(2, 2\); got shape \(3,\)"):
        odeint(lambda t, y: torch.ones(3), start(), T)
    with pytest.raises(ValueError, match="a tuple of shapes"):
        odeint(lambda t, s: s[:1], (torch.ones(2), torch.ones(3)), T)
    with pytest.raises(ValueError, match="make y0 complex"):
        odeint(lambda t, y: 1j * y, start(), T)


# Failure.


def test_a_solution_that_blows_up_is_an_assertion_error_as_there():
    y0 = torch.tensor([2.0], dtype=F64)
    with pytest.raises(AssertionError, match=r"odeint stopped at t = 0\.(5|499)"):
        odeint(lambda t, y: y**2, y0, T, rtol=1e-3, atol=1e-3)
    with pytest.raises(DivergedError):
        odeint(lambda t, y: y**2, y0, T, rtol=1e-3, atol=1e-3)
    with pytest.raises(AssertionError, match="left the finite numbers"):
        odeint(lambda t, y: y * math.nan, y0, T)


def test_fixed_steps_that_blow_up_are_the_librarys():
    y0 = torch.tensor([[0.5], [9.0]])
    t = torch.linspace(0, 2, 9)

    def f(t, y):
        return y**3

    ours, theirs = (
        solver(f, y0, t, method="euler", options={"step_size": 0.05}) for solver in (odeint, torchdiffeq.odeint)
    )
    assert not torch.isfinite(ours[-1, 1])
    close(ours, theirs, equal_nan=True)


# Callbacks.


class Told(Swirl):
    def __init__(self):
        super().__init__()
        self.log = []

    def callback_step(self, t0, y0, dt):
        self.log.append(("step", t0.item(), y0, dt.item()))

    def callback_accept_step(self, t0, y0, dt):
        self.log.append(("accept", t0.item(), y0, dt.item()))

    def callback_reject_step(self, t0, y0, dt):
        self.log.append(("reject", t0.item(), y0, dt.item()))

    def callback_step_adjoint(self, t0, y0, dt):
        self.log.append(("adjoint step", t0.item(), len(y0), dt.item()))


class ToldOfSteps(Swirl):
    def __init__(self):
        super().__init__()
        self.log = []

    def callback_step(self, t0, y0, dt):
        self.log.append(("step", t0.item(), y0, dt.item()))


@pytest.mark.parametrize(("method", "make"), [("dopri5", Told), ("rk4", ToldOfSteps)])
@pytest.mark.parametrize("name", ["odeint", "odeint_adjoint"])
@pytest.mark.parametrize("flip", [False, True])
def test_callbacks_are_called_as_there(name, method, make, flip):
    logs = []
    for library in (compat, torchdiffeq):
        func = make()
        y = getattr(library, name)(func, start(), T.flip(0) if flip else T, method=method)
        y.sum().backward()
        logs.append(func.log)
    ours, theirs = logs
    assert len(ours) == len(theirs) >= 4
    assert ("adjoint step" in {entry[0] for entry in ours}) == (method == "dopri5" and name == "odeint_adjoint")
    for (kind, t0, y0, dt), (kind2, t02, y02, dt2) in zip(ours, theirs, strict=True):
        assert (kind, t0, dt) == (kind2, t02, dt2)
        close(y0, y02)


# The adjoint.


def test_adjoint_params():
    with pytest.raises(ValueError, match="adjoint_params"):
        odeint_adjoint(lambda t, y: -y, start(), T)
    a = torch.tensor(0.5, dtype=F64, requires_grad=True)
    b = torch.tensor(0.2, dtype=F64, requires_grad=True)
    frozen = torch.tensor(1.0, dtype=F64)

    def gradients(solver, params):
        y0 = start()
        y = solver(lambda t, y: -a * y * frozen + b * torch.sin(t), y0, T, adjoint_params=params)
        return torch.autograd.grad(y.square().sum(), [y0, a, b], allow_unused=True)

    both = gradients(odeint_adjoint, iter([a, b, frozen]))
    close(both, gradients(torchdiffeq.odeint_adjoint, (a, b)), rtol=1e-6, atol=1e-7)
    assert gradients(odeint_adjoint, (a,))[2] is None


def test_a_non_leaf_as_adjoint_params():
    def gradients(solver):
        z = torch.tensor(0.5, dtype=F64, requires_grad=True)
        w = torch.tanh(z) * 2
        y = solver(lambda t, y: -w * y, start(), T, adjoint_params=(w,))
        return torch.autograd.grad(y.square().sum(), [z])

    close(gradients(odeint_adjoint), gradients(torchdiffeq.odeint_adjoint), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "settings",
    [
        {"adjoint_rtol": 1e-9, "adjoint_atol": 1e-11},
        {"adjoint_method": "bosh3", "adjoint_rtol": 1e-6, "adjoint_atol": 1e-6},
        {"adjoint_method": "rk4", "adjoint_options": {"step_size": 0.02}},
        {"adjoint_options": {"norm": "seminorm"}},
        {"method": "rk4", "options": {"step_size": 0.02}},
        {"method": "dopri8"},
        {"adjoint_method": "dopri8"},
        {"rtol": 1e-8, "atol": torch.full((2, 2), 1e-9, dtype=F64), "adjoint_atol": 1e-9},
        {"options": {"first_step": 0.01}, "adjoint_options": {"first_step": 0.02, "safety": 0.8}},
    ],
)
def test_settings_of_the_adjoint(settings):
    ours = outcome(odeint_adjoint, Swirl, T, **settings)
    theirs = outcome(torchdiffeq.odeint_adjoint, Swirl, T, rtol=1e-9, atol=1e-11)
    close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_the_adjoint_of_fixed_steps_is_the_librarys_where_outputs_are_nodes():
    ours = outcome(odeint_adjoint, Swirl, T, method="rk4")
    theirs = outcome(torchdiffeq.odeint_adjoint, Swirl, T, method="rk4")
    close((ours[0], ours[1][0], ours[1][2]), (theirs[0], theirs[1][0], theirs[1][2]), rtol=1e-11, atol=1e-12)


def test_refusals_of_the_adjoint():
    with pytest.raises(ValueError, match="adjoint_options"):
        odeint_adjoint(Swirl(), start(), T, method="rk4", options={"step_size": 0.1}, adjoint_method="dopri5")
    with pytest.raises(ValueError, match="no option 'step_sizes'"):
        odeint_adjoint(Swirl(), start(), T, method="rk4", adjoint_options={"step_sizes": 0.1})


def test_the_adjoint_without_gradients():
    with torch.no_grad():
        close(odeint_adjoint(Swirl(), start(), T), odeint(Swirl(), start(), T))


def test_the_adjoint_keeps_no_graph_of_the_steps():
    func, held = Swirl(), []

    def pack(tensor):
        held.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        odeint_adjoint(func, start(), T[[0, -1]] * 10)
    assert sum(held) < 60


# Events.


class Ball(nn.Module):
    def __init__(self):
        super().__init__()
        self.gravity = nn.Parameter(torch.tensor([9.8], dtype=F64))

    def forward(self, t, state):
        _, vel = state
        return vel, -self.gravity * torch.ones_like(vel)


@pytest.mark.parametrize("name", ["odeint", "odeint_adjoint"])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_time_of_an_event_and_its_gradient(name, reverse):
    """A ball that is thrown: 0 = h + v s - g s^2 / 2, s = t - t0."""
    g, h, v, t0 = (torch.tensor([x], dtype=F64, requires_grad=True) for x in (9.8, 2.0, 3.0, 0.25))
    ball = Ball()
    root = (v + (1 if not reverse else -1) * (v * v + 2 * g * h).sqrt()) / g
    exact = torch.autograd.grad((t0 + root).sum(), [t0, h, v, g], retain_graph=True)
    event_t, (pos, vel) = odeint_event(
        ball,
        (h, v),
        t0,
        event_fn=lambda t, s: s[0],
        reverse_time=reverse,
        odeint_interface=getattr(compat, name),
        atol=1e-10,
        rtol=1e-10,
    )
    assert event_t.item() == pytest.approx((t0 + root).item(), rel=1e-8)
    assert pos.shape == (2, 1)
    assert pos[-1].item() == pytest.approx(0, abs=1e-7)
    found = torch.autograd.grad(event_t, [t0, h, v, ball.gravity], retain_graph=True)
    close(found, exact, rtol=1e-6, atol=1e-7)
    # The speed at the ground: v - g s.
    (speed,) = torch.autograd.grad(vel[-1].sum(), ball.gravity)
    (speed_exact,) = torch.autograd.grad((v - g * root).sum(), g)
    close(speed, speed_exact, rtol=1e-6, atol=1e-7)


def fall(interface, **inputs):
    """When and how fast a ball that is thrown comes down; (v + sqrt(v^2 + 2 g h)) / g after t0."""
    event_t, (_, vel) = odeint_event(
        lambda t, s: (s[1], -inputs["g"] * torch.ones_like(s[1])),
        (inputs["h"], inputs["v"]),
        inputs["t0"],
        event_fn=lambda t, s: s[0] - inputs["c"] * t,
        odeint_interface=interface,
        atol=1e-10,
        rtol=1e-10,
    )
    return event_t + vel[-1, 0]


def test_second_derivatives_through_an_event():
    """The ball meets the rising height c t: h + v s - g s^2 / 2 = c (t0 + s)."""
    names = ["g", "h", "v", "t0", "c"]
    inputs = [torch.tensor([x], dtype=F64, requires_grad=True) for x in (9.8, 2.0, 3.0, 0.25, 0.4)]

    def exact(g, h, v, t0, c):
        s = (v - c + ((v - c) ** 2 + 2 * g * (h - c * t0)).sqrt()) / g
        return (t0 + s + v - g * s).sum()

    def second(value):
        first = torch.autograd.grad(value, inputs, create_graph=True)
        return torch.autograd.grad(sum((k + 1) * g.sum() for k, g in enumerate(first)), inputs)

    ours = second(fall(odeint, **dict(zip(names, inputs, strict=True))))
    for one, two in zip(ours, second(exact(*inputs)), strict=True):
        close(one, two, rtol=1e-6, atol=1e-7)


def test_an_event_of_the_continuous_adjoint_refuses_second_derivatives():
    numbers = {
        name: torch.tensor([x], dtype=F64) for name, x in (("g", 9.8), ("h", 2.0), ("v", 3.0), ("t0", 0.25), ("c", 0.4))
    }
    numbers["c"].requires_grad_()

    def interface(*args, **options):
        return odeint_adjoint(*args, adjoint_params=(), **options)

    found = fall(interface, **numbers)
    with pytest.raises(RuntimeError, match=r"odeint_event gives first derivatives only.* odeint itself"):
        torch.autograd.grad(found, numbers["c"], create_graph=True)


@pytest.mark.parametrize("method", ["dopri5", "bosh3", "dopri8", "rk4"])
def test_events_as_there(method):
    options = {"step_size": 0.01, "interp": "cubic"} if method == "rk4" else None

    def f(t, y):
        return torch.stack([y[1], -torch.sin(y[0])])

    def event(t, y):
        return torch.stack([y[0] - 0.2, y[1] + 0.9, t - 40.0])

    y0 = torch.tensor([1.0, 0.0], dtype=F64)
    found = []
    for library in (compat, torchdiffeq):
        x = y0.clone().requires_grad_(True)
        event_t, y = library.odeint_event(
            f,
            x,
            T[:1],
            event_fn=event,
            method=method,
            options=options,
            rtol=1e-7,
            atol=1e-9,
            odeint_interface=library.odeint,
        )
        found.append((event_t.detach(), y.detach(), *torch.autograd.grad(event_t + y[-1].sum(), x)))
    close(*found, rtol=1e-4, atol=1e-4)


def test_the_gradient_of_an_events_own_parameters():
    """The library gives them none."""
    height = torch.tensor(0.7, dtype=F64, requires_grad=True)
    event_t, _ = odeint_event(
        lambda t, y: torch.ones_like(y), torch.zeros(1, dtype=F64), T[:1], event_fn=lambda t, y: y - height
    )
    event_t.sum().backward()
    assert height.grad.item() == pytest.approx(1.0)


def test_events_far_away_at_once_and_never():
    def clock(t, y):
        return torch.ones_like(y)

    y0, none = torch.zeros(1, dtype=F64), torch.tensor([0.0], dtype=F64)
    event_t, y = odeint(clock, y0, T[:2], event_fn=lambda t, y: y - 34.5)
    assert event_t.item() == pytest.approx(34.5)
    assert y[-1].item() == pytest.approx(34.5)
    event_t, y = odeint(clock, y0, T[:2], event_fn=lambda t, y: y)
    assert event_t == 0
    close(y, torch.zeros(2, 1, dtype=F64))
    with pytest.raises(AssertionError, match="max_num_steps"):
        odeint(clock, y0, T[:2], event_fn=lambda t, y: y + 1, options={"max_num_steps": 12})
    with pytest.raises(ValueError, match="got 5 times"):
        odeint(clock, none, T, event_fn=lambda t, y: y - 1)


def test_dense_output():
    y0 = torch.tensor([1.0], dtype=F64)
    dense = compat.odeint_dense(lambda t, y: -y, y0, T[0], T[-1])
    assert dense(torch.tensor(0.5, dtype=F64)).item() == pytest.approx(math.exp(-0.5), rel=1e-5)


# Programs as its users write them: only the import is another.


def fit_a_spiral(library):
    """Fit a network to pieces of a spiral, as the first example of the library's documentation does."""
    torch.manual_seed(0)
    solver = library.odeint_adjoint
    true_a = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]])
    t = torch.linspace(0.0, 5.0, 100)

    class Truth(nn.Module):
        def forward(self, t, y):
            return torch.mm(y**3, true_a)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(2, 20), nn.Tanh(), nn.Linear(20, 2))

        def forward(self, t, y):
            return self.net(y**3)

    with torch.no_grad():
        truth = library.odeint(Truth(), torch.tensor([[2.0, 0.0]]), t, method="dopri5")
    func = Model()
    optimizer = torch.optim.RMSprop(func.parameters(), lr=1e-2)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        at = torch.randint(0, 90, (8,))
        batch = torch.stack([truth[at + k] for k in range(6)])
        predicted = solver(func, truth[at], t[:6], method="dopri5", rtol=1e-4, atol=1e-5)
        loss = (predicted - batch).abs().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_the_spiral_example():
    assert fit_a_spiral(compat) == pytest.approx(fit_a_spiral(torchdiffeq), rel=1e-3)


def bounce(library, adjoint):
    """A bouncing ball: events one after the other, and the gradient of the last one's time."""

    class Bouncing(nn.Module):
        def __init__(self):
            super().__init__()
            self.gravity = nn.Parameter(torch.tensor([9.8], dtype=F64))
            self.height = nn.Parameter(torch.tensor([10.0], dtype=F64))

        def forward(self, t, state):
            _, velocity, log_radius = state
            return velocity, -self.gravity, torch.zeros_like(log_radius)

        def event_fn(self, t, state):
            return state[0] - torch.exp(state[2])

        def bounces(self, count):
            t, state = (
                torch.tensor([0.0], dtype=F64),
                (self.height, torch.zeros(1, dtype=F64), torch.zeros(1, dtype=F64)),
            )
            times = []
            for _ in range(count):
                t, solution = library.odeint_event(
                    self,
                    state,
                    t,
                    event_fn=self.event_fn,
                    reverse_time=False,
                    atol=1e-8,
                    rtol=1e-8,
                    odeint_interface=library.odeint_adjoint if adjoint else library.odeint,
                )
                position, velocity, log_radius = (part[-1] for part in solution)
                # A little off the ground, so that the event is not met at once.
                state = (position + 1e-7, -0.8 * velocity, log_radius)
                times.append(t)
            return times

    ball = Bouncing()
    times = ball.bounces(3)
    gradient = torch.autograd.grad(times[-1].sum(), [ball.gravity, ball.height])
    return [time.item() for time in times], [part.item() for part in gradient]


@pytest.mark.parametrize("adjoint", [False, True])
def test_the_bouncing_ball_example(adjoint):
    ours, theirs = bounce(compat, adjoint), bounce(torchdiffeq, adjoint)
    assert ours[0] == pytest.approx(theirs[0], rel=1e-6)
    assert ours[1] == pytest.approx(theirs[1], rel=1e-5)
    fall = math.sqrt(2 * 9 / 9.8)
    assert ours[0][0] == pytest.approx(fall, rel=1e-6)
