"""Rows fail alone: what they, refused steps and a batch without survivors leave of values and gradients."""

import math

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
    "fixed": RungeKutta("rk4", steps=6),
    "per row": RungeKutta("dopri5"),
    "reversible": Reversible(RungeKutta("midpoint", steps=6)),
}
GRADIENTS = {"Discrete": Discrete(), "Checkpointed": Checkpointed(8), "Backsolve": Backsolve(RungeKutta("dopri5"))}
# Of the line: healthy ones, one that needs ten times the steps of those, and the two that fail.
HEALTHY, HARD, NAN, POLE = [[-0.5], [0.3]], [[0.9995]], [[math.nan]], [[30.0]]


pytestmark = pytest.mark.usefixtures("quick")


def pole(t, x, k):
    """X' = k X^2: the solution from x has its pole at 1 / (k x)."""
    return k * x.square()


class Run:
    """A batch of rows with a tensor that they share, or a control."""

    def __init__(self, rows, *, controlled, field=pole):
        self.x = torch.tensor(rows, dtype=F64, requires_grad=True)
        if controlled:
            fields = PolynomialFields(torch.tensor([[[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]]], dtype=F64), 2)
            values = torch.tensor([[1.0, 1e-5], [1.0, -1e-5]], dtype=F64)
            control = PiecewiseConstantControl(2, 2, values=values)
            self.shared = control.values
            self.problem = InitialValueProblem.controlled(fields, control, self.x)
        else:
            self.shared = torch.tensor(1.0, dtype=F64, requires_grad=True)
            self.problem = InitialValueProblem(field, self.x, args=(self.shared,))

    def solve(self, method, gradient, **options):
        options = {"tolerance": Tolerance(1e-4, 1e-5), **options}
        self.solution = solve(self.problem, method, gradient=gradient, throw=False, max_steps=400, **options)
        return self.solution

    def gradients(self, rows, *, create_graph=False):
        """Of what all rows end with, each by its weight; failed ones take part with their last finite value."""
        weights = torch.zeros(len(self.x), 1, dtype=F64)
        weights[rows] = torch.tensor([[1.0], [-2.0], [1e-6]], dtype=F64)[: len(rows)]
        weights[[r for r in range(len(self.x)) if r not in rows]] = 5.0
        return torch.autograd.grad(
            (self.solution.value * weights).nan_to_num().sum(), (self.x, self.shared), create_graph=create_graph
        )


@pytest.mark.parametrize(
    ("gradient", "controlled"),
    [("Discrete", True), ("Checkpointed", True), ("Backsolve", True), ("Discrete", False), ("Backsolve", False)],
)
@pytest.mark.parametrize("method", METHODS)
def test_healthy_rows_have_the_values_and_gradients_they_have_alone(method, gradient, controlled):
    alone = Run(HEALTHY + HARD, controlled=controlled)
    alone.solve(METHODS[method], GRADIENTS[gradient])
    assert alone.solution.succeeded.all()
    both, good = Run(NAN + HEALTHY + POLE + HARD, controlled=controlled), [1, 2, 4]
    both.solve(METHODS[method], GRADIENTS[gradient])
    assert both.solution.succeeded.tolist() == [False, True, True, False, True]
    assert both.solution.words()[0] == "diverged"
    assert Status(int(both.solution.status[3])) in (Status.DIVERGED, Status.STEP_TOO_SMALL)
    torch.testing.assert_close(both.solution.value[good], alone.solution.value, rtol=1e-13, atol=0)
    # What failed holds its last finite value: never what was not computed.
    assert both.solution.value[3].isfinite()
    steps = both.solution.statistics.steps[good]
    if method == "per row":
        assert int(steps[2]) >= 10 * int(steps[:2].min())
    want, got = alone.gradients([0, 1, 2]), both.gradients(good)
    assert want[1].any()
    torch.testing.assert_close(got[1], want[1], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(got[0][good], want[0], rtol=1e-12, atol=1e-14)
    assert not got[0][[0, 3]].any()


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("method", ["fixed", "per row"])
def test_saved_states_of_healthy_rows_are_those_they_have_alone(method, gradient):
    found = []
    for rows, good in ((HEALTHY, [0, 1]), (NAN + HEALTHY + POLE, [1, 2])):
        run = Run(rows, controlled=True)
        run.solve(METHODS[method], GRADIENTS[gradient], save_at=[0.0, 0.3, 1.0])
        value = run.solution.value[:, good]
        weights = torch.tensor([[1.0], [-2.0], [0.5]], dtype=F64)[:, :, None]
        grads = torch.autograd.grad((value * weights).sum(), (run.x, run.shared))
        found.append((value.detach(), grads[0][good], grads[1]))
    for got, want in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("gradient", "controlled"), [("Discrete", True), ("Checkpointed", False)], ids=["control", "args"]
)
@pytest.mark.parametrize("method", METHODS)
def test_second_derivatives_of_healthy_rows_are_those_they_have_alone(method, gradient, controlled):
    found = []
    for rows, good in ((HEALTHY, [0, 1]), (NAN + HEALTHY + POLE, [1, 2])):
        run = Run(rows, controlled=controlled)
        run.solve(METHODS[method], GRADIENTS[gradient])
        start, shared = run.gradients(good, create_graph=True)
        second = torch.autograd.grad(start[good].square().sum() + shared.square().sum(), (run.x, run.shared))
        found.append((start[good], shared, second[0][good], second[1]))
    for got, want in zip(found[1], found[0], strict=True):
        assert want.any()
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("rows", [NAN + NAN, [[1e200], [1e180]]], ids=["nan", "pole"])
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("method", METHODS)
def test_without_a_survivor_every_gradient_is_zero(method, gradient, rows, create_graph):
    for controlled in (True, False):
        run = Run(rows, controlled=controlled)
        run.solve(METHODS[method], GRADIENTS[gradient])
        assert not run.solution.succeeded.any()
        if gradient == "Backsolve" and create_graph:
            with pytest.raises(RuntimeError, match="first derivatives only"):
                run.gradients([], create_graph=True)
            continue
        for found in run.gradients([], create_graph=create_graph):
            assert found is not None
            assert not found.any()


def spiked(t, x, k):
    """NaN at 0 and at 1, and in its derivative: where a placeholder for failed rows would stand."""
    return k * x / (x * (x - 1)).sqrt()


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("method", METHODS)
def test_failed_rows_are_put_where_a_living_row_stands(method, gradient):
    alone = Run([[3.0], [5.0]], controlled=False, field=spiked)
    alone.solve(METHODS[method], GRADIENTS[gradient])
    both = Run([[0.5], [1.0], [3.0], [0.0], [5.0]], controlled=False, field=spiked)
    both.solve(METHODS[method], GRADIENTS[gradient])
    assert both.solution.succeeded.tolist() == [False, False, True, False, True]
    want, got = alone.gradients([0, 1]), both.gradients([2, 4])
    assert want[1].any()
    torch.testing.assert_close(got[1], want[1], rtol=1e-12, atol=0)


def root(t, x, k):
    """Rows come to rest at 0.09 and overshoot below 0, where the derivative of a square root is NaN."""
    return -20 * k * (torch.where(x > 0, x.sqrt(), 0.0) - 0.3)


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("gradient", ["Discrete", "Checkpointed"])
def test_a_refused_step_is_in_no_gradient(gradient, second):
    found = []
    # The row in front takes its steps while the other one tries in vain, so that those tries are in the record.
    for rows in ([[0.09], [1.0]], [[1.0]]):
        run = Run(rows, controlled=False, field=root)
        way = RungeKutta("bosh3", first_step=0.3)
        run.solve(way, GRADIENTS[gradient])
        assert run.solution.succeeded.all()
        assert int(run.solution.statistics.rejected[-1]) > 0
        grads = torch.autograd.grad(run.solution.value[-1].sum(), (run.x, run.shared), create_graph=second)
        if second:
            grads = torch.autograd.grad(grads[0].sum() + grads[1], (run.x, run.shared))
        found.append((grads[0][-1], grads[1]))
    for got, want in zip(*found, strict=True):
        assert want.isfinite().all()
        assert want.any()
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-14)


# -- a sample whose input is NaN, in what the function is given --------------------------------------------------------


def injected(t, x, w, b):
    """A layer of every row's own input b and of weights that all share."""
    return torch.tanh(x @ w.T + b)


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("method", METHODS)
def test_a_nan_among_the_rows_args_spoils_no_gradient(method, gradient, second):
    if second and gradient == "Backsolve":
        pytest.skip("first derivatives only")
    b = torch.randn(3, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
    found = []
    for inputs, good in (
        (b, [0, 1, 2]),
        (torch.cat([b[:1], torch.full((1, 2), math.nan, dtype=F64), b[1:]]), [0, 2, 3]),
    ):
        w = torch.eye(2, dtype=F64).requires_grad_()
        inputs = inputs.clone().requires_grad_()
        start = torch.zeros(len(inputs), 2, dtype=F64)
        start[good] = 0.5
        problem = InitialValueProblem(injected, start, args=(w, inputs))
        solution = solve(problem, METHODS[method], gradient=GRADIENTS[gradient], throw=False)
        assert solution.succeeded.sum() == 3
        grads = torch.autograd.grad(solution.value[good].square().sum(), (w, inputs), create_graph=second)
        if second:
            grads = torch.autograd.grad(grads[0].square().sum() + grads[1][good].square().sum(), (w, inputs))
        found.append((grads[0], grads[1][good]))
    for got, want in zip(found[1], found[0], strict=True):
        assert want.any()
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("gradient", [Implicit(), Truncated(5)], ids=["implicit", "truncated"])
@pytest.mark.parametrize("method", [Picard(), Anderson()], ids=["picard", "anderson"])
def test_rest_points_of_healthy_rows_are_those_they_have_alone(method, gradient, second):
    w = (torch.randn(3, 3, dtype=F64, generator=torch.Generator().manual_seed(0)) / 4).requires_grad_()
    b = torch.randn(4, 3, dtype=F64, generator=torch.Generator().manual_seed(1))

    def f(z, w, b):
        # Rows marked by a large first entry have no rest point: z = z^2 + 20 has no real solution.
        return torch.where(b[:, :1] > 10, z.square() + b, torch.tanh(z @ w.T + b))

    def run(b, good):
        problem = FixedPointProblem(f, torch.zeros_like(b), args=(w, b))
        solution = solve(
            problem, method, gradient=gradient, tolerance=Tolerance(1e-11, 1e-13), max_steps=200, throw=False
        )
        (grad,) = torch.autograd.grad(solution.value[good].square().sum(), w, create_graph=second)
        if second:
            (grad,) = torch.autograd.grad(grad.square().sum(), w)
        return solution, grad

    alone, want = run(b, [0, 1, 2, 3])
    away = torch.tensor([[20.0, 1.0, -3.0]], dtype=F64)
    good = [1, 2, 4, 5]
    both, got = run(torch.cat([torch.full((1, 3), math.nan, dtype=F64), b[:2], away, b[2:]]), good)
    assert both.succeeded[good].all()
    assert both.words()[0] == "diverged"
    assert not both.succeeded[3]
    torch.testing.assert_close(both.value[good], alone.value, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)


# -- samples that are not finite or overflow, among as many rows as what they share has --------------------------------

BAD = [math.nan, math.inf, 1e200]


def scaled(x, w, b):
    """Of every row's own input b, which is also a factor, and of square weights that all share."""
    return b[:, :1] * (torch.tanh(x @ w.T) - x**3) + b


def shared_and_given(bad):
    """Weights, inputs and the healthy rows: three rows of three numbers, the middle one bad; or the others alone."""
    w = torch.randn(3, 3, dtype=F64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    b = 0.3 * torch.rand(3, 3, dtype=F64, generator=torch.Generator().manual_seed(3)) + 0.1
    if bad is None:
        return w, b[[0, 2]].requires_grad_(), [0, 1]
    b[1, 0] = bad
    return w, b.requires_grad_(), [0, 2]


def pulled(value, w, b, good, second):
    grads = torch.autograd.grad(value[good].square().sum(), (w, b), create_graph=second)
    if second:
        grads = torch.autograd.grad(grads[0].square().sum() + grads[1][good].square().sum(), (w, b))
    return grads[0], grads[1][good]


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_sample_is_in_no_gradient_of_a_flow(bad, method, gradient, second):
    if second and gradient == "Backsolve":
        pytest.skip("first derivatives only")
    found = []
    for value in (None, bad):
        w, b, good = shared_and_given(value)
        problem = InitialValueProblem(lambda t, x, w, b: scaled(x, w, b), torch.full_like(b, 0.5), args=(w, b))
        solution = solve(problem, METHODS[method], gradient=GRADIENTS[gradient], throw=False)
        assert solution.succeeded.tolist() == ([True, True] if value is None else [True, False, True])
        found.append(pulled(solution.value, w, b, good, second))
    for want, got in zip(*found, strict=True):
        assert want.any()
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("gradient", [Implicit(), Truncated(5)], ids=["implicit", "truncated"])
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_sample_is_in_no_gradient_of_a_rest_point(bad, gradient, second):
    found = []
    for value in (None, bad):
        w, b, good = shared_and_given(value)
        # A square, so that 1e200 overflows before the state has grown.
        problem = FixedPointProblem(
            lambda z, w, b: 0.5 * scaled(z, w, b) - (b[:, :1] - 1).relu().square(), torch.zeros_like(b), args=(w, b)
        )
        solution = solve(problem, Picard(), gradient=gradient, tolerance=Tolerance(1e-12, 1e-13), throw=False)
        assert solution.succeeded.tolist() == ([True, True] if value is None else [True, False, True])
        found.append(pulled(solution.value, w, b, good, second))
    for want, got in zip(*found, strict=True):
        assert want.any()
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def test_a_mask_that_all_rows_share_is_left_as_it_is():
    # Minus infinity above the diagonal: as long as there are rows, and not finite where one of them failed.
    mask = torch.full((3, 3), -math.inf, dtype=F64).triu(1)
    found = []
    for value in (None, math.inf):
        w, b, good = shared_and_given(value)

        def f(z, w, b, mask):
            return 0.5 * torch.tanh(z @ torch.softmax(w + mask, 1).T + b) + 0 * b

        problem = FixedPointProblem(f, torch.zeros_like(b), args=(w, b, mask))
        solution = solve(problem, Picard(), gradient=Implicit(), tolerance=Tolerance(1e-12, 1e-13), throw=False)
        assert solution.succeeded.tolist() == ([True, True] if value is None else [True, False, True])
        found.append(pulled(solution.value, w, b, good, False))
    for want, got in zip(*found, strict=True):
        assert want.any()
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def late(t, x, w, b):
    """Weights that all share and that matter in the second half only, beside the rows' own b."""
    return b[:, :1] * torch.tanh(x @ w.T) * (t > 0.5) - 0.1 * b * x**3


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("method", METHODS)
def test_weights_that_matter_later_are_left_as_they_are(method, gradient):
    found = []
    for value in (None, math.inf):
        w, b, good = shared_and_given(value)
        problem = InitialValueProblem(late, torch.full_like(b, 0.5), args=(w, b), breakpoints=[0.5])
        solution = solve(problem, METHODS[method], gradient=GRADIENTS[gradient], throw=False)
        assert solution.succeeded.sum() == 2
        found.append(pulled(solution.value, w, b, good, False))
    for want, got in zip(*found, strict=True):
        assert want.any()
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-14)


def test_a_shared_matrix_that_is_decomposed_is_left_as_it_is():
    found = []
    for value in (None, math.inf):
        w, b, good = shared_and_given(value)

        def f(z, w, b):
            # Torch raises an error where there is NaN in what it is to decompose.
            return 0.2 * torch.tanh(z @ torch.linalg.cholesky(w @ w.T + torch.eye(3, dtype=F64)).T) + b

        problem = FixedPointProblem(f, torch.zeros_like(b), args=(w, b))
        solution = solve(problem, Picard(), gradient=Implicit(), tolerance=Tolerance(1e-12, 1e-13), throw=False)
        assert solution.succeeded.sum() == 2
        found.append(pulled(solution.value, w, b, good, False))
    for want, got in zip(*found, strict=True):
        assert want.any()
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)
