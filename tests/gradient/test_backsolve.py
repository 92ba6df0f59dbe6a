"""The continuous adjoint is inexact, and is so by as much as it says."""

import math
import weakref

import pytest
import torch

from cde_nets.controls import PiecewiseConstantControl, SpectralControl
from cde_nets.errors import ConvergenceWarning, DivergedError
from cde_nets.fields import PolynomialFields
from cde_nets.gradient import Autograd, Backsolve, Discrete, solve
from cde_nets.gradient.backsolve import _Pair as Pair
from cde_nets.solver import TABLEAUS, InitialValueProblem, Reversible, RungeKutta, Status, Tolerance, TorchDiffEq

F64 = torch.float64
FAMILY = PolynomialFields.random(2, 3, 2, seed=0, dtype=F64)


pytestmark = pytest.mark.usefixtures("quick")


def normal(*shape, seed=0, scale=1.0):
    return scale * torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


class Case:
    """A controlled flow of four rows."""

    def __init__(self, control=SpectralControl, terms=2, scale=0.5):
        self.x = normal(4, 2, seed=1, scale=0.5).requires_grad_()
        self.control = control.random(terms, 3, scale=scale, seed=2, dtype=F64)

    @property
    def inputs(self):
        return (self.x, *self.control.parameters())

    def gradients(self, gradient, method, **options):
        problem = InitialValueProblem.controlled(FAMILY, self.control, self.x)
        value = solve(problem, method, gradient=gradient, **options).value
        return torch.autograd.grad((value * normal(*value.shape, seed=3)).sum(), self.inputs)


def apart(mine, theirs):
    """The larger of the relative distances."""
    return max(float((one - two).norm() / two.norm()) for one, two in zip(mine, theirs, strict=True))


# Steps small enough for the asymptotic slope and large enough for rounding not to show.
STEPS = {1: (20, 40), 2: (10, 20), 3: (6, 12), 4: (5, 10), 5: (4, 8)}


@pytest.mark.parametrize("name", TABLEAUS)
def test_the_error_against_the_exact_gradient_falls_with_the_order(name):
    case, order = Case(), TABLEAUS[name].order
    coarse, fine = (
        apart(
            case.gradients(Backsolve(), RungeKutta(name, steps=n)),
            case.gradients(Discrete(), RungeKutta(name, steps=n)),
        )
        for n in STEPS[order]
    )
    slope = math.log2(coarse / fine)
    assert fine > 1e-13
    assert order - 0.35 < slope < order + 1.6


def test_euler_at_the_steps_of_a_piecewise_constant_control_is_off_by_more_than_five_percent():
    case, method = Case(PiecewiseConstantControl, 6, scale=1.0), RungeKutta("euler", steps=6)
    exact = case.gradients(Discrete(), method)
    assert apart(case.gradients(Autograd(), method)[1:], exact[1:]) < 1e-13
    assert apart(case.gradients(Backsolve(), method)[1:], exact[1:]) > 0.05
    # The error is that of the discretisation: more steps an interval make it small.
    many = RungeKutta("rk4", steps=48)
    assert apart(case.gradients(Backsolve(), many), case.gradients(Discrete(), many)) < 1e-6


@pytest.mark.parametrize("name", ["dopri5", "tsit5"])
@pytest.mark.parametrize(("per_row", "control"), [(True, PiecewiseConstantControl), (False, SpectralControl)])
def test_adaptive_steps_reach_their_tolerance(name, per_row, control):
    case, method = Case(control), RungeKutta(name, per_row=per_row)
    exact = case.gradients(Discrete(), RungeKutta("dopri5", steps=30))
    error = apart(case.gradients(Backsolve(), method, tolerance=Tolerance(1e-9, 1e-11)), exact)
    assert error < 1e-7
    # A loose way back is seen, though the way forth is tight.
    loose = Backsolve(method=RungeKutta("heun"), tolerance=Tolerance(1e-2, 1e-2))
    assert 1e-6 < apart(case.gradients(loose, method, tolerance=Tolerance(1e-9, 1e-11)), exact) < 0.1


SAVES = {
    "with the end": (0.25, 0.5, 1.0),
    "with the start": (0.0, 0.3, 0.9),
    "one": (0.4,),
    "inside steps": (0.13, 0.77),
}


@pytest.mark.parametrize("name", SAVES)
@pytest.mark.parametrize("method", [RungeKutta("rk4", steps=32), RungeKutta("dopri5")], ids=["fixed", "adaptive"])
def test_saved_states_give_their_gradient(name, method):
    case = Case(PiecewiseConstantControl)
    options = {"save_at": SAVES[name], "tolerance": Tolerance(1e-9, 1e-11)}
    # The extension of rk4 is of order 3, that of dopri5 of order 4.
    exact = case.gradients(Discrete(), RungeKutta("dopri5", steps=64), **options)
    assert apart(case.gradients(Backsolve(), method, **options), exact) < 1e-5


def test_time_may_run_backward():
    case = Case()
    problem = InitialValueProblem.controlled(FAMILY, case.control, case.x, t0=1.0, t1=0.2)
    found = []
    for gradient in (Discrete(), Backsolve()):
        value = solve(problem, RungeKutta("rk4", steps=24), gradient=gradient, save_at=(0.6, 0.2)).value
        found.append(torch.autograd.grad((value * normal(*value.shape, seed=3)).sum(), case.inputs))
    assert apart(found[1], found[0]) < 1e-6


@pytest.mark.parametrize("saves", [None, (0.5, 1.0)])
def test_what_is_kept_does_not_grow_with_the_steps(saves):
    kept = []
    for steps in (4, 64):
        # With a control of three coefficients no axis but the states' last is 2.
        case, saved = Case(terms=3), []
        problem = InitialValueProblem.controlled(FAMILY, case.control, case.x)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(tuple(t.shape)) or t, lambda t: t):  # noqa: B023
            solve(problem, RungeKutta("rk4", steps=steps), gradient=Backsolve(), save_at=saves)
        kept.append([shape for shape in saved if shape[-1] == 2 and 4 in shape])
    assert kept[0] == kept[1]
    assert (4, 2) in kept[0]


def test_the_way_back_holds_no_states_either(monkeypatch):
    most = []
    for steps in (4, 64):
        case, held, counts = Case(), [], []

        def watch(pair, x, at, plain=Pair.velocity, held=held, counts=counts):
            held[:] = [ref for ref in held if ref() is not None] + [weakref.ref(x)]
            counts.append(len(held))
            return plain(pair, x, at)

        problem = InitialValueProblem.controlled(FAMILY, case.control, case.x)
        value = solve(problem, RungeKutta("rk4", steps=steps), gradient=Backsolve()).value
        monkeypatch.setattr(Pair, "velocity", watch)
        value.sum().backward()
        monkeypatch.undo()
        assert len(counts) >= 4 * steps
        most.append(max(counts))
    assert most[1] == most[0]


class Stiff(torch.nn.Module):
    """X' = -rate X: the row of rate 60 is lost on the way back, that of rate 1 is not."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, 1.0], dtype=F64))

    def forward(self, t, x):
        # The second number of a row is its rate, and stands still.
        return torch.stack([-x[:, 1] * x[:, 0] * self.weight[0] - x[:, 0] ** 3 * self.weight[1], 0 * x[:, 1]], 1)


STATES = [[0.5, 1.0], [0.7, 60.0], [-0.3, 0.5]]
TIGHT = Tolerance(1e-8, 1e-10)


def lost(rows, **options):
    """A solve whose second row, where it is among them, cannot be followed back within the steps allowed."""
    field, x = Stiff(), torch.tensor(STATES, dtype=F64)[rows].requires_grad_()
    solution = solve(
        InitialValueProblem(field, x), RungeKutta("dopri5"), gradient=Backsolve(tolerance=TIGHT), **options
    )
    return field, x, solution


def test_a_row_that_is_unstable_backward_raises():
    _, _, solution = lost([0, 1, 2], max_steps=60, tolerance=Tolerance(1e-4, 1e-6))
    assert bool(solution.succeeded.all())
    with pytest.raises(DivergedError, match=r"1 of 3 rows could not be solved backward.*contract.*Discrete"):
        solution.value.sum().backward()


@pytest.mark.parametrize("save_at", [None, (0.1, 0.5, 1.0)])
def test_a_row_that_is_unstable_backward_gives_nothing_and_is_counted(save_at):
    options = {"throw": False, "max_steps": 60, "tolerance": Tolerance(1e-4, 1e-6), "save_at": save_at}
    field, x, solution = lost([0, 1, 2], **options)
    assert solution.backward.status is None
    with pytest.warns(ConvergenceWarning, match="1 of 3 rows"):
        solution.value.sum().backward()
    backward = solution.backward
    assert [Status(code).succeeded for code in backward.status.tolist()] == [True, False, True]
    assert backward.statistics.evaluations > 0
    assert (backward.statistics.accepted > 0).all()
    assert not x.grad[1].any()
    healthy, start, alone = lost([0, 2], **options)
    alone.value.sum().backward()
    assert alone.backward.status.tolist() == [Status.DONE, Status.DONE]
    torch.testing.assert_close(field.weight.grad, healthy.weight.grad, rtol=1e-12, atol=0)
    torch.testing.assert_close(x.grad[[0, 2]], start.grad, rtol=1e-12, atol=0)


def test_what_a_row_gave_before_it_failed_is_taken_back():
    """On the way back all is well from 1 to 0.5; the row of rate 60 is lost before that."""

    def field(t, x, a):
        rate = torch.where(t < 0.5, x[:, 1:], 1.0).expand(len(x), 1)
        return torch.cat([-a * rate * x[:, :1], 0 * x[:, 1:]], 1)

    def gradient(rows):
        a = torch.tensor(1.0, dtype=F64, requires_grad=True)
        x = torch.tensor([[0.5, 60.0], [0.7, 1.0]], dtype=F64)[rows]
        solution = solve(
            InitialValueProblem(field, x, args=(a,), breakpoints=(0.5,)),
            RungeKutta("dopri5"),
            gradient=Backsolve(tolerance=TIGHT),
            tolerance=Tolerance(1e-4, 1e-6),
            save_at=(0.5, 1.0),
            max_steps=60,
            throw=False,
        )
        solution.value[1].sum().backward()
        return solution.backward.status.tolist(), a.grad

    with pytest.warns(ConvergenceWarning, match="1 of 2 rows"):
        status, found = gradient([0, 1])
    assert status == [Status.MAX_STEPS, Status.DONE]
    status, healthy = gradient([1])
    assert status == [Status.DONE]
    torch.testing.assert_close(found, healthy, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("gradient", "method", "problem", "words"),
    [
        (Backsolve(), RungeKutta("euler", steps=4), {"manifold": "sphere"}, "knows no manifold"),
        (Backsolve(), RungeKutta("rk4", steps=4), {"event": lambda t, x: x[:, 0] - 9}, "knows no event"),
        (Backsolve(), Reversible(RungeKutta("rk4", steps=4)), {}, "how to go back"),
        (Backsolve(), TorchDiffEq("dopri5"), {}, "how to go back"),
    ],
)
def test_what_it_does_not_know_is_refused(gradient, method, problem, words):
    case = Case()
    with pytest.raises(ValueError, match=words):
        solve(InitialValueProblem.controlled(FAMILY, case.control, case.x, **problem), method, gradient=gradient)


def test_a_second_derivative_is_refused():
    case = Case()
    problem = InitialValueProblem.controlled(FAMILY, case.control, case.x)
    value = solve(problem, RungeKutta("rk4", steps=4), gradient=Backsolve()).value
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(value.sum(), case.x, create_graph=True)


def test_reversible_steps_go_back_by_a_method_of_their_own():
    case, method = Case(), Reversible(RungeKutta("rk4", steps=16))
    back = Backsolve(method=RungeKutta("rk4", steps=16))
    assert 1e-12 < apart(case.gradients(back, method), case.gradients(Discrete(), method)) < 1e-5
