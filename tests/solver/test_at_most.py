"""So many steps and no more."""

import pytest
import torch

import cde_nets as cn

F64 = torch.float64


def system(n=6):
    g = torch.Generator().manual_seed(0)
    J = 0.8 * torch.randn(n, n, dtype=F64, generator=g) / n**0.5
    return J, torch.randn(2, n, dtype=F64, generator=g)


def krylov_least_squares(A, g, k):
    """The least |g - A w| over span{A^T g, (A^T A) A^T g, ..}: what k steps of CG on the normal equations reach."""
    columns = [A.T @ g]
    for _ in range(k - 1):
        columns.append(A.T @ A @ columns[-1])
    K = torch.linalg.qr(torch.stack(columns, 1)).Q
    return K @ torch.linalg.lstsq(A @ K, g[:, None]).solution[:, 0]


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_conjugate_gradients_that_are_stopped(steps):
    J, g = system()
    problem = cn.LinearProblem(lambda w: w @ J, g, transpose=lambda v: v @ J.T)
    found = cn.solve(problem, cn.AtMost(cn.CG(), steps), tolerance=cn.Tolerance(1e-300, 1e-300))
    assert found.words() == ["done", "done"]
    assert found.statistics.accepted.tolist() == [steps, steps]
    A = torch.eye(6, dtype=F64) - J.T
    for row in range(2):
        torch.testing.assert_close(found.value[row], krylov_least_squares(A, g[row], steps), rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(found.statistics.residual[row], (g[row] - A @ found.value[row]).norm())


def test_rows_that_arrive_before_have_converged():
    f = lambda z: torch.tensor([[0.1], [0.99]], dtype=F64) * z + 1  # noqa: E731
    found = cn.solve(cn.FixedPointProblem(f, torch.zeros(2, 1, dtype=F64)), cn.AtMost(cn.Picard(), 20))
    assert found.words() == ["converged", "done"]
    assert found.statistics.accepted[1] == 20
    assert found.succeeded.all()
    torch.testing.assert_close(found.value[1, 0], torch.tensor((1 - 0.99**20) / 0.01, dtype=F64))


def test_a_backward_pass_that_is_stopped_gives_that_gradient():
    """CG-RBP: the gradient is df/db^T w with w of so many steps."""
    J, g = system()
    b = torch.zeros(2, 6, dtype=F64, requires_grad=True)
    layer = cn.EquilibriumLayer(lambda x, z: z @ J.T + x, cn.Picard(), cn.Implicit(cn.AtMost(cn.CG(), 3)))
    layer(b).backward(g)
    A = torch.eye(6, dtype=F64) - J.T
    for row in range(2):
        torch.testing.assert_close(b.grad[row], krylov_least_squares(A, g[row], 3), rtol=1e-8, atol=1e-10)


def test_a_row_that_cannot_go_on_is_done_with_what_it_has():
    """A singular system, without a solution: what is left of g is its part outside of the range."""
    J = torch.diag(torch.tensor([1.0, 0.0], dtype=F64))
    g = torch.tensor([[3.0, 4.0]], dtype=F64)
    problem = cn.LinearProblem(lambda w: w @ J, g, transpose=lambda v: v @ J.T)
    bare = cn.solve(problem, cn.CG(), throw=False)
    assert bare.words() == ["breakdown"]
    found = cn.solve(problem, cn.AtMost(cn.CG(), 50))
    assert found.words() == ["done"]
    torch.testing.assert_close(found.value, torch.tensor([[0.0, 4.0]], dtype=F64))
    torch.testing.assert_close(found.statistics.residual, torch.tensor([3.0], dtype=F64))


def test_a_row_that_is_lost_is_lost():
    f = lambda z: torch.where(z > 3, torch.nan, z + 1)  # noqa: E731
    found = cn.solve(cn.FixedPointProblem(f, torch.zeros(1, 1, dtype=F64)), cn.AtMost(cn.Picard(), 20), throw=False)
    assert found.words() == ["diverged"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cn.AtMost(cn.CG(), 0), "steps must be an integer of at least 1; got 0"),
        (lambda: cn.AtMost(cn.RungeKutta("rk4"), 5), "AtMost takes a method for rest or linear problems"),
        (lambda: cn.AtMost(cn.CG, 5), r"got <class .*: say CG\(\)"),
        (lambda: cn.AtMost("cg", 5), "AtMost takes a method for rest or linear problems"),
        (lambda: cn.solve(cn.FixedPointProblem(torch.cos, torch.ones(1)), cn.AtMost(cn.Picard(steps=3), 5)),
         r"Picard\(.*steps=3\) has a number of steps of its own"),
        (lambda: cn.EquilibriumLayer(torch.add, cn.AtMost(cn.CG(), 5)), "forward must be a method for rest"),
    ],
)  # fmt: skip
def test_bad_input(make, message, bad_input):
    with pytest.raises(ValueError, match=message):
        make()
