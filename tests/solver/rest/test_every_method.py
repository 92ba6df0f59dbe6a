"""What holds of all methods for rest: they find it, every row by itself, and count what they did."""

import math

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import nn

from cde_nets.solver import Status
from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.rest import Anderson, Broyden, FlowToRest, Newton, NewtonKrylov, Picard

F64 = torch.float64
METHODS = {
    "picard": Picard(),
    "damped": Picard(damping=0.5),
    "anderson": Anderson(),
    "anderson-damped": Anderson(history=3, damping=0.6),
    "broyden": Broyden(),
    "broyden-all": Broyden(history=None),
    "newton": Newton(),
    "newton-plain": Newton(line_search=False),
    "newton-krylov": NewtonKrylov(),
    "eisenstat-walker": NewtonKrylov(krylov=6, forcing=None),
    "flow": FlowToRest(),
    "flow-dopri5": FlowToRest("dopri5"),
    "flow-heun": FlowToRest("heun"),
    "flow-euler": FlowToRest("euler", step=1.0),
    "flow-rk4": FlowToRest("rk4", step=0.7),
}
# Those that find what repels Picard.
BOLD = {
    name: METHODS[name] for name in ("anderson", "broyden", "broyden-all", "newton", "newton-plain", "newton-krylov")
}


def every(methods):
    return pytest.mark.parametrize("method", methods.values(), ids=methods.keys())


@every(METHODS)
def test_affine_maps_rest_where_the_linear_system_says(find, maps, method):
    f, rest = maps.contraction()
    found = find(f, torch.zeros(4, 6, dtype=F64), method)
    assert found.words == ["CONVERGED"] * 4
    torch.testing.assert_close(found.value, rest, rtol=0, atol=1e-9)


@every(METHODS)
def test_complex_eigenvalues_near_the_unit_circle(find, maps, method):
    f, rest = maps.rotation(0.95)
    found = find(f, torch.zeros(3, 6, dtype=F64), method)
    assert found.words == ["CONVERGED"] * 3
    torch.testing.assert_close(found.value, rest, rtol=0, atol=1e-9)


@every(BOLD)
def test_rest_points_that_repel(find, maps, method):
    f, rest = maps.rotation(1.2)
    found = find(f, torch.zeros(3, 6, dtype=F64), method)
    assert found.words == ["CONVERGED"] * 3
    torch.testing.assert_close(found.value, rest, rtol=0, atol=1e-8)


def test_picard_does_not_find_what_repels(find, maps):
    f, _ = maps.rotation(1.2)
    assert find(f, torch.zeros(3, 6, dtype=F64), Picard(), max_steps=300).words == ["MAX_STEPS"] * 3
    found = find(f, torch.zeros(3, 6, dtype=F64), Picard(), max_steps=20_000)
    assert found.words == ["DIVERGED"] * 3
    assert torch.isfinite(found.state.value).all()


@every(METHODS)
def test_a_layer_against_scipy(find, maps, method):
    W, b = maps.layer()
    found = find(lambda z: torch.tanh(z @ W.T + b), torch.zeros(3, 8, dtype=F64), method)
    assert found.words == ["CONVERGED"] * 3
    for z, row in zip(found.value, b.numpy(), strict=True):
        theirs = scipy.optimize.root(lambda x: np.tanh(W.numpy() @ x + row) - x, np.zeros(8), tol=1e-14)  # noqa: B023
        assert theirs.success
        np.testing.assert_allclose(z.numpy(), theirs.x, rtol=0, atol=1e-10)


@every(METHODS)
def test_the_golden_ratio(find, method):
    found = find(lambda x: 1 + 1 / x, torch.tensor([[1.0], [1.5], [3.0]], dtype=F64), method)
    assert found.words == ["CONVERGED"] * 3
    torch.testing.assert_close(found.value, torch.full((3, 1), (1 + math.sqrt(5)) / 2, dtype=F64), rtol=0, atol=1e-10)


@every(BOLD)
def test_beside_a_pole(find, method):
    """x = 1 / (x - 1) from 1.6: the golden ratio repels Picard (slope -2.6), and 1 is a pole."""
    found = find(lambda x: 1 / (x - 1), torch.tensor([[1.6]], dtype=F64), method)
    assert found.words == ["CONVERGED"]
    assert float(found.value) == pytest.approx((1 + math.sqrt(5)) / 2, abs=1e-10)


@every(BOLD | {"flow": FlowToRest()})
def test_square_roots(find, method):
    squares = torch.tensor([[2.0], [3.0], [10.0]], dtype=F64)
    problem = FixedPointProblem.root(lambda x: squares - x * x, torch.ones(3, 1, dtype=F64))
    found = find(problem, None, method)
    assert found.words == ["CONVERGED"] * 3
    torch.testing.assert_close(found.value, squares.sqrt(), rtol=0, atol=1e-10)


def mixed(rows, maps):
    """Layers of different difficulty, one whose input is NaN (2), one that leaves the finite numbers (4)."""
    W, _ = maps.layer(1.0)
    scale = torch.tensor([0.1, 0.5, 0.5, 0.95, 1.0, 0.8], dtype=F64)[rows, None]
    blow = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0, 0.0], dtype=F64)[rows, None]
    b = maps.normal(6, 8, seed=7)
    b[2, 3] = math.nan
    b = b[rows]

    def f(z):
        # exp(z^2) + 2 has no rest point: from 1 on it leaves the finite numbers in a few steps of Picard.
        return torch.where(blow > 0, torch.exp(z * z) + 2, torch.tanh(scale * (z @ W.T) + b))

    return f, torch.ones(len(rows), 8, dtype=F64)


@every(METHODS)
def test_rows_are_what_they_are_alone(find, maps, method):
    together = find(*mixed(list(range(6)), maps), method, max_steps=400)
    for row in range(6):
        alone = find(*mixed([row], maps), method, max_steps=400)
        assert alone.words == together.words[row : row + 1]
        assert torch.equal(alone.state.accepted, together.state.accepted[row : row + 1])
        # Products of matrices round otherwise for other numbers of rows, and on other machines.
        torch.testing.assert_close(alone.value[0], together.value[row], rtol=0, atol=1e-11, equal_nan=True)
    assert together.words[:2] + together.words[3:4] + together.words[5:] == ["CONVERGED"] * 4
    assert together.words[2] == "DIVERGED"
    assert together.words[4] in ("DIVERGED", "STEP_TOO_SMALL", "BREAKDOWN", "MAX_STEPS")
    assert torch.isfinite(together.state.value).all()


@every(METHODS)
def test_a_row_that_starts_as_nan_fails_alone(find, maps, method):
    f, rest = maps.contraction()
    z0 = torch.zeros(4, 6, dtype=F64)
    z0[1, 2] = math.nan
    found = find(f, z0, method)
    assert found.words == ["CONVERGED", "DIVERGED", "CONVERGED", "CONVERGED"]
    assert torch.equal(found.value[1].isnan(), z0[1].isnan())
    assert found.state.residual.isnan().tolist() == [False, True, False, False]
    others = [0, 2, 3]
    torch.testing.assert_close(found.value[others], rest[others], rtol=0, atol=1e-9)


@every(METHODS)
def test_a_row_at_rest_takes_no_step(find, maps, method):
    f, rest = maps.contraction()
    z0 = rest.clone()
    z0[0] = 0
    found = find(f, z0, method, atol=1e-9)
    assert found.state.accepted[1:].tolist() == [0, 0, 0]
    assert torch.equal(found.value[1:], rest[1:])
    assert found.words == ["CONVERGED"] * 4


@every(METHODS)
def test_the_reported_residual_is_that_of_the_value(find, maps, method):
    W, b = maps.layer()
    found = find(lambda z: torch.tanh(z @ W.T + b), torch.zeros(3, 8, dtype=F64), method, rtol=1e-4, atol=1e-6)
    residual = (torch.tanh(found.value @ W.T + b) - found.value).norm(dim=1)
    torch.testing.assert_close(found.state.residual, residual, rtol=1e-9, atol=1e-14)
    assert (residual <= 1e-6 + 1e-4 * torch.tanh(found.value @ W.T + b).norm(dim=1)).all()


@every(METHODS)
def test_out_of_steps(find, maps, method):
    f, _ = maps.contraction()
    far = find(f, torch.full((4, 6), 100.0, dtype=F64), method, rtol=1e-15, atol=1e-300, max_steps=1)
    assert far.words == ["MAX_STEPS"] * 4
    assert (far.state.accepted + far.state.rejected == 1).all()


@every(METHODS)
def test_a_graph_is_one_row(find, maps, method):
    """Nodes that see each other."""
    A = torch.rand(5, 5, dtype=F64, generator=torch.Generator().manual_seed(0))
    A = 0.7 * A / A.sum(1, keepdim=True)
    b = maps.normal(5, 3, seed=8)
    found = find(lambda z: A @ z + b, torch.zeros(5, 3, dtype=F64), method, coupled=True)
    assert found.words == ["CONVERGED"]
    rest = torch.linalg.solve(torch.eye(5, dtype=F64) - A, b)
    torch.testing.assert_close(found.value, rest, rtol=0, atol=1e-9)


@every(METHODS)
def test_dicts_of_tensors(find, method):
    z0 = {"x": torch.zeros(2, 3, dtype=F64), "y": torch.zeros(2, dtype=F64)}

    def f(z):
        return {"x": torch.cos(z["x"] / 2 + z["y"][:, None] / 4), "y": 0.3 * z["x"].sum(1) + 1}

    found = find(f, z0, method)
    assert found.words == ["CONVERGED"] * 2
    image = f(found.value)
    assert all(torch.allclose(image[name], found.value[name], rtol=0, atol=1e-10) for name in ("x", "y"))


@every(METHODS)
def test_modules_and_arguments(find, maps, method):
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(maps.layer(0.7)[0])

        def forward(self, z, x):
            return torch.tanh(z @ self.weight.T + x)

    layer, x = Layer(), maps.layer()[1]
    found = find(layer, torch.zeros(3, 8, dtype=F64), method, args=(x,))
    assert found.words == ["CONVERGED"] * 3
    torch.testing.assert_close(layer(found.value, x), found.value, rtol=0, atol=1e-10)


@every(METHODS)
def test_complex_states(find, maps, method):
    """z -> A z + B conj(z) + c is no holomorphic map: as a real one it has its own Jacobian."""
    A, B, c = (torch.complex(maps.normal(*s, seed=9 + k), maps.normal(*s, seed=20 + k)) for k, s in enumerate(
        [(3, 3), (3, 3), (2, 3)]))  # fmt: skip
    A, B = 0.4 * A / torch.linalg.matrix_norm(A, 2), 0.3 * B / torch.linalg.matrix_norm(B, 2)
    found = find(lambda z: z @ A.T + z.conj() @ B.T + c, torch.zeros(2, 3, dtype=torch.complex128), method)
    assert found.words == ["CONVERGED"] * 2
    torch.testing.assert_close(found.value @ A.T + found.value.conj() @ B.T + c, found.value, rtol=0, atol=1e-10)


@every(METHODS)
def test_single_precision(find, maps, method):
    W, b = maps.layer(dtype=torch.float32)
    found = find(lambda z: torch.tanh(z @ W.T + b), torch.zeros(3, 8), method, rtol=1e-5, atol=1e-6)
    assert found.words == ["CONVERGED"] * 3
    assert found.value.dtype == torch.float32
    Wd, bd = W.double(), b.double()
    exact = find(lambda z: torch.tanh(z @ Wd.T + bd), torch.zeros(3, 8, dtype=F64), Newton()).value
    torch.testing.assert_close(found.value.double(), exact, rtol=0, atol=2e-4)


@every(METHODS)
def test_no_rows(find, method):
    found = find(torch.cos, torch.zeros(0, 3, dtype=F64), method)
    assert found.words == []
    assert found.state.accepted.shape == (0,)


@every(METHODS)
def test_one_read_a_step(find, maps, method, reads):
    """The loop's own; a method reads nothing."""
    W, b = maps.layer()
    with reads:
        found = find(lambda z: torch.tanh(z @ W.T + b), torch.zeros(3, 8, dtype=F64), method)
    steps = int((found.state.accepted + found.state.rejected).max())
    assert reads.count == steps + 1


@every({name: METHODS[name] for name in METHODS if not name.startswith(("newton", "eisenstat"))})
def test_a_step_is_one_evaluation(find, maps, method):
    W, b = maps.layer()
    found = find(lambda z: torch.tanh(z @ W.T + b), torch.zeros(3, 8, dtype=F64), method)
    stages = {"bosh3": 3, "dopri5": 6, "heun": 2, "rk4": 4}.get(getattr(method, "flow", ""), 1)
    steps = int((found.state.accepted + found.state.rejected).max())
    assert found.evaluations == 1 + stages * steps
    assert found.products == 0


@every({"newton": Newton(), "newton-krylov": NewtonKrylov(krylov=20), "five": NewtonKrylov(krylov=5)})
def test_products_are_counted(find, maps, method):
    W, b = maps.layer()
    found = find(lambda z: torch.tanh(z @ W.T + b), torch.zeros(3, 8, dtype=F64), method)
    steps = int((found.state.accepted + found.state.rejected).max())
    assert found.evaluations == steps + 1
    assert found.products == steps * min(8, getattr(method, "krylov", 8))


@every(METHODS)
def test_the_loop_unrolled_has_the_implicit_gradient(find, maps, method):
    """Iterated far enough, autograd through the loop gives what the implicit function theorem does."""
    W, b = maps.layer(0.6)
    leaves = W.clone().requires_grad_(), b.clone().requires_grad_()
    w = maps.normal(3, 8, seed=10)
    found = find(
        lambda z, W, b: torch.tanh(z @ W.T + b),
        torch.zeros(3, 8, dtype=F64),
        method,
        rtol=1e-14,
        atol=1e-13,
        args=leaves,
    )
    unrolled = torch.autograd.grad((found.value * w).sum(), leaves)
    z = found.value.detach()
    slope = 1 - torch.tanh(z @ W.T + b).square()
    J = slope[:, :, None] * W
    v = torch.linalg.solve(torch.eye(8, dtype=F64) - J.mT, w[:, :, None])[:, :, 0]
    for found_gradient, implicit in zip(unrolled, ((slope * v).mT @ z, slope * v), strict=True):
        torch.testing.assert_close(found_gradient, implicit, rtol=0, atol=1e-6)


@every({name: METHODS[name] for name in ("picard", "damped", "anderson", "broyden", "newton-krylov", "flow-rk4")})
def test_the_unrolled_gradient_is_that_of_the_steps_taken(find, maps, method):
    """After a few steps: against finite differences of the same few steps."""
    W, b = maps.layer(0.9, dim=4)

    def steps(W, b):
        z0 = torch.zeros(3, 4, dtype=F64)
        method_options = {"rtol": 1e-15, "atol": 1e-300, "max_steps": 3}
        return find(lambda z, W, b: torch.tanh(z @ W.T + b), z0, method, args=(W, b), **method_options).value

    assert torch.autograd.gradcheck(steps, (W.requires_grad_(), b.requires_grad_()))


@every(METHODS)
def test_rows_that_failed_stay_out_of_shared_gradients(find, maps, method):
    """One starts as NaN, one is led where f overflows; the gradient of the others is what it is without those."""

    def f(z, W, b, wild):
        return torch.where(wild, 1e3 * z.abs() ** 3 + 1, torch.tanh(z @ W.T + b))

    def gradient(rows):
        W, b = maps.layer(0.6, rows=4)
        wild = torch.tensor([[False], [False], [True], [False]])
        z0 = torch.zeros(4, 8, dtype=F64)
        z0[0], z0[2] = math.nan, 1e90
        found = find(f, z0[rows], method, args=(W.requires_grad_(), b[rows], wild[rows]), max_steps=300)
        return found, torch.autograd.grad(found.value[found.state.status == int(Status.CONVERGED)].sum(), W)[0]

    found, shared = gradient([0, 1, 2, 3])
    assert (found.words[0], found.words[1], found.words[3]) == ("DIVERGED", "CONVERGED", "CONVERGED")
    assert found.words[2] != "CONVERGED"
    torch.testing.assert_close(shared, gradient([1, 3])[1], rtol=1e-9, atol=1e-12)
