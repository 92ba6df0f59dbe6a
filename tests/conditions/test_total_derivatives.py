"""Every condition at a solved rest point: the derivative through z* and through J together."""

import pytest
import torch

import cde_nets as cn

F64 = torch.float64
TIGHT = cn.Tolerance(1e-14, 1e-15)
CONDITIONS = {
    "spectral_radius": lambda problem, z: cn.spectral_radius(problem, z).value,
    "spectral_norm": lambda problem, z: cn.spectral_norm(problem, z).value,
    "smallest_eigenvalue": lambda problem, z: cn.smallest_eigenvalue(problem, z).value,
    "eigenvalue_hinge": lambda problem, z: cn.eigenvalue_hinge(problem, z, 2.0),
    "gershgorin_bound": cn.gershgorin_bound,
    "gershgorin_frobenius": lambda problem, z: cn.gershgorin_bound(problem, z, "frobenius"),
    "gershgorin_hinge": lambda problem, z: cn.gershgorin_hinge(problem, z, 0.9),
    "squared_frobenius": lambda problem, z: cn.squared_frobenius(problem, z, samples=None),
}
EYE = torch.eye(4, dtype=F64)


def gram(J):
    return (EYE - J).mT @ (EYE - J)


DENSE = {
    "spectral_radius": lambda J: torch.linalg.eigvals(J).abs().amax(1),
    "spectral_norm": lambda J: torch.linalg.svdvals(J)[:, 0],
    "smallest_eigenvalue": lambda J: torch.linalg.eigvalsh(gram(J))[:, 0],
    "eigenvalue_hinge": lambda J: (2.0 - torch.linalg.eigvalsh(gram(J))[:, 0]).relu(),
    "gershgorin_bound": lambda J: 1 - torch.linalg.matrix_norm(gram(J) - EYE, torch.inf),
    "gershgorin_frobenius": lambda J: 1 - 2 * torch.linalg.matrix_norm(gram(J) - EYE),
    "gershgorin_hinge": lambda J: (torch.linalg.matrix_norm(gram(J) - EYE, torch.inf) - 0.1).relu(),
    "squared_frobenius": lambda J: torch.linalg.matrix_norm(J).square(),
}


pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def leaves(normal):
    """A map whose rest points are a contraction's, with complex eigenvalues."""
    a = torch.block_diag(torch.tensor([[0.2, -0.7], [0.5, 0.3]]), torch.tensor([[0.3, 0.5], [-0.1, -0.2]])).double()
    return (a + 0.05 * normal(4, 4, seed=1)).requires_grad_(), normal(2, 4, seed=2, scale=0.4).requires_grad_()


def rest(bent, a, b):
    problem = cn.FixedPointProblem(bent, torch.zeros(2, 4, dtype=F64), args=(a, b))
    return problem, cn.solve(problem, cn.Newton(), gradient=cn.Implicit(), tolerance=TIGHT).value


@pytest.mark.parametrize("name", CONDITIONS)
def test_against_finite_differences_of_everything_solved_again(bent, leaves, name):
    def value(a, b):
        return CONDITIONS[name](*rest(bent, a, b))

    assert torch.autograd.gradcheck(value, leaves, fast_mode=True)


@pytest.mark.parametrize("name", CONDITIONS)
def test_against_dense_algebra_differentiated_by_autograd(bent, leaves, name):
    problem, z = rest(bent, *leaves)
    mine = CONDITIONS[name](problem, z)
    dense = DENSE[name](bent.jacobian(z, *leaves))
    torch.testing.assert_close(mine, dense, rtol=1e-12, atol=1e-13)
    for one, two in zip(
        torch.autograd.grad(mine.sum(), leaves, retain_graph=True),
        torch.autograd.grad(dense.sum(), leaves),
        strict=True,
    ):
        assert two.any()
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", CONDITIONS)
def test_z_without_a_graph_gives_the_partial_derivative(bent, leaves, name):
    problem, z = rest(bent, *leaves)
    z = z.detach().requires_grad_()
    mine = torch.autograd.grad(CONDITIONS[name](problem, z).sum(), (z, *leaves))
    dense = torch.autograd.grad(DENSE[name](bent.jacobian(z, *leaves)).sum(), (z, *leaves))
    torch.testing.assert_close(mine, dense, rtol=1e-9, atol=1e-11)
    fixed = torch.autograd.grad(CONDITIONS[name](problem, z.detach()).sum(), leaves)
    torch.testing.assert_close(fixed, mine[1:], rtol=1e-9, atol=1e-11)


def test_parameters_of_a_module_and_what_a_function_closes_over(normal):
    z = normal(2, 4, seed=5)
    module = torch.nn.Sequential(torch.nn.Linear(4, 4, dtype=F64), torch.nn.Tanh())
    for function in (module, lambda z: torch.tanh(z @ module[0].weight.T + module[0].bias)):
        problem = cn.FixedPointProblem(function, z)
        for name, condition in CONDITIONS.items():
            slope = 1 - module(z).square()
            dense = DENSE[name](slope[:, :, None] * module[0].weight)
            expected = torch.autograd.grad(dense.sum(), list(module.parameters()))
            found = torch.autograd.grad(condition(problem, z).sum(), list(module.parameters()))
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["spectral_radius", "spectral_norm", "smallest_eigenvalue", "eigenvalue_hinge"])
def test_what_holds_an_eigenvector_is_not_differentiated_twice(bent, leaves, name):
    problem, z = rest(bent, *leaves)
    value = CONDITIONS[name](problem, z).sum()
    with pytest.raises(RuntimeError, match="eigenvector held, and is right only once: no create_graph=True"):
        torch.autograd.grad(value, leaves, create_graph=True)


@pytest.mark.parametrize("name", CONDITIONS)
def test_without_a_graph_there_is_none(bent, leaves, name):
    problem, z = rest(bent, *leaves)
    with torch.no_grad():
        assert not CONDITIONS[name](problem, z).requires_grad
    plain = cn.FixedPointProblem(bent, z.detach(), args=tuple(leaf.detach() for leaf in leaves))
    assert not CONDITIONS[name](plain, z.detach()).requires_grad
