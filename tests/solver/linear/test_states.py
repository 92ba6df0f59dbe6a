"""States of any shape, and rows that see each other."""

import pytest
import torch

from cde_nets.solver.linear import CG, GMRES, RBP, BiCGStab, Dense, Neumann
from cde_nets.solver.linear_problem import LinearProblem

ALL = [Dense(), Neumann(), RBP(), CG(), GMRES(), BiCGStab()]


@pytest.mark.parametrize("method", ALL, ids=str)
def test_a_dict_and_a_tuple(kinds, solve, method):
    systems = kinds.contractions(dim=10)
    plain = systems.problem()

    def split(x):
        return {"a": x[:, :6].reshape(4, 2, 3), "b": (x[:, 6], x[:, 7:])}

    def join(tree):
        return torch.cat([tree["a"].reshape(4, 6), tree["b"][0][:, None], tree["b"][1]], 1)

    problem = LinearProblem(
        lambda w: split(plain.product(join(w))),
        split(systems.g),
        transpose=lambda v: split(join(v) - plain.apply_transposed(join(v))),
    )
    found = solve(problem, method)
    torch.testing.assert_close(join(problem.packing.unpack(found.w)), systems.solution, rtol=0, atol=1e-10)
    if isinstance(method, RBP):
        again = solve(problem, RBP(z0=problem.packing.unpack(found.w)), rtol=1e-10)
        assert int(again.state.accepted.max()) == 0


@pytest.mark.parametrize("method", ALL, ids=str)
def test_nodes_of_a_graph_are_one_row(solve, method):
    # J = P (x) B mixes the nodes by P: no node has a solution of its own.
    torch.manual_seed(0)
    P = torch.softmax(torch.randn(5, 5, dtype=torch.float64), 1)
    B = 0.3 * torch.randn(3, 3, dtype=torch.float64)
    g = torch.randn(5, 3, dtype=torch.float64)
    problem = LinearProblem(lambda w: P.T @ w @ B.T, g, transpose=lambda v: P @ v @ B, coupled=True)
    found = solve(problem, method)
    assert found.words == ["CONVERGED"]
    exact = torch.linalg.solve(torch.eye(15, dtype=torch.float64) - torch.kron(P.T.contiguous(), B), g.reshape(15))
    torch.testing.assert_close(problem.packing.unpack(found.w), exact.reshape(5, 3), rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", ALL, ids=str)
def test_a_vector_is_one_row(solve, method):
    J = torch.tensor([[0.1, 0.5], [-0.4, 0.2]], dtype=torch.float64)
    g = torch.tensor([1.0, 2.0], dtype=torch.float64)
    problem = LinearProblem(lambda w: J.T @ w, g, transpose=lambda v: J @ v)
    found = solve(problem, method)
    exact = torch.linalg.solve(torch.eye(2, dtype=torch.float64) - J.T, g)
    torch.testing.assert_close(problem.packing.unpack(found.w), exact, rtol=0, atol=1e-10)
