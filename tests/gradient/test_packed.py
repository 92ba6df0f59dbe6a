"""Adaptive steps walked back side by side: the gradient of autograd through the very steps that were taken."""

import math

import pytest
import torch

from cde_nets.controls import DataControl, HermiteControl, PiecewiseConstantControl, SpectralControl
from cde_nets.fields import ConvFields, LinearFields, PolynomialFields, RidgeFields, SphericalFields
from cde_nets.gradient import Autograd, Checkpointed, Discrete, packed, solve
from cde_nets.solver import Event, InitialValueProblem, RungeKutta, Status, Tolerance
from cde_nets.solver.flow.record import Slopes

# Hundreds of steps: the shape checker would take most of the time. Where a kernel covers a flow nothing is walked back.
pytestmark = pytest.mark.usefixtures("bad_input", "no_kernels")

F64 = torch.float64
TOLERANCE = Tolerance(1e-5, 1e-6)
FAMILIES = {
    "polynomial": lambda: PolynomialFields.random(3, 2, 3, seed=0, dtype=F64),
    "ridge": lambda: RidgeFields.random(3, 2, 2, seed=0, dtype=F64),
    "linear": lambda: LinearFields.random(3, 2, seed=0, dtype=F64),
    "complex": lambda: LinearFields.random(3, 2, seed=0, dtype=torch.complex128),
    "spherical": lambda: SphericalFields(RidgeFields.random(3, 2, 2, seed=0, dtype=F64)),
}
CONTROLS = {
    "smooth": lambda: SpectralControl.random(4, 2, scale=1.0, seed=1, dtype=F64),
    "pieces": lambda: PiecewiseConstantControl.random(3, 2, scale=1.0, seed=1, dtype=F64),
    "hermite": lambda: HermiteControl.random(3, 2, scale=1.0, seed=1, dtype=F64),
}


def uneven(rows=9, dim=3, dtype=F64):
    """Small states take few steps, large ones many."""
    x = torch.randn(rows, dim, generator=torch.Generator().manual_seed(2), dtype=dtype)
    return (x * torch.logspace(-2.0, 0.0, rows, dtype=F64)[:, None] * 0.7).requires_grad_()


def weighed(value):
    w = torch.randn(value.shape, generator=torch.Generator().manual_seed(3), dtype=value.dtype)
    return (value * w.conj()).real.sum()


@pytest.fixture
def walks(monkeypatch):
    """Of every way back side by side, how many rows each block is of."""
    seen, plain = [], packed.walk_back

    def walk_back(plan, steps, *rest):
        seen.append(steps.sizes)
        return plain(plan, steps, *rest)

    monkeypatch.setattr(packed, "walk_back", walk_back)
    return seen


def agree(make, inputs, method="dopri5", bound=1e-11, **options):
    options = {"tolerance": TOLERANCE, "throw": False, **options}
    solution = solve(make(), RungeKutta(method), gradient=Discrete(), **options)
    found = torch.autograd.grad(weighed(solution.value), inputs)
    exact = torch.autograd.grad(
        weighed(solve(make(), RungeKutta(method), gradient=Autograd(), **options).value), inputs
    )
    for one, two in zip(found, exact, strict=True):
        assert float(two.norm()) > 0
        assert float((one - two).norm()) <= bound * float(two.norm())
    return solution


@pytest.mark.parametrize("together", [1, 100, 2**16])
@pytest.mark.parametrize("kind", CONTROLS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_is_that_of_autograd(family, kind, together, walks, monkeypatch):
    monkeypatch.setattr(packed, "TOGETHER", together)
    fields, control = FAMILIES[family](), CONTROLS[kind]()
    x = uneven(dtype=fields.dtype)
    solution = agree(lambda: InitialValueProblem.controlled(fields, control, x), [x, *control.leaves])
    # A block for each step of the row that took the most, and every accepted step once: refused ones cost nothing.
    (sizes,) = walks
    accepted = solution.statistics.accepted
    assert len(sizes) == int(accepted.max())
    assert sizes == [int((accepted > k).sum()) for k in range(len(sizes))]
    assert len(set(accepted.tolist())) > 1


@pytest.mark.parametrize("method", ["bosh3", "tsit5", "heun"])
def test_every_embedded_pair(method, walks):
    fields, control, x = FAMILIES["polynomial"](), CONTROLS["smooth"](), uneven()
    agree(lambda: InitialValueProblem.controlled(fields, control, x, 1.0, 0.0), [x, *control.leaves], method)
    assert walks


@pytest.mark.parametrize("save_at", [(0.5,), (0.0, 0.01, 0.02, 0.3, 0.99, 1.0)])
@pytest.mark.parametrize("family", ["polynomial", "ridge"])
def test_states_saved_within_steps(family, save_at, walks):
    fields, control, x = FAMILIES[family](), CONTROLS["smooth"](), uneven()
    agree(lambda: InitialValueProblem.controlled(fields, control, x), [x, *control.leaves], save_at=save_at)
    assert walks


def test_rows_that_stop_at_events(walks):
    fields, control, x = FAMILIES["ridge"](), CONTROLS["smooth"](), uneven()
    event = Event(lambda t, x: x[:, 0] - 0.3)

    def make():
        return InitialValueProblem.controlled(fields, control, x, event=event)

    for save_at in (None, (0.2, 0.6, 1.0)):
        solution = agree(make, [x, *control.leaves], save_at=save_at)
        assert 0 < int((solution.status == Status.EVENT).sum()) < len(x)
    assert len(walks) == 2


@pytest.mark.parametrize("lost", [(0,), (3, 8), range(9)])
def test_rows_that_fail_give_nothing_and_the_others_do_not_notice(lost, walks):
    fields, control = FAMILIES["polynomial"](), CONTROLS["smooth"]()
    x = uneven()
    with torch.no_grad():
        x[list(lost)] = torch.tensor([math.nan, 1e6, 0.0], dtype=F64)[torch.arange(len(lost)) % 2][:, None]
    lives = [k for k in range(9) if k not in lost]

    def run(x):
        solution = solve(
            InitialValueProblem.controlled(fields, control, x), RungeKutta("dopri5"), tolerance=TOLERANCE, throw=False
        )
        value = torch.where(torch.isfinite(solution.value), solution.value, 0.0)
        return solution, torch.autograd.grad((value * torch.arange(1.0, 4.0, dtype=F64)).sum(), [x, *control.leaves])

    solution, found = run(x)
    assert torch.equal(solution.status != Status.DONE, torch.tensor([k in lost for k in range(9)]))
    assert not found[0][list(lost)].any()
    alone = run(x.detach()[lives].requires_grad_())[1] if lives else (x[:0], *map(torch.zeros_like, control.leaves))
    torch.testing.assert_close(found[0][lives], alone[0], rtol=1e-12, atol=1e-14)
    for one, two in zip(found[1:], alone[1:], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-14)


def test_a_convolution_has_no_linearization_of_its_own(walks):
    fields = ConvFields.random(2, 4, 4, 2, seed=0, dtype=F64)
    control, x = CONTROLS["smooth"](), uneven(dim=32)
    agree(lambda: InitialValueProblem.controlled(fields, control, x), [x, *control.leaves])
    assert walks


def test_coefficients_of_less_precision_than_the_state(walks):
    fields = RidgeFields.random(3, 2, 2, seed=0, dtype=torch.float32)
    control, x = CONTROLS["smooth"](), uneven()
    agree(lambda: InitialValueProblem.controlled(fields, control, x), [x, *control.leaves], bound=1e-5)
    assert walks


def test_only_what_wants_a_gradient_gets_one(walks):
    fields, control, x = FAMILIES["ridge"](), CONTROLS["smooth"](), uneven()
    agree(lambda: InitialValueProblem.controlled(fields, control, x.detach()), list(control.leaves))
    control.requires_grad_(False)
    agree(lambda: InitialValueProblem.controlled(fields, control, x), [x])
    assert len(walks) == 2


def test_too_many_slopes_are_not_kept(walks, monkeypatch):
    fields, control, x = FAMILIES["polynomial"](), CONTROLS["smooth"](), uneven()
    # Three steps of dopri5's seven slopes.
    monkeypatch.setattr(Slopes, "MOST", 3 * 7 * x.numel() * 8)
    agree(lambda: InitialValueProblem.controlled(fields, control, x), [x, *control.leaves])
    assert not walks


@pytest.mark.parametrize("case", ["joint", "a control a row", "sphere", "drift", "checkpointed"])
def test_where_it_is_not_done_the_gradient_is_the_same(case, walks):
    fields, control, x = FAMILIES["ridge"](), CONTROLS["smooth"](), uneven()
    if case == "a control a row":
        path = torch.randn(9, 4, 2, generator=torch.Generator().manual_seed(5), dtype=F64)
        control = DataControl(torch.linspace(0.0, 1.0, 4, dtype=F64), path, interpolation="linear")
    more = {"sphere": {"manifold": "sphere"}, "drift": {"drift": lambda t, x: -x}}.get(case, {})
    gradient = Checkpointed() if case == "checkpointed" else Discrete()
    method = RungeKutta("dopri5", per_row=case != "joint")

    def run(gradient):
        problem = InitialValueProblem.controlled(fields, control, x, **more)
        return torch.autograd.grad(weighed(solve(problem, method, gradient=gradient, tolerance=TOLERANCE).value), x)[0]

    torch.testing.assert_close(run(gradient), run(Autograd()), rtol=1e-11, atol=1e-12)
    assert not walks


def test_derivatives_of_the_gradient():
    fields, control, x = FAMILIES["polynomial"](), CONTROLS["smooth"](), uneven(4)
    leaf = control.leaves[0]

    def end(gradient):
        problem = InitialValueProblem.controlled(fields, control, x)
        return solve(problem, RungeKutta("bosh3"), gradient=gradient, tolerance=Tolerance(1e-3, 1e-3)).value

    found = []
    for gradient in (Discrete(), Autograd()):
        value = end(gradient)
        first = torch.autograd.grad(weighed(value), [x, leaf], create_graph=True)
        found.append((*first, *torch.autograd.grad(first[0].square().sum() + first[1].square().sum(), [x, leaf])))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-10)


def test_no_velocity_is_evaluated_on_the_way_back(monkeypatch):
    fields, control, x = FAMILIES["polynomial"](), CONTROLS["smooth"](), uneven()
    solution = solve(InitialValueProblem.controlled(fields, control, x), RungeKutta("dopri5"), tolerance=TOLERANCE)

    def velocity(*args):
        raise AssertionError("evaluated again")

    monkeypatch.setattr(PolynomialFields, "velocity", velocity)
    monkeypatch.setattr(PolynomialFields, "_velocity", velocity)
    solution.value.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("make", [CONTROLS["pieces"], CONTROLS["smooth"]])
def test_a_pullback_that_outlives_its_transform_is_no_silent_zero(make):
    """torch.func.vjp hands out a function that is called when the tensors of its transform are gone."""
    fields, control, x = FAMILIES["polynomial"](), make(), uneven().detach()

    def flow(x):
        return solve(
            InitialValueProblem.controlled(fields, control, x), RungeKutta("dopri5"), tolerance=TOLERANCE
        ).value

    _, pull = torch.func.vjp(flow, x)
    (found,) = pull(torch.ones_like(x))
    x.requires_grad_()
    (expected,) = torch.autograd.grad(flow(x).sum(), x)
    torch.testing.assert_close(found.detach(), expected, rtol=1e-10, atol=1e-12)
    parameters = {f"control.{name}": value.detach() for name, value in control.named_parameters()}
    wrapped = Wrapped(fields, control)
    both = torch.func.vjp(lambda x, p: torch.func.functional_call(wrapped, p, (x,)), x.detach(), parameters)[1]
    with pytest.raises(RuntimeError, match=r"torch\.func cannot transform the adaptive steps"):
        both(torch.ones_like(x))


class Wrapped(torch.nn.Module):
    def __init__(self, fields, control):
        super().__init__()
        self.fields, self.control = fields, control

    def forward(self, x):
        problem = InitialValueProblem.controlled(self.fields, self.control, x)
        return solve(problem, RungeKutta("dopri5"), tolerance=TOLERANCE).value
