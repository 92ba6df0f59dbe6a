"""torchdiffeq's methods on this package's flows."""

import math

import pytest
import torch
import torchdiffeq
from torch import nn

from cde_nets.controls import PiecewiseConstantControl
from cde_nets.errors import ConvergenceError, DivergedError
from cde_nets.fields import LinearFields, PolynomialFields
from cde_nets.gradient import Autograd, Backsolve, Checkpointed, Discrete, ForwardMode, solve
from cde_nets.solver import InitialValueProblem, RungeKutta, SaveAt, Status, Tolerance
from cde_nets.solver.flow.torchdiffeq import TorchDiffEq, adapts, known_options, solvers

F64 = torch.float64
A = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]], dtype=F64)
FINE = {"step_size": 0.01}


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def options_for(name):
    if adapts(name) or name == "scipy_solver":
        return {}
    return FINE | {"max_order": 4} if "adams" in name else FINE


def run(problem, method, **settings):
    return solve(problem, method, gradient=Autograd(), **settings)


@pytest.mark.parametrize("name", sorted(solvers()))
@pytest.mark.parametrize("backward", [False, True])
def test_every_method_with_breakpoints(name, backward):
    """There and back again: the field turns its sign at a breakpoint in the middle."""
    x0 = draw(3, 2)
    times = (1.0, 0.0) if backward else (0.0, 1.0)
    seen = []

    def f(t, x):
        seen.append(float(t))
        return x @ A.T * (1 if t < 0.5 else -1)

    problem = InitialValueProblem(f, x0, *times, breakpoints=[0.5])
    with torch.no_grad():
        method = TorchDiffEq(name, options_for(name))
        saves = [times[0], 0.75 if backward else 0.25, 0.5, times[1]]
        found = run(problem, method, save_at=saves, tolerance=Tolerance(rtol=1e-5, atol=1e-7))
    assert found.words() == ["done"] * 3
    assert found.value.shape == (4, 3, 2)
    low = {"euler": 0.1, "adaptive_heun": 1e-4, "fehlberg2": 1e-3, "explicit_adams": 1e-2}.get(name, 1e-3)
    torch.testing.assert_close(found.value[-1], x0, rtol=low, atol=low)
    middle = x0 @ torch.linalg.matrix_exp(0.5 * A).T
    torch.testing.assert_close(found.value[2], middle, rtol=low, atol=low)
    quarter = x0 @ torch.linalg.matrix_exp(0.25 * A).T
    torch.testing.assert_close(found.value[1], quarter, rtol=max(low, 1e-2), atol=max(low, 1e-2))
    # Next to the breakpoint and never on it, nor beyond the ends.
    assert 0.5 not in seen
    assert min(seen) >= 0.0
    assert max(seen) <= 1.0
    assert found.statistics.evaluations == len(seen)
    assert torch.equal(found.time, torch.full((3,), times[1], dtype=F64))


def test_a_flow_without_breakpoints_is_the_librarys_own_solve():
    x0, t = draw(3, 2), torch.linspace(0, 1, 6, dtype=F64)

    def f(t, x):
        return torch.sin(x) @ A.T * torch.cos(t)

    for name in ("dopri8", "explicit_adams", "rk4", "bosh3"):
        options = options_for(name)
        ours = run(InitialValueProblem(f, x0), TorchDiffEq(name, options), save_at=t.tolist())
        theirs = torchdiffeq.odeint(
            f, x0, t, method=name, rtol=1e-6, atol=1e-8, options=options | ({"step_t": t[-1:]} if adapts(name) else {})
        )
        torch.testing.assert_close(ours.value, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["dopri8", "implicit_adams", "fehlberg2"])
def test_gradients_by_autograd(name):
    fields = PolynomialFields.random(3, 2, 2, seed=0, dtype=F64)
    control = PiecewiseConstantControl(4, 2).double()
    with torch.no_grad():
        for leaf in control.parameters():
            leaf.copy_(0.3 * draw(*leaf.shape))
    x0 = 0.5 * draw(4, 3, seed=1)
    x0.requires_grad_(True)
    problem = InitialValueProblem.controlled(fields, control, x0)
    found = {}
    for method, gradient in (
        (TorchDiffEq(name, {} if adapts(name) else {"step_size": 0.01}), Autograd()),
        (RungeKutta("dopri5"), Discrete()),
    ):
        value = solve(problem, method, gradient=gradient, tolerance=Tolerance(rtol=1e-7, atol=1e-9)).value
        found[type(method)] = torch.autograd.grad(value.square().sum(), [x0, *control.parameters()])
    torch.testing.assert_close(found[TorchDiffEq], found[RungeKutta], rtol=1e-4, atol=1e-5)


def test_gradients_of_modules():
    net = nn.Linear(2, 2).double()
    problem = InitialValueProblem(lambda t, x: torch.tanh(net(x)), draw(2, 2))
    ours = run(problem, TorchDiffEq("rk4", FINE)).value.sum()
    theirs = run(problem, RungeKutta("rk38", steps=100)).value.sum()
    for one, two in zip(*(torch.autograd.grad(y, list(net.parameters())) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


def test_other_gradients_refuse():
    problem = InitialValueProblem(lambda t, x: -x, draw(2, 2))
    for gradient in (Discrete(), Checkpointed(), Backsolve()):
        with pytest.raises(ValueError, match=r"gradient=Autograd\(\)"):
            solve(problem, TorchDiffEq("dopri8"), gradient=gradient)


def test_a_gradient_that_leaves_torch_is_refused():
    method, x0 = TorchDiffEq("scipy_solver", {"solver": "Radau"}), draw(2, 2)
    weight = torch.tensor(0.5, dtype=F64, requires_grad=True)
    for field, start in (
        (lambda t, x: -x, x0.clone().requires_grad_(True)),
        (lambda t, x: -weight * x, x0),
    ):
        problem = InitialValueProblem(field, start)
        with pytest.raises(ValueError, match="outside of torch"):
            run(problem, method)
        with torch.no_grad():
            assert run(problem, method).words() == ["done"] * 2


def test_a_stiff_flow():
    """Rates of 1 and 10,000, by an implicit method of scipy's."""
    rates = torch.tensor([1.0, 1e4], dtype=F64)
    problem = InitialValueProblem(lambda t, x: -rates * (x - torch.cos(t)), torch.zeros(1, 2, dtype=F64), 0.0, 2.0)
    found = run(problem, TorchDiffEq("scipy_solver", {"solver": "BDF"}))
    assert found.statistics.evaluations < 500
    exact = (torch.tensor(2.0).cos() + torch.tensor(2.0).sin() - torch.tensor(-2.0).exp()) / 2
    assert found.value[0, 0].item() == pytest.approx(exact.item(), abs=1e-4)


def test_states_of_any_form():
    problem = InitialValueProblem(
        lambda t, s: {"a": -s["a"], "b": s["b"] * t}, {"a": draw(2, 3), "b": draw(2, 1, 2)}, 0.0, 1.0
    )
    for name in ("dopri8", "scipy_solver", "rk4"):
        found = run(problem, TorchDiffEq(name, options_for(name)), tolerance=Tolerance(rtol=1e-8, atol=1e-10)).value
        torch.testing.assert_close(found["a"], draw(2, 3) * torch.tensor(-1.0, dtype=F64).exp(), rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(found["b"], draw(2, 1, 2) * torch.tensor(0.5, dtype=F64).exp(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["dopri8", "scipy_solver"])
def test_a_tolerance_for_each_element(name):
    problem = InitialValueProblem(lambda t, x: torch.cos(40 * t) * x, torch.ones(2, 2, dtype=F64))
    counts = []
    for atol in (torch.tensor([1e-9, 1e-9]), torch.tensor([1e3, 1e3])):
        found = run(problem, TorchDiffEq(name), tolerance=Tolerance(rtol=1e-9, atol=atol.double()))
        counts.append(found.statistics.evaluations)
    assert counts[1] < counts[0] / 2


def test_complex_states():
    x0 = torch.complex(draw(2, 2), draw(2, 2, seed=1))
    found = run(InitialValueProblem(lambda t, x: 1j * x, x0), TorchDiffEq("dopri8"))
    torch.testing.assert_close(found.value, x0 * torch.exp(torch.tensor(1j, dtype=x0.dtype)), rtol=1e-5, atol=1e-6)


# Failure.


@pytest.mark.parametrize("name", ["dopri8", "rk4", "scipy_solver"])
def test_a_row_that_is_not_finite_spoils_no_other(name):
    x0 = torch.tensor([[0.5], [float("nan")], [-1.0]], dtype=F64)
    found = run(InitialValueProblem(lambda t, x: -x, x0), TorchDiffEq(name, options_for(name)), throw=False)
    assert found.words() == ["done", "diverged", "done"]
    torch.testing.assert_close(found.value[::2], x0[::2] * torch.tensor(-1.0).exp().double(), rtol=1e-3, atol=1e-4)
    assert found.statistics.accepted[1] == 0
    assert found.statistics.accepted[0] > 0


@pytest.mark.parametrize("name", ["dopri8", "bosh3"])
def test_a_row_whose_field_is_not_finite_is_set_aside(name):
    x0 = torch.tensor([[0.5], [2.0], [-1.0]], dtype=F64)

    def f(t, x):
        return torch.where((x > 1) & (t > 0.6), torch.nan, -0.1 * x)

    found = run(InitialValueProblem(f, x0, breakpoints=[0.3]), TorchDiffEq(name), throw=False, save_at=[0.2, 0.9])
    assert found.words() == ["done", "diverged", "done"]
    good = x0[::2] * torch.exp(-0.1 * torch.tensor([[[0.2]], [[0.9]]], dtype=F64))
    torch.testing.assert_close(found.value[:, ::2], good, rtol=1e-4, atol=1e-5)
    assert torch.isfinite(found.value).all()
    assert found.time.tolist() == [1.0, 0.3, 1.0]


def test_where_the_library_gives_up():
    problem = InitialValueProblem(lambda t, x: x**2, torch.tensor([[2.0], [0.1]], dtype=F64))
    for name, options in (("dopri8", {}), ("scipy_solver", {"solver": "Radau"})):
        found = run(problem, TorchDiffEq(name, options), throw=False, tolerance=Tolerance(rtol=1e-2, atol=1e-2))
        assert found.words() == ["step_too_small"] * 2
        assert torch.equal(found.value, problem.x0)
        assert found.time.tolist() == [0, 0]
    with pytest.raises(DivergedError, match="Rows 0, 1") as caught:
        run(problem, TorchDiffEq("dopri8"), tolerance=Tolerance(rtol=1e-2, atol=1e-2))
    assert caught.value.solution.status.tolist() == [Status.STEP_TOO_SMALL] * 2


def test_fixed_steps_into_infinity():
    problem = InitialValueProblem(lambda t, x: x**3, torch.tensor([[90.0], [0.1]], dtype=F64))
    found = run(problem, TorchDiffEq("rk4", {"step_size": 0.1}), throw=False)
    assert found.words() == ["diverged", "done"]
    assert found.value[0, 0] == 90


def test_the_number_of_steps_is_limited():
    problem = InitialValueProblem(lambda t, x: torch.cos(50 * t) * x, draw(2, 2))
    for limited in (
        lambda **k: run(problem, TorchDiffEq("dopri8"), max_steps=3, **k),
        lambda **k: run(problem, TorchDiffEq("dopri8", {"max_num_steps": 3}), **k),
    ):
        assert limited(throw=False).words() == ["max_steps"] * 2
        with pytest.raises(ConvergenceError):
            limited()
    # Fixed steps are as many as were asked for.
    assert run(problem, TorchDiffEq("rk4", FINE), max_steps=3).statistics.accepted.tolist() == [100, 100]


def test_errors_of_the_field_are_its_own():
    def f(t, x):
        raise AssertionError("mine")

    for error in (AssertionError, ValueError):

        def g(t, x, error=error):
            raise error("mine")

        with pytest.raises(error, match="mine"):
            run(InitialValueProblem(g, draw(1, 2)), TorchDiffEq("dopri8"))


# Options.


def test_statistics():
    tries = []

    def f(t, x):
        tries.append(t)
        return torch.cos(30 * t) * x

    found = run(InitialValueProblem(f, draw(2, 2)), TorchDiffEq("dopri5", {"first_step": 0.9}))
    assert found.statistics.rejected[0] > 0
    assert found.statistics.evaluations == len(tries)
    # Six stages a try, the first slope, and none for the first step's width.
    assert len(tries) == 6 * int(found.statistics.steps[0]) + 1
    assert len(set(found.statistics.steps.tolist())) == 1


def test_a_norm_sees_the_state_as_the_field_does():
    shapes = []

    def norm(state):
        shapes.append({name: part.shape for name, part in state.items()})
        return max(part.abs().max() for part in state.values())

    problem = InitialValueProblem(lambda t, s: {"a": -s["a"], "b": s["b"]}, {"a": draw(2, 3), "b": draw(2, 1)})
    run(problem, TorchDiffEq("dopri5", {"norm": norm}))
    assert shapes[0] == {"a": (2, 3), "b": (2, 1)}


def test_steps_of_ones_own():
    seen = []

    def f(t, x):
        seen.append(float(t))
        return torch.cos(t) * x

    run(
        InitialValueProblem(f, draw(1, 2), 1.0, 0.0, breakpoints=[0.4]),
        TorchDiffEq("dopri5", {"step_t": [0.123, 0.4, 0.77], "jump_t": [0.9, 1.0]}),
    )
    assert {0.123, 0.77, 0.9} <= {round(t, 12) for t in seen}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TorchDiffEq("dopri6"), "no method 'dopri6'; did you mean 'dopri8'.*implicit_adams"),
        (lambda: TorchDiffEq(5), "no method 5"),
        (lambda: TorchDiffEq("rk4", {"stepsize": 0.1}), "rk4 has no option 'stepsize'; did you mean 'step_size'"),
        (lambda: TorchDiffEq("dopri5", {"step_size": 0.1}), "dopri5 has no option 'step_size'"),
        (lambda: TorchDiffEq("explicit_adams", {"implicit": True}), "no option 'implicit'"),
        (lambda: TorchDiffEq("rk4", [("step_size", 0.1)]), "must be a dict"),
    ],
)
def test_refusals(bad_input, make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_misspelled_argument(bad_input):
    with pytest.raises(TypeError, match="did you mean 'options'"):
        TorchDiffEq("rk4", option={})


def test_options_that_the_library_refuses_itself():
    problem = InitialValueProblem(lambda t, x: -x, draw(1, 2))
    with pytest.raises(ValueError, match="mutually exclusive"):
        run(problem, TorchDiffEq("rk4", {"step_size": 0.1, "grid_constructor": lambda f, x, t: t}))
    with pytest.raises(ValueError, match="repeated"):
        run(problem, TorchDiffEq("dopri5", {"step_t": [0.5], "jump_t": [0.5]}))
    with pytest.raises(AssertionError, match="max_order"):
        run(problem, TorchDiffEq("implicit_adams", {"max_order": 40}))


def test_what_it_cannot_follow():
    x0 = draw(2, 2)
    with pytest.raises(ValueError, match="stop rows at events; take RungeKutta"):
        run(InitialValueProblem(lambda t, x: -x, x0, event=lambda t, x: x[:, 0]), TorchDiffEq("dopri8"))
    with pytest.raises(ValueError, match="manifold"):
        run(InitialValueProblem(lambda t, x: -x, x0, manifold="sphere"), TorchDiffEq("dopri8"))
    fresh = [LinearFields.random(2, 3, seed=k, dtype=F64) for k in range(2)]
    with pytest.raises(ValueError, match="fresh"):
        run(InitialValueProblem.controlled(fresh, PiecewiseConstantControl(2, 3).double(), x0), TorchDiffEq("dopri8"))
    with pytest.raises(ValueError, match="dense output"):
        run(InitialValueProblem(lambda t, x: -x, x0), TorchDiffEq("dopri8"), save_at=SaveAt(dense=True))


def test_known_options_are_read_from_the_library():
    assert "step_size" in known_options("rk4")
    assert "max_iters" in known_options("implicit_adams")
    assert {"first_step", "jump_t", "norm"} <= set(known_options("dopri8"))
    for name in solvers():
        assert not {"self", "func", "y0", "rtol", "atol", "kwargs"} & set(known_options(name))


def test_forward_mode_carries_tangents_through_fixed_steps():
    x0 = draw(2, 2)

    def flow(x):
        return solve(
            InitialValueProblem(lambda t, x: torch.sin(x), x),
            TorchDiffEq("rk4", FINE),
            gradient=ForwardMode(),
            throw=False,
        ).value

    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x0, torch.ones_like(x0))
        tangent = torch.autograd.forward_ad.unpack_dual(flow(dual)).tangent
    eps = 1e-6
    torch.testing.assert_close(tangent, (flow(x0 + eps) - flow(x0 - eps)) / (2 * eps), rtol=1e-7, atol=1e-8)


@pytest.mark.filterwarnings("ignore:Functional iteration")
@pytest.mark.parametrize("name", ["explicit_adams", "implicit_adams"])
def test_a_multistep_default_whose_error_grows_as_steps_shrink_is_not_ours(name):
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    angle = torch.tensor(4 + math.sin(4), dtype=torch.float64)
    want = torch.stack([angle.cos(), -angle.sin()])[None]

    def field(t, x):
        return torch.stack([x[:, 1], -x[:, 0]], 1) * (1 + torch.cos(t))

    problem = InitialValueProblem(field, x, 0.0, 4.0)
    ends = [solve(problem, TorchDiffEq(name, {"step_size": h})).value for h in (0.1, 0.05, 0.025, 0.0125)]
    errors = [float((end - want).abs().max()) for end in ends]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 0.01
    assert errors[-1] < 2e-5
