"""Faults on record of other libraries for the same work, each as a test that this one has it not.

Those that need more than a few lines have files of their own: compiling that compiles nothing (gradient/test_compile),
silent zero gradients under DistributedDataParallel (gradient/test_ddp), mistyped coefficients (test_tableaus and
test_order of solver/flow), a failed row's influence on the others (gradient/test_rows_fail_alone).
"""

import inspect
import math

import pytest
import torch

from cde_nets.errors import ConvergenceError
from cde_nets.gradient import Autograd, Discrete, ForwardMode, Implicit, Truncated, Unrolled, solve
from cde_nets.solver import (
    CG,
    GMRES,
    RBP,
    TABLEAUS,
    FixedPointProblem,
    InitialValueProblem,
    LinearProblem,
    Neumann,
    Picard,
    RungeKutta,
    Tolerance,
    TorchDiffEq,
)

# Users have no shape checker.
pytestmark = pytest.mark.usefixtures("bad_input")

F64 = torch.float64
ADAPTIVE = [name for name, tableau in TABLEAUS.items() if tableau.error is not None]


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("steps", [None, 20])
@pytest.mark.parametrize("name", ADAPTIVE)
def test_one_nan_sample_neither_stops_the_batch_nor_returns_memory_that_nobody_wrote(name, steps):
    x = torch.tensor([[1.0], [math.nan], [2.0], [30.0]], dtype=F64)
    problem = InitialValueProblem(lambda t, x: torch.where(x > 10, x.square(), -x), x)
    times = [0.0, 0.25, 0.5, 1.0]
    solution = solve(problem, RungeKutta(name, steps=steps), throw=False, save_at=times)
    assert solution.succeeded.tolist() == [True, False, True, False]
    decay = torch.exp(-torch.tensor(times, dtype=F64))[:, None]
    torch.testing.assert_close(solution.value[:, [0, 2], 0], decay * x[[0, 2], 0], rtol=1e-3, atol=1e-6)
    # What failed stays at its last state: NaN from the start, and where the pole at t = 1/30 was met.
    assert solution.value[:, 1].isnan().all()
    assert (solution.value[1:, 3] == solution.value[1, 3]).all()
    assert (solution.value[:, 3] >= 30).all()


@pytest.mark.parametrize(
    "method",
    [*(RungeKutta(name) for name in ADAPTIVE), RungeKutta("dopri5", per_row=False), TorchDiffEq("dopri5")],
    ids=str,
)
def test_nan_does_not_loop_for_ever(method):
    calls = []

    def field(t, x):
        calls.append(1)
        return torch.where(t < 0.5, -x, math.nan)

    solution = solve(InitialValueProblem(field, torch.ones(1, 1, dtype=F64)), method, throw=False)
    assert not solution.succeeded.any()
    assert solution.value.isfinite().all()
    assert len(calls) < 2000


def test_there_is_a_limit_of_steps_that_nobody_has_to_ask_for():
    most = inspect.signature(solve).parameters["max_steps"].default
    assert 0 < most <= 10_000
    fast = InitialValueProblem(lambda t, x: 1e7 * torch.cos(1e7 * t) * torch.ones_like(x), torch.zeros(1, 1, dtype=F64))
    solution = solve(fast, RungeKutta("bosh3"), throw=False)
    assert solution.words() == ["max_steps"]
    assert int(solution.statistics.steps[0]) == most


@pytest.mark.parametrize("name", ["explicit_adams", "implicit_adams"])
def test_the_error_of_a_multistep_method_does_not_grow_as_its_steps_shrink(name):
    errors = []
    for steps in (20, 80, 320):
        problem = InitialValueProblem(lambda t, x: x * torch.cos(t), torch.ones(1, 1, dtype=F64))
        end = solve(problem, TorchDiffEq(name, options={"step_size": 1 / steps}), gradient=Autograd()).value
        errors.append(abs(float(end) - math.exp(math.sin(1.0))))
    assert errors[0] > 5 * errors[1] or errors[1] < 1e-10
    assert errors[1] > 5 * errors[2] or errors[2] < 1e-10


# -- equilibria --------------------------------------------------------------------------------------------------------


def layer(radius, size=6, seed=0):
    w = normal(size, size, seed=seed)
    w = (w * radius / torch.linalg.matrix_norm(w, 2)).requires_grad_()
    return w, normal(3, size, seed=seed + 1)


def f(z, w, b):
    return torch.tanh(z @ w.T + b)


def test_a_linear_solve_that_fails_in_the_backward_pass_is_no_silent_zero():
    w, b = layer(0.9)
    problem = FixedPointProblem(f, torch.zeros(3, 6, dtype=F64), args=(w, b))
    tight = Tolerance(rtol=1e-12, atol=1e-14)
    z = solve(problem, gradient=Implicit(CG(), tolerance=tight, max_steps=2)).value
    with pytest.raises(ConvergenceError, match=r"not solved in 3 of 3 rows.*residual"):
        z.sum().backward()
    assert w.grad is None


@pytest.mark.parametrize("gradient", [Implicit(), Unrolled(), Truncated(5)], ids=str)
def test_there_are_gradients_in_eval_mode(gradient):
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh()).to(F64).eval()
    with torch.no_grad():
        module[0].weight.mul_(0.5)
    z = solve(FixedPointProblem(module, torch.zeros(2, 4, dtype=F64)), Picard(), gradient=gradient).value
    z.sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in module.parameters())


def test_misspelled_options_are_not_ignored():
    with pytest.raises(TypeError, match="damping"):
        Picard(dampening=0.5)
    with pytest.raises(TypeError, match="restart"):
        GMRES(restarts=3)
    with pytest.raises(TypeError, match="per_row"):
        RungeKutta("dopri5", perrow=True)


def test_damped_iteration_does_not_stop_because_its_steps_are_short():
    problem = FixedPointProblem(lambda z: 0.9 * z + 1, torch.zeros(1, 1, dtype=F64))
    tolerance = Tolerance(rtol=0.0 + 1e-12, atol=1e-4)
    z = solve(problem, Picard(damping=0.01), tolerance=tolerance, max_steps=100_000).value
    # The residual f(z) - z = 0.1 (10 - z) is what the tolerance bounds; a damped step is a hundredth of it.
    assert abs(0.9 * float(z) + 1 - float(z)) <= 1e-4 + 1e-11


def test_cg_keeps_its_last_step():
    # Two eigenvalues of A^T A: the second step is exact, the first is not.
    matrix = torch.diag(torch.tensor([0.5, -1.0], dtype=F64))
    g = torch.tensor([[1.0, 1.0]], dtype=F64)
    problem = LinearProblem(lambda w: w @ matrix, g, transpose=lambda w: w @ matrix.T)
    w = solve(problem, CG(), max_steps=2, throw=False).value
    torch.testing.assert_close(w, torch.tensor([[2.0, 0.5]], dtype=F64), rtol=1e-13, atol=0)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_neumann_and_truncated_back_propagation_count_alike(steps):
    w, b = layer(0.8)
    problem = FixedPointProblem(f, torch.zeros(3, 6, dtype=F64), args=(w, b))
    tight, found = Tolerance(rtol=1e-14, atol=1e-14), []
    for gradient in (Truncated(steps), Implicit(Neumann(terms=steps - 1))):
        z = solve(problem, gradient=gradient, tolerance=tight).value
        found.append(torch.autograd.grad(z.square().sum(), w)[0])
    torch.testing.assert_close(*found, rtol=1e-11, atol=1e-13)


def test_rbp_starts_from_zero_unless_it_is_told_otherwise():
    w, b = layer(0.5)
    problem = FixedPointProblem(f, torch.zeros(3, 6, dtype=F64), args=(w, b))
    exact, found = None, []
    for linear in (GMRES(), RBP(terms=3), RBP(terms=3, z0=torch.full((3, 6), 1e4, dtype=F64))):
        z = solve(problem, gradient=Implicit(linear), tolerance=Tolerance(1e-12, 1e-13)).value
        grad = torch.autograd.grad(z.square().sum(), w)[0]
        exact = grad if exact is None else exact
        found.append(float((grad - exact).norm() / exact.norm()))
    # |J|^3 is at most an eighth; a far start is felt.
    assert 0 < found[1] < 0.2
    assert found[2] > 2


def test_the_jacobian_product_of_a_hopfield_network_is_that_of_finite_differences():
    w = normal(5, 5, seed=3)
    w = w + w.T - torch.diag(2 * torch.diag(w))
    h = normal(2, 5, seed=4)
    v = normal(2, 5, seed=5)

    def field(t, h, w):
        return -h + torch.sigmoid(0.5 * h) @ w

    def end(h):
        return solve(InitialValueProblem(field, h, args=(w,)), RungeKutta("rk4", steps=8), gradient=Discrete()).value

    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(h, v)
        problem = InitialValueProblem(field, dual, args=(w,))
        found = solve(problem, RungeKutta("rk4", steps=8), gradient=ForwardMode()).value
        tangent = torch.autograd.forward_ad.unpack_dual(found).tangent
    differences = (end(h + 1e-6 * v) - end(h - 1e-6 * v)) / 2e-6
    torch.testing.assert_close(tangent, differences, rtol=1e-7, atol=1e-9)
