"""The smallest eigenvalue of (I - J)^T (I - J) against dense algebra, and its hinge."""

import pytest
import torch

import cde_nets as cn
from cde_nets.errors import ConvergenceWarning

F64 = torch.float64
KINDS = ["random", "turns", "nonnormal", "symmetric", "single"]


def gram(J):
    A = torch.eye(J.shape[1], dtype=J.dtype) - J
    return A.mT @ A


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_against_dense_eigenvalues(kinds, at, kind, dtype):
    J = getattr(kinds, kind)().to(dtype)
    found = cn.smallest_eigenvalue(*at(J))
    assert found.words() == ["converged"] * 3
    assert found.value.dtype == dtype
    values = torch.linalg.eigvalsh(gram(J.double()))
    assert ((found.value.double() - values[:, 0]).abs() <= 20 * torch.finfo(dtype).eps * values[:, -1]).all()


def with_singular_values(values, orthogonal):
    """J with these singular values of I - J."""
    n = len(values)
    return torch.eye(n, dtype=F64) - (orthogonal(n, seed=1) * values) @ orthogonal(n, seed=2)


@pytest.mark.parametrize("n", [30, 150, 300])
@pytest.mark.parametrize("spread", ["cluster", "geometric", "even"])
def test_small_eigenvalues_that_lie_close_together(at, orthogonal, n, spread):
    values = {
        # The smallest ones apart by a thousandth, far below the largest.
        "cluster": torch.cat([1e-2 + 1e-5 * torch.arange(10, dtype=F64), torch.linspace(1, 3, n - 10, dtype=F64)]),
        "geometric": torch.logspace(-3, 0.5, n, dtype=F64),
        "even": torch.linspace(0.05, 2, n, dtype=F64),
    }[spread]
    found = cn.smallest_eigenvalue(*at(with_singular_values(values, orthogonal)[None]))
    assert found.words() == ["converged"]
    assert found.products <= 2 * n + 1
    assert float(found.value) == pytest.approx(float(values[0] ** 2), rel=1e-9)


@pytest.mark.parametrize("smallest", [1e-3, 1e-6, 1e-9, 0.0])
def test_a_matrix_that_is_singular_or_nearly_so(at, orthogonal, smallest):
    values = torch.cat([torch.tensor([smallest], dtype=F64), torch.linspace(1, 2, 19, dtype=F64)])
    found = cn.smallest_eigenvalue(*at(with_singular_values(values, orthogonal)[None]))
    assert found.words() == ["converged"]
    # |v - J v|^2 of a vector that is known to rounding: the square of what a singular value is known to.
    assert abs(float(found.value) ** 0.5 - smallest) <= 1e-14
    assert float(found.value) >= 0


@pytest.mark.parametrize("steps", [1, 4, 12])
def test_too_few_steps_give_an_upper_bound_and_say_so(at, orthogonal, steps):
    values = torch.logspace(-3, 0.5, 60, dtype=F64)
    J = with_singular_values(values, orthogonal)[None]
    found = cn.smallest_eigenvalue(*at(J), max_steps=steps)
    assert found.words() == ["max_steps"]
    assert found.products == 2 * steps + 1
    assert float(found.value) > float(values[0] ** 2)
    apart = (torch.linalg.eigvalsh(gram(J)) - found.value[:, None]).abs().amin()
    assert float(apart) <= float(found.residual) * (1 + 1e-9)


@pytest.mark.parametrize("kind", ["random", "nonnormal", "symmetric", "single"])
def test_the_derivative_is_that_of_dense_eigenvalues(kinds, at, kind):
    J = getattr(kinds, kind)().requires_grad_()
    (mine,) = torch.autograd.grad(cn.smallest_eigenvalue(*at(J)).value.sum(), J)
    (dense,) = torch.autograd.grad(torch.linalg.eigvalsh(gram(J))[:, 0].sum(), J)
    torch.testing.assert_close(mine, dense, rtol=0, atol=1e-11)


def test_a_multiple_eigenvalue_gives_an_element_of_the_superdifferential(at, orthogonal):
    values = torch.tensor([0.5, 0.5, 0.5, 1.0, 2.0], dtype=F64)
    J = with_singular_values(values, orthogonal).requires_grad_()
    found = cn.smallest_eigenvalue(*at(J[None]))
    assert float(found.value.detach()) == pytest.approx(0.25, rel=1e-13)
    (g,) = torch.autograd.grad(found.value.sum(), J)
    # g = -2 (I - J) S with S positive, of trace 1, on the eigenspace.
    A = torch.eye(5, dtype=F64) - J.detach()
    S = torch.linalg.solve(A, g) / -2
    torch.testing.assert_close(S, S.T, rtol=0, atol=1e-12)
    torch.testing.assert_close(gram(J.detach()) @ S, 0.25 * S, rtol=0, atol=1e-12)
    assert float(S.trace()) == pytest.approx(1, rel=1e-12)
    assert float(torch.linalg.eigvalsh(S)[0]) > -1e-12


def test_the_hinge_is_what_is_missing_to_eps(kinds, at):
    J = kinds.random()
    smallest = torch.linalg.eigvalsh(gram(J))[:, 0]
    eps = float(smallest.median())
    found = cn.eigenvalue_hinge(*at(J), eps)
    torch.testing.assert_close(found, (eps - smallest).clamp(min=0), rtol=1e-10, atol=1e-14)
    assert sorted((found > 1e-12).tolist()) == [False, False, True]


def test_with_eps_of_zero_there_is_no_hinge(kinds, at, bad_input):
    # max(0, -lambda_min) is zero everywhere, as the smallest eigenvalue of a Gram matrix is not negative.
    assert (cn.smallest_eigenvalue(*at(kinds.nonnormal())).value >= 0).all()
    with pytest.raises(ValueError, match="eps must be a number above 0"):
        cn.eigenvalue_hinge(*at(kinds.nonnormal()), 0.0)


def test_descending_the_hinge_makes_a_singular_matrix_regular(at, orthogonal):
    values = torch.cat([torch.tensor([1e-4], dtype=F64), torch.linspace(0.5, 1.5, 7, dtype=F64)])
    J = with_singular_values(values, orthogonal)[None].requires_grad_()
    for _ in range(200):
        loss = cn.eigenvalue_hinge(*at(J), 0.1).sum()
        if not loss:
            break
        (g,) = torch.autograd.grad(loss, J)
        J = (J.detach() - 0.2 * g).requires_grad_()
    assert float(torch.linalg.eigvalsh(gram(J.detach()))[0, 0]) >= 0.1


def test_a_hinge_that_could_not_see_warns(at, orthogonal):
    J = with_singular_values(torch.logspace(-3, 0.5, 40, dtype=F64), orthogonal)[None]
    with pytest.warns(ConvergenceWarning, match="in 1 of 1 rows.*too small there. Raise max_steps"):
        cn.eigenvalue_hinge(*at(J), 1.0, max_steps=3)


@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_the_derivative_beside_close_eigenvalues(at, orthogonal, spread):
    # The next eigenvalue is 4 and 12 per cent above, the largest 10 and 1e7 times.
    values = torch.logspace(-spread, 0.5, int(60 * spread), dtype=F64)
    J = with_singular_values(values, orthogonal).requires_grad_()
    (mine,) = torch.autograd.grad(cn.smallest_eigenvalue(*at(J[None])).value.sum(), J)
    # u v^T of the smallest singular value, by how J was made.
    u, v = orthogonal(len(values), seed=1)[:, 0], orthogonal(len(values), seed=2)[0]
    exact = -2 * values[0] * torch.outer(u, v)
    torch.testing.assert_close(mine, exact, rtol=0, atol=1e-6 * float(exact.norm()))
