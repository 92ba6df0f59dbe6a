"""Vectors that are kept, made orthogonal, and weighed: in buffers and without."""

import pytest
import torch

from cde_nets.solver import FixedPointProblem, Limits, LinearProblem, Tolerance, run
from cde_nets.solver.krylov import Gram, Window, apart
from cde_nets.solver.linear import GMRES
from cde_nets.solver.rest import Anderson, Broyden

F64 = torch.float64


@pytest.mark.parametrize("most", [1, 3, 20, None])
@pytest.mark.parametrize("recorded", [False, True])
def test_a_window_holds_the_newest_first(most, recorded):
    vectors = torch.randn(50, 2, 3)
    with torch.set_grad_enabled(recorded):
        window = Window.empty(vectors[0], most, F64)
        assert (window.buffer is None) == recorded
        for k in range(50):
            window = window.add(vectors[k])
            kept = vectors[: k + 1].flip(0)[:most].transpose(0, 1).to(F64)
            assert torch.equal(window.kept, kept)
            assert torch.equal(window.led_by(vectors[0])[:, 0], vectors[0].to(F64))
            assert torch.equal(window.led_by(vectors[0])[:, 1], vectors[k].to(F64))
            assert torch.equal(window.kept, kept)


def test_under_a_transform_there_is_no_buffer():
    def newest(x):
        with torch.no_grad():
            window = Window.empty(x, 2)
            assert window.buffer is None
            return window.add(x).add(2 * x).kept

    x = torch.randn(4, 2, 3)
    assert torch.equal(torch.func.vmap(newest)(x), torch.stack([2 * x, x], 2))


@pytest.mark.parametrize("recorded", [False, True])
def test_the_weights_are_those_of_least_squares(recorded):
    vectors, target = torch.randn(9, 3, 7, dtype=F64), torch.randn(3, 7, dtype=F64)
    with torch.set_grad_enabled(recorded):
        gram = Gram.empty(target, 4)
        for k in range(9):
            gram = gram.add(vectors[k])
            gamma, gram = gram.weights(target, 1e-13)
            columns = vectors[: k + 1].flip(0)[:4].permute(1, 2, 0)
            expected = torch.linalg.lstsq(columns, target[:, :, None]).solution.mT
            torch.testing.assert_close(gamma, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("dtype", [F64, torch.complex128])
def test_what_lies_in_the_basis_is_projected_twice_and_the_rows_beside_it_are_not_touched(dtype):
    basis = torch.linalg.qr(torch.randn(3, 8, 4, dtype=dtype))[0].mT
    x = torch.randn(3, 8, dtype=dtype)
    x[1] = 1e-9 * x[1] + basis[1, 2]
    x[2] = basis[2, 0]
    along, rest, length, closed = apart(basis, x)
    assert closed.tolist() == [False, False, True]
    assert float((rest[1][None] @ basis[1].mH).abs().max()) < 1e-15 * 10
    torch.testing.assert_close(length, rest.norm(dim=1))
    torch.testing.assert_close((along @ basis)[:, 0] + rest, x)
    alone = apart(basis[:1], x[:1])
    assert alone.closed is None
    torch.testing.assert_close(rest[0], alone.rest[0], rtol=0, atol=1e-15)
    live = torch.tensor([[True, False, True, True]] * 3)[:, None]
    assert (apart(basis, x, live).along[:, :, 1] == 0).all()


@pytest.mark.parametrize("method", [Anderson(), Anderson(history=2), Broyden(), Broyden(history=2)], ids=str)
def test_iterations_for_rest_are_the_same_in_buffers_and_without(method):
    W = torch.randn(8, 8, dtype=F64)
    W, b = 0.97 * W / torch.linalg.matrix_norm(W, 2), torch.randn(4, 8, dtype=F64)

    def solve():
        problem = FixedPointProblem(lambda z: torch.tanh(z @ W.T + b), torch.zeros(4, 8, dtype=F64))
        return run(problem, method.resolve(problem), Limits(Tolerance(rtol=1e-12, atol=1e-12), 500)).value

    with torch.no_grad():
        inside = solve()
    torch.testing.assert_close(inside, solve(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("restart", [3, 30])
def test_gmres_is_the_same_in_buffers_and_without_and_where_nothing_is_read(restart, reads):
    J = 0.9 * torch.linalg.qr(torch.randn(4, 30, 30, dtype=F64))[0]
    J[0] *= 0.1
    g = torch.randn(4, 30, dtype=F64)

    def solve():
        problem = LinearProblem(lambda w: (J @ w[:, :, None])[:, :, 0], g)
        return run(problem, GMRES(restart=restart), Limits(Tolerance(rtol=1e-10, atol=1e-12), 2000))

    expected = torch.linalg.solve(torch.eye(30, dtype=F64) - J, g)
    recorded = solve()
    with torch.no_grad():
        unread = solve()
    for found in (recorded, unread):
        torch.testing.assert_close(found.value, expected, rtol=1e-7, atol=1e-7)
    assert torch.equal(recorded.accepted, unread.accepted)
