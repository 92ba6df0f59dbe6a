"""Products with a Jacobian from what autograd has recorded, against torch.func.jvp and dense algebra."""

import pytest
import torch
from torch import nn

import cde_nets as cn
from cde_nets.solver.function import PackedFunction
from cde_nets.solver.recorded import pushing
from cde_nets.solver.states import Packing

F64, C128 = torch.float64, torch.complex128


def normal(*shape, seed=0, dtype=F64):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def packed(function, z, args=()):
    return PackedFunction(function, args, Packing(z), "The map's value")


class Times(torch.autograd.Function):
    """The product with a number, whose backward has no derivative and says nothing of it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z, a):
        return a * z

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.a = inputs[1]

    @staticmethod
    def backward(ctx, g):
        return ctx.a * g.detach(), None

    @staticmethod
    def jvp(ctx, t, _):
        return ctx.a * t


class Evaluations(nn.Module):
    """tanh(W z + x), counted."""

    def __init__(self, dim):
        super().__init__()
        self.inner = nn.Linear(dim, dim, dtype=F64)
        with torch.no_grad():
            self.inner.weight.copy_(normal(dim, dim, seed=1) / (2 * dim**0.5))
        self.calls = 0

    def forward(self, z):
        self.calls += 1
        return torch.tanh(self.inner(z) + 0.3)


MAPS = {
    "a module": Evaluations(5),
    "broadcast and sums": lambda z: z * z.sum(1, keepdim=True) + z.exp(),
    "linear": lambda z: z.flip(1),
    "constant": lambda z: torch.ones_like(z),
    "constant here, recorded": lambda z: (z * 0).detach() + z.detach(),
    "a backward without a derivative": lambda z: Times.apply(z.sin(), 3.0),
    "one on one way of two": lambda z: z.cos() + Times.apply(z[:, :1], 3.0),
}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("dtype", [F64, C128])
def test_as_forward_mode(name, dtype):
    if dtype is C128 and name == "a module":
        pytest.skip("its weights are real")
    z = normal(3, 5, dtype=dtype)
    function = packed(MAPS[name], z)
    with torch.no_grad():
        push = function.pushing(z)
        for seed in (1, 2):
            v = normal(3, 5, seed=seed, dtype=dtype)
            torch.testing.assert_close(push(v), function.pushforward(z, v), rtol=1e-14, atol=1e-14)


def test_an_operator_whose_backward_torch_does_not_differentiate():
    boxes = torch.tensor([[0, 0, 1], [1, 1, 0]])
    offsets = torch.tensor([0, 3])

    def f(z):
        return torch.nn.functional.embedding_bag(boxes.flatten(), z, offsets, mode="max")[:, : z.shape[1]]

    z = normal(2, 3)
    value = f(z.requires_grad_())
    (g,) = torch.autograd.grad(value, z, torch.ones_like(value, requires_grad=True), create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(g.sum(), z)
    # The other way is taken, here one that is known by its number.
    assert pushing(lambda: (value, z), lambda v: 7 * v)(torch.ones(1)).item() == 7


def test_the_map_is_evaluated_once_for_all_products():
    z, module = normal(3, 5), Evaluations(5)
    with torch.no_grad():
        push = packed(module, z).pushing(z)
        for seed in range(5):
            push(normal(3, 5, seed=seed))
    assert module.calls == 1


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("name", ["a module", "one on one way of two"])
def test_gradients_by_conjugate_gradients_are_those_of_a_dense_solve(name, twice):
    if twice and name != "a module":
        pytest.skip("that map has no second derivative")
    inner = Evaluations(5).requires_grad_(False) if name == "a module" else MAPS[name]

    def gradients(method):
        scale = torch.full((3, 1), 0.2, dtype=F64, requires_grad=True)
        problem = cn.FixedPointProblem(lambda z, a: a * inner(z), torch.zeros(3, 5, dtype=F64), args=(scale,))
        tight = cn.Tolerance(1e-12, 1e-14)
        z = cn.solve(problem, cn.Newton(), tolerance=tight, gradient=cn.Implicit(method, tolerance=tight)).value
        (g,) = torch.autograd.grad(z.square().sum(), scale, create_graph=twice)
        return torch.autograd.grad(g.square().sum(), scale)[0] if twice else g

    torch.testing.assert_close(gradients(cn.CG()), gradients(cn.Dense()), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["a module", "one on one way of two"])
def test_newton_krylov_arrives(name):
    inner, x = MAPS[name], 0.1 * normal(3, 5, seed=4)
    problem = cn.FixedPointProblem(lambda z: 0.2 * inner(z) + x, torch.zeros(3, 5, dtype=F64))
    with torch.no_grad():
        found = cn.solve(problem, cn.NewtonKrylov(), tolerance=cn.Tolerance(1e-12, 1e-12))
        assert found.succeeded.all()
        torch.testing.assert_close(found.value, 0.2 * inner(found.value) + x, rtol=0, atol=1e-11)


def test_what_an_argument_was_computed_from_does_not_matter():
    z = normal(2, 4)
    weights = Times.apply(normal(4, 4, seed=3).requires_grad_(), 0.5)
    module_calls = 0

    def f(z, w):
        nonlocal module_calls
        module_calls += 1
        return torch.tanh(z @ w)

    with torch.no_grad():
        push = packed(f, z, (weights,)).pushing(z)
        first, second = (push(normal(2, 4, seed=s)) for s in (1, 2))
    assert module_calls == 1
    slope = 1 - torch.tanh(z @ weights.detach()) ** 2
    for found, seed in ((first, 1), (second, 2)):
        torch.testing.assert_close(found, slope * (normal(2, 4, seed=seed) @ weights.detach()))


def test_in_inference_mode():
    z = normal(3, 5)
    with torch.inference_mode():
        function = packed(torch.tanh, z)
        v = normal(3, 5, seed=1)
        torch.testing.assert_close(function.pushing(z)(v), (1 - torch.tanh(z) ** 2) * v)
