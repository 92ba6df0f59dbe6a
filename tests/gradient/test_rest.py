"""Gradients of rest points and of linear problems against dense implicit differentiation, and their stated bounds."""

import itertools
import math

import pytest
import torch
from torch import nn

from cde_nets.errors import ConvergenceError, ConvergenceWarning
from cde_nets.gradient import Implicit, RandomlyTruncated, Truncated, Unrolled, solve
from cde_nets.solver import (
    CG,
    GMRES,
    RBP,
    Anderson,
    BiCGStab,
    Dense,
    FixedPointProblem,
    LinearProblem,
    Neumann,
    Newton,
    OneStep,
    Picard,
    Status,
    Tolerance,
)

F64 = torch.float64
TIGHT = Tolerance(1e-13, 1e-14)
LINEAR = {
    "Dense": Dense(),
    "Neumann": Neumann(),
    "RBP": RBP(),
    "CG": CG(),
    "GMRES": GMRES(),
    "BiCGStab": BiCGStab(),
}
DIM = 4


pytestmark = pytest.mark.usefixtures("quick")


def normal(*shape, seed=0, scale=1.0):
    return scale * torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def rotation(radius):
    """Two planes turned by different angles: complex eigenvalues of that modulus."""
    blocks = [torch.tensor([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]], dtype=F64) for a in (1.0, 2.5)]
    turn = torch.linalg.qr(normal(DIM, DIM, seed=7))[0]
    return radius * turn @ torch.block_diag(*blocks) @ turn.T


def near_singular():
    """An eigenvalue of J at 1 - 1e-4 beside small ones."""
    turn = torch.linalg.qr(normal(DIM, DIM, seed=8))[0]
    return turn @ torch.diag(torch.tensor([1 - 1e-4, 0.3, -0.5, 0.1], dtype=F64)) @ turn.T


MATRICES = {
    "contraction": lambda: 0.5 * torch.linalg.qr(normal(DIM, DIM, seed=6))[0],
    "rotation": lambda: rotation(0.9),
    "expanding rotation": lambda: rotation(1.5),
    "near singular": near_singular,
}
# Series need a spectral radius below 1, and patience where it is near.
DIVERGES = {("expanding rotation", "bent"), ("expanding rotation", "affine"), ("near singular", "affine")}


def affine(z, a, b):
    return z @ a.T + b


def bent(z, a, b):
    return torch.tanh(z @ a.T + b)


class Rest:
    """Three rows of z = f(z, a, b)."""

    def __init__(self, name="contraction", function=bent):
        self.function = function
        self.a = MATRICES[name]().requires_grad_()
        self.b = normal(3, DIM, seed=1, scale=0.5).requires_grad_()
        self.w = normal(3, DIM, seed=2)

    @property
    def inputs(self):
        return self.a, self.b

    def problem(self):
        return FixedPointProblem(self.function, torch.zeros(3, DIM, dtype=F64), args=(self.a, self.b))

    def solve(self, gradient, method=None, **options):
        return solve(
            self.problem(), Newton() if method is None else method, gradient=gradient, tolerance=TIGHT, **options
        )

    def gradients(self, gradient, method=None, **options):
        value = self.solve(gradient, method, **options).value
        return torch.autograd.grad((value * self.w).sum(), self.inputs)

    def dense(self):
        """By the implicit function theorem, with the matrix written out row by row."""
        z = self.solve(None).value.detach()
        cotangents = []
        for row in range(3):
            b = self.b[row].detach()
            jacobian = torch.autograd.functional.jacobian(
                lambda z: self.function(z[None], self.a.detach(), b[None])[0],  # noqa: B023
                z[row],
            )
            cotangents.append(torch.linalg.solve(torch.eye(DIM, dtype=F64) - jacobian.T, self.w[row]))
        value = self.function(z, self.a, self.b)
        return torch.autograd.grad((value * torch.stack(cotangents)).sum(), self.inputs)


def close(mine, theirs, bound):
    for one, two in zip(mine, theirs, strict=True):
        size = float(two.detach().norm())
        assert size > 0
        assert float((one - two).detach().norm()) <= bound * size


@pytest.mark.parametrize("method", LINEAR)
@pytest.mark.parametrize(("matrix", "function"), [(m, f) for m in MATRICES for f in (bent, affine)])
def test_implicit_is_dense_implicit_differentiation(matrix, function, method):
    rest = Rest(matrix, function)
    if method in ("Neumann", "RBP") and (matrix, function.__name__) in DIVERGES:
        # A series that grows, or would need 1e5 terms, says so.
        with pytest.raises(ConvergenceError, match="backward pass's linear problem was not solved in 3 of 3 rows"):
            rest.gradients(Implicit(LINEAR[method], max_steps=300))
        return
    singular = matrix == "near singular" and function is affine
    # The condition is 1e4: by as much the error may exceed the residual.
    bound, tolerance = (1e-6, Tolerance(1e-11, 1e-12)) if singular else (1e-10, TIGHT)
    close(rest.gradients(Implicit(LINEAR[method], tolerance=tolerance)), rest.dense(), bound)


@pytest.mark.parametrize("method", [Picard(), Anderson(), Newton()], ids=str)
def test_the_gradient_does_not_depend_on_the_way_there(method):
    rest = Rest()
    close(rest.gradients(Implicit(), method), rest.dense(), 1e-10)


class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(DIM, DIM, dtype=F64)
        with torch.no_grad():
            self.linear.weight.copy_(0.5 * MATRICES["contraction"]())
            self.linear.bias.copy_(normal(DIM, seed=3))

    def forward(self, z, b):
        return torch.tanh(self.linear(z) + b)


def kinds():
    """Problems of every form, and what their gradient reaches."""
    rest, module = Rest(), Module()
    b, z0 = rest.b, torch.zeros(3, DIM, dtype=F64)
    edges = torch.tensor([[0, 1, 0], [1, 0, 1], [1, 1, 0]], dtype=F64)
    nested = {"p": torch.zeros(3, 2, dtype=F64), "q": (torch.zeros(3, 1, 2, dtype=F64),)}
    weight = normal(2, 2, seed=5, scale=0.3).requires_grad_()

    def parts(z, weight, b):
        p, (q,) = z["p"], z["q"]
        return {"p": torch.tanh(q[:, 0] @ weight + b[:, :2]), "q": (torch.sin(p[:, None] @ weight * 0.5) + 0.1,)}

    return {
        "args": (lambda: rest.problem(), rest.inputs),
        "module": (lambda: FixedPointProblem(module, z0, args=(b,)), (*module.parameters(), b)),
        "root": (lambda: FixedPointProblem.root(lambda z, a, b: bent(z, a, b) - z, z0, args=rest.inputs), rest.inputs),
        "coupled": (
            lambda: FixedPointProblem(
                lambda z, a, b: torch.tanh(0.4 * edges @ z @ a.T + b), z0, args=rest.inputs, coupled=True
            ),
            rest.inputs,
        ),
        "nested": (lambda: FixedPointProblem(parts, nested, args=(weight, b)), (weight, b)),
        "one row": (lambda: FixedPointProblem(bent, z0[0], args=(rest.a, b[0])), (rest.a, b)),
    }


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("method", ["Dense", "GMRES"])
def test_first_and_second_derivatives_are_those_of_finite_differences(kind, method):
    make, inputs = kinds()[kind]
    gradient = Implicit(LINEAR[method], tolerance=TIGHT)

    def value(*_):
        found = solve(make(), Newton(), gradient=gradient, tolerance=TIGHT).value
        return tuple(torch.utils._pytree.tree_leaves(found))

    assert torch.autograd.gradcheck(value, inputs, fast_mode=True, check_undefined_grad=False)
    assert torch.autograd.gradgradcheck(value, inputs, fast_mode=True, check_undefined_grad=False)


def conjugate(z, a, b):
    return 0.3 * (z @ a.T).conj() + 0.2 * z * z.conj() + 0.3 * b


def holomorphic(z, a, b):
    return 0.5 * torch.tanh(z @ a.T) + 0.3 * b


@pytest.mark.parametrize("function", [conjugate, holomorphic, lambda z, a, b: 0.3j * (z @ a.real.T.to(z.dtype)) + b])
@pytest.mark.parametrize("method", ["Dense", "GMRES"])
def test_derivatives_of_complex_rest_points_are_those_of_finite_differences(method, function):
    c = torch.complex128
    a = torch.complex(normal(3, 3, scale=0.25), normal(3, 3, seed=1, scale=0.25)).requires_grad_()
    b = torch.complex(normal(2, 3, seed=2), normal(2, 3, seed=3)).requires_grad_()

    def value(a, b):
        problem = FixedPointProblem(function, torch.zeros(2, 3, dtype=c), args=(a, b))
        return solve(problem, Newton(), gradient=Implicit(LINEAR[method], tolerance=TIGHT), tolerance=TIGHT).value

    assert torch.autograd.gradcheck(value, (a, b), fast_mode=True)
    assert torch.autograd.gradgradcheck(value, (a, b), fast_mode=True)
    tangent = torch.func.jvp(value, (a.detach(), b.detach()), (b.detach()[:1] * a.detach(), b.detach() * 1j))[1]
    ends = [value(a + h * b[:1] * a, b + h * 1j * b) for h in (1e-6, -1e-6)]
    torch.testing.assert_close(tangent, (ends[0] - ends[1]).detach() / 2e-6, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("form", ["matrix", "conjugate"])
@pytest.mark.parametrize("method", [GMRES(), Dense()], ids=str)
def test_a_linear_problem_is_differentiated_twice_in_its_right_hand_side(method, form):
    a, g = rotation(0.8), normal(3, DIM, seed=1)
    if form == "conjugate":
        a, g = 0.4 * torch.complex(a, a.T), torch.complex(g, g.flip(0))
    g.requires_grad_()

    def product(w):
        return w @ a if form == "matrix" else (w @ a).conj()

    def loss(g):
        value = solve(LinearProblem(product, g), method, gradient=Implicit(Dense()), tolerance=TIGHT).value
        return (value.abs().square() + value.abs() ** 4).sum()

    assert torch.autograd.gradcheck(loss, (g,), fast_mode=True)
    assert torch.autograd.gradgradcheck(loss, (g,), fast_mode=True)
    # The third derivative of |.|^4, in real numbers against one more finite difference.
    second = lambda g: torch.autograd.functional.hvp(loss, g, torch.ones_like(g), create_graph=True)[1]  # noqa: E731
    if form == "matrix":
        assert torch.autograd.gradcheck(second, (g,), fast_mode=True)


def test_dense_does_not_recommend_itself():
    g = normal(3, DIM).requires_grad_()
    problem = FixedPointProblem(lambda z, g: z + 0 * g, torch.ones(3, DIM, dtype=F64), args=(g,))
    value = solve(problem, Picard(), gradient=Implicit(Dense())).value
    with pytest.raises(ConvergenceError, match=r"Dense stopped.*or its tolerance\.$"):
        (value * normal(3, DIM, seed=1)).sum().backward()


def test_a_third_derivative_is_refused():
    rest = Rest()
    first = torch.autograd.grad(rest.solve(Implicit()).value.sum(), rest.b, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), rest.b, retain_graph=True)[0]
    assert second.any()
    with pytest.raises(RuntimeError, match="differentiated twice, not three times"):
        torch.autograd.grad(first.sum(), rest.b, create_graph=True)


def test_unrolled_is_autograd_through_the_loop_written_out():
    rest, steps, damping = Rest("rotation"), 7, 0.8
    start = normal(3, DIM, seed=4).requires_grad_()
    inputs = (start, *rest.inputs)
    problem = FixedPointProblem(bent, start, args=rest.inputs)
    value = solve(problem, Picard(damping=damping), gradient=Unrolled(), max_steps=steps, throw=False).value
    z = start
    for _ in range(steps):
        z = z + damping * (bent(z, rest.a, rest.b) - z)
    torch.testing.assert_close(value, z, rtol=1e-13, atol=1e-14)
    exact = torch.autograd.grad((z * rest.w).sum(), inputs, create_graph=True)
    found = torch.autograd.grad((value * rest.w).sum(), inputs, create_graph=True)
    close(found, exact, 1e-12)
    second = [torch.autograd.grad(sum(g.square().sum() for g in first), inputs) for first in (found, exact)]
    close(*second, 1e-11)


def test_unrolled_tends_to_implicit():
    rest = Rest()
    exact = rest.dense()
    for steps in (4, 12):
        found = rest.gradients(Unrolled(), Picard(), max_steps=steps, throw=False)
        error = max(float((f - e).norm() / e.norm()) for f, e in zip(found, exact, strict=True))
        assert 1e-3 * 0.5**steps < error < (steps + 2) * 0.5**steps * 2


@pytest.mark.parametrize("steps", [1, 2, 5, 9])
def test_truncated_is_the_neumann_series_at_rest_and_within_its_bound(steps):
    rest = Rest(function=affine)
    exact = rest.dense()
    found = rest.gradients(Truncated(steps))
    close(found, rest.gradients(Implicit(Neumann(steps - 1))), 1e-10)
    if steps == 1:
        close(found, rest.gradients(Implicit(OneStep())), 1e-10)
    # J is 1/2 of an orthogonal matrix: |J| = q = 1/2, and the gradient in b is the cotangent itself.
    q = 0.5
    missed = float((found[1] - exact[1]).norm(dim=1).div(rest.w.norm(dim=1)).max())
    assert 0.1 * q**steps < missed <= q**steps / (1 - q)


def test_an_inexact_gradient_is_inexact():
    rest = Rest()
    exact = rest.dense()
    for gradient in (Truncated(2), Implicit(Neumann(1)), Implicit(OneStep()), RandomlyTruncated(2)):
        found = rest.gradients(gradient)
        assert max(float((f - e).norm() / e.norm()) for f, e in zip(found, exact, strict=True)) > 1e-2


@pytest.mark.parametrize("distribution", ["uniform", "poisson", (0, 3.0, 1, 0.0, 2, 4)])
def test_random_truncation_is_unbiased(distribution, monkeypatch):
    rest, horizon = Rest("rotation"), 6
    gradient = RandomlyTruncated(horizon, distribution=distribution, mean=2.0)
    probabilities = gradient.probabilities()
    assert abs(float(probabilities.sum()) - 1) < 1e-14
    if distribution == "poisson":
        want = [math.exp(-2.0) * 2.0**k / math.factorial(k) for k in range(horizon)]
        torch.testing.assert_close(probabilities, torch.tensor(want, dtype=F64) / sum(want))
    if not isinstance(distribution, str):
        assert probabilities.tolist() == pytest.approx([0, 0.3, 0.1, 0, 0.2, 0.4], abs=1e-15)
    asked, mean, each = [], None, []
    for k, p in enumerate(probabilities.tolist()):
        if p == 0:
            continue
        monkeypatch.setattr(torch, "multinomial", lambda given, *_, k=k, **__: asked.append(given) or torch.tensor([k]))
        found = rest.gradients(gradient)
        monkeypatch.undo()
        each.append(found)
        mean = [p * f + (0 if mean is None else m) for f, m in zip(found, mean or found, strict=True)]
    assert len(asked) == int((probabilities > 0).sum())
    assert all(torch.equal(given, probabilities) for given in asked)
    close(mean, rest.gradients(Truncated(horizon)), 1e-12)
    # No single one is it: the mean is not of equal things.
    for one, two in itertools.combinations(each, 2):
        assert float((one[0] - two[0]).norm()) > 1e-3


@pytest.mark.parametrize(
    ("distribution", "said"),
    [
        ((1.0, 2.0), "for each K up to the horizon, 3; got 2"),
        ((1.0, -1.0, 1.0), "from 0, and finite; got -1.0"),
        ((1.0, math.inf, 1.0), "from 0, and finite; got inf"),
        ((1.0, 2.0, 0.0), "last number must be a number above 0"),
        ("poison", "did you mean 'poisson'"),
        (None, "Unknown distribution None"),
    ],
)
def test_what_is_no_distribution_is_refused(distribution, said):
    with pytest.raises(ValueError, match=said):
        RandomlyTruncated(3, distribution)


def test_random_truncation_draws_from_its_generator():
    rest = Rest()
    drawn = []
    for seed in (0, 0, 1, 2, 3):
        gradient = RandomlyTruncated(20, generator=torch.Generator().manual_seed(seed))
        drawn.append(rest.gradients(gradient)[0])
    assert torch.equal(drawn[0], drawn[1])
    assert not all(torch.equal(drawn[0], other) for other in drawn[2:])


@pytest.mark.parametrize("method", LINEAR)
def test_the_backward_pass_reports(method):
    rest = Rest()
    solution = rest.solve(Implicit(LINEAR[method]))
    assert solution.backward.status is None
    assert solution.backward.statistics is None
    (solution.value * rest.w).sum().backward()
    backward = solution.backward
    assert [Status(code) for code in backward.status.tolist()] == [Status.CONVERGED] * 3
    assert backward.statistics.products > 0
    assert backward.statistics.residual.shape == (3,)
    assert (backward.statistics.residual <= 1e-12).all()


def failing():
    """Four rows of z = a z + b; in row 1 the series of the adjoint does not converge."""
    rates = torch.tensor([[0.5], [2.0], [0.3], [-0.6]], dtype=F64)
    s = torch.tensor(1.0, dtype=F64, requires_grad=True)
    b = normal(4, 2, seed=1).requires_grad_()
    return rates, s, b


def failing_solve(rows, gradient, **options):
    rates, s, b = failing()

    def function(z, s, b):
        return s * rates[rows] * z + b[rows]

    problem = FixedPointProblem(function, torch.zeros(len(rows), 2, dtype=F64), args=(s, b))
    return s, b, solve(problem, Newton(), gradient=gradient, tolerance=Tolerance(1e-11, 1e-12), **options)


def test_a_linear_solve_that_fails_raises_with_its_residual():
    _, _, solution = failing_solve([0, 1, 2, 3], Implicit(Neumann(), max_steps=60))
    with pytest.raises(
        ConvergenceError, match=r"1 of 4 rows, row 1 first: Neumann stopped at residual .*e\+.* of .*Dense"
    ):
        solution.value.sum().backward()


def test_a_linear_solve_that_fails_warns_and_gives_nothing_without_throw():
    s, b, solution = failing_solve([0, 1, 2, 3], Implicit(Neumann(), max_steps=60), throw=False)
    with pytest.warns(ConvergenceWarning, match="1 of 4 rows"):
        solution.value.sum().backward()
    assert [Status(c).succeeded for c in solution.backward.status.tolist()] == [True, False, True, True]
    assert not b.grad[1].any()
    healthy, start, alone = failing_solve([0, 2, 3], Implicit(Neumann(), max_steps=60), throw=False)
    alone.value.sum().backward()
    torch.testing.assert_close(s.grad, healthy.grad, rtol=1e-12, atol=0)
    torch.testing.assert_close(b.grad[[0, 2, 3]], start.grad[[0, 2, 3]], rtol=1e-12, atol=0)
    exact = failing_solve([0, 1, 2, 3], Implicit(Dense()))
    exact[2].value.sum().backward()
    assert abs(float(exact[0].grad - s.grad)) > 0.1


ROWS_ALONE = [Implicit(), Implicit(Dense()), Implicit(Neumann(30)), Truncated(4), RandomlyTruncated(4), Unrolled()]


@pytest.mark.parametrize("gradient", ROWS_ALONE, ids=lambda g: type(g).__name__)
def test_a_row_that_is_not_a_number_leaves_shared_gradients_alone(gradient):
    module = Module()

    def gradients(start, b):
        torch.manual_seed(0)
        problem = FixedPointProblem(module, start, args=(b,))
        solution = solve(problem, Picard(), gradient=gradient, tolerance=Tolerance(1e-8, 1e-9), throw=False)
        value = solution.value[solution.succeeded]
        return solution.words(), torch.autograd.grad(
            (value * normal(*value.shape, seed=2)).sum(), list(module.parameters())
        )

    start, b = torch.zeros(3, DIM, dtype=F64), normal(3, DIM, seed=1)
    words, healthy = gradients(start[1:], b[1:])
    assert words == ["converged", "converged"]
    start[0, 0] = math.nan
    words, found = gradients(start, b)
    assert words == ["diverged", "converged", "converged"]
    close(found, healthy, 1e-12)


@pytest.mark.parametrize("gradient", ROWS_ALONE[:-1], ids=lambda g: type(g).__name__)
def test_where_no_row_is_left_gradients_are_zero(gradient):
    module, b = Module(), normal(2, DIM, seed=1).requires_grad_()
    problem = FixedPointProblem(module, torch.full((2, DIM), math.nan, dtype=F64), args=(b,))
    solution = solve(problem, Picard(), gradient=gradient, throw=False)
    solution.value.sum().backward()
    for t in (*module.parameters(), b):
        assert t.grad is not None
        assert not t.grad.any()


@pytest.mark.parametrize("gradient", [*(Implicit(m) for m in LINEAR.values()), Truncated(3), Unrolled()], ids=str)
def test_a_map_that_does_not_depend_on_the_state(gradient):
    b = normal(2, DIM, seed=1).requires_grad_()
    problem = FixedPointProblem(lambda z, b: b.sin(), torch.zeros(2, DIM, dtype=F64), args=(b,))
    value = solve(problem, Picard(), gradient=gradient).value
    found = torch.autograd.grad((value * value.detach()).sum(), b)[0]
    torch.testing.assert_close(found, b.cos() * b.sin())


@pytest.mark.parametrize("gradient", [Implicit(), Truncated(3), Unrolled()], ids=lambda g: type(g).__name__)
def test_the_gradient_is_the_same_in_train_and_eval_mode(gradient):
    module, found = Module(), []
    for mode in (True, False):
        module.train(mode)
        problem = FixedPointProblem(module, torch.zeros(3, DIM, dtype=F64), args=(normal(3, DIM, seed=1),))
        value = solve(problem, Picard(), gradient=gradient, tolerance=TIGHT).value
        found.append(torch.autograd.grad((value * normal(3, DIM, seed=2)).sum(), list(module.parameters())))
    assert all(map(torch.equal, *found))
    assert found[0][0].any()


@pytest.mark.parametrize("method", [GMRES(), Dense(), Neumann(), CG(), BiCGStab()], ids=str)
@pytest.mark.parametrize("gradient", [Implicit(), Implicit(Dense()), Implicit(CG()), Unrolled()], ids=str)
def test_a_linear_problem_is_differentiated_in_its_right_hand_side(gradient, method):
    a, g = rotation(0.8), normal(3, DIM, seed=1).requires_grad_()
    w = normal(3, DIM, seed=2)
    problem = LinearProblem(lambda v: v @ a, g, transpose=lambda v: v @ a.T)
    value = solve(problem, method, gradient=gradient, tolerance=TIGHT).value
    torch.testing.assert_close(
        value, torch.linalg.solve(torch.eye(DIM, dtype=F64) - a.T, g.T).T, rtol=1e-10, atol=1e-12
    )
    found = torch.autograd.grad((value * w).sum(), g)[0]
    # The series in unrolled Krylov steps is differentiated at the last step's accuracy.
    bound = 1e-10 if isinstance(gradient, Implicit) else 1e-6
    close([found], [torch.linalg.solve(torch.eye(DIM, dtype=F64) - a, w.T).T], bound)


def test_what_a_map_closes_over_is_refused():
    hidden = normal(DIM).requires_grad_()
    z0 = torch.zeros(2, DIM, dtype=F64)
    for gradient in (Implicit(), Truncated(2)):
        with pytest.raises(ValueError, match=r"nn\.Module.*args=.*Unrolled"):
            solve(FixedPointProblem(lambda z: 0.5 * z + hidden, z0), gradient=gradient)
    with pytest.raises(ValueError, match="which a linear problem does not know"):
        solve(LinearProblem(lambda w: 0.1 * w * hidden, normal(2, DIM)), gradient=Implicit())
    solve(FixedPointProblem(lambda z: 0.5 * z + hidden, z0), Picard(), gradient=Unrolled()).value.sum().backward()
    torch.testing.assert_close(hidden.grad, torch.full_like(hidden, 4.0), rtol=1e-5, atol=0)
