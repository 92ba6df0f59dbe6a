"""Rest points and flows under torch.func: the numbers of autograd, or a word on what cannot be."""

import pytest
import torch
from torch import nn

import cde_nets as cn

F64 = torch.float64
BACKWARD = {"default": None, "dense": cn.Dense(), "cg": cn.CG(), "gmres": cn.GMRES(restart=3)}


class Map(nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 3, dtype=F64, generator=generator) / 3)

    def forward(self, x, z):
        return torch.tanh(z @ self.weight + x)


def layer(forward=None, backward=None, **options):
    return cn.EquilibriumLayer(Map(), forward, backward, tolerance=cn.Tolerance(1e-13, 1e-14), **options)


def points(rows=4):
    return torch.randn(rows, 3, dtype=F64, generator=torch.Generator().manual_seed(1))


def flow(method, **options):
    family = cn.PolynomialFields.random(3, 4, 2, seed=0, dtype=F64)
    control = cn.PiecewiseConstantControl.random(4, 4, scale=0.3, seed=1, dtype=F64)
    return cn.ControlledODE(family, control, method, **options)


@pytest.mark.parametrize("throw", [True, False])
@pytest.mark.parametrize("backward", BACKWARD)
def test_a_layers_gradient_and_jacobian(backward, throw):
    rest, x = layer(backward=BACKWARD[backward], throw=throw), points()

    def total(x):
        return rest(x).sin().sum()

    at = x.clone().requires_grad_()
    torch.testing.assert_close(torch.func.grad(total)(x), torch.autograd.grad(total(at), at)[0], rtol=0, atol=1e-10)
    exact = torch.autograd.functional.jacobian(rest, x)
    torch.testing.assert_close(torch.func.jacrev(rest)(x), exact, rtol=0, atol=1e-10)
    torch.testing.assert_close(torch.func.jacfwd(rest)(x), exact, rtol=0, atol=1e-10)


def test_a_layers_gradient_in_its_parameters():
    rest, x = layer(), points()
    parameters = dict(rest.named_parameters())

    def total(parameters):
        return torch.func.functional_call(rest, parameters, (x,)).sin().sum()

    found = torch.func.grad(total)({name: p.detach() for name, p in parameters.items()})
    exact = torch.autograd.grad(rest(x).sin().sum(), list(parameters.values()))
    for one, two in zip(found.values(), exact, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-10)


def test_a_row_that_fails_gives_nothing_to_a_jacobian():
    rest, x = layer(cn.Picard(), throw=False), points()
    x[1] = torch.nan
    found = torch.func.jacrev(rest)(x)
    alone = torch.func.jacrev(rest)(x[[0, 2, 3]])
    assert not found[1].nan_to_num().any()
    torch.testing.assert_close(found[[0, 2, 3]][:, :, [0, 2, 3]], alone, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (layer(), "decides from the numbers when to stop.*as rows"),
        (layer(cn.Picard(steps=30), cn.Unrolled()), "throw=True looks at numbers.*pass throw=False"),
        (flow("rk4"), "throw=True looks at numbers.*pass throw=False"),
        (flow(cn.RungeKutta("dopri5"), throw=False), "decides from the numbers when to stop.*fixed number of steps"),
    ],
)
def test_what_vmap_does_not_allow_is_said(function, words):
    with pytest.raises(RuntimeError, match=words):
        torch.func.vmap(function)(points()[:, None])


@pytest.mark.parametrize(
    "function", [flow("rk4", throw=False), layer(cn.Picard(steps=30), cn.Unrolled(), throw=False)], ids=["flow", "rest"]
)
def test_what_it_then_allows(function):
    torch.testing.assert_close(torch.func.vmap(function)(points()[:, None])[:, 0], function(points()))


@pytest.mark.parametrize(
    "function", [layer(), flow("rk4"), flow(cn.RungeKutta("dopri5"))], ids=["rest", "fixed", "adaptive"]
)
def test_batched_cotangents_are_refused_with_what_to_take(function):
    x = points().requires_grad_()
    value = function(x)
    if type(value.grad_fn).__name__ == "_DiscreteBackward":
        pytest.skip("no kernel here")
    with pytest.raises(RuntimeError, match=r"one cotangent at a time.*Take torch.func.jacrev"):
        torch.autograd.grad(value.sum(0), x, torch.eye(3, dtype=F64), is_grads_batched=True)


def test_what_is_differentiated_too_often():
    rest, x = layer(), points(1)

    def total(x):
        return rest(x).sin().sum()

    with pytest.raises(RuntimeError, match=r"twice, not three times.*torch.autograd.grad for the outer one"):
        torch.func.grad(lambda x: torch.func.grad(total)(x).sum())(x)
    with pytest.raises(RuntimeError, match="not differentiated again"):
        torch.func.jacrev(torch.func.jacrev(total))(x)
    at = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(total(at), at, create_graph=True)
    outer = torch.autograd.grad(first.sum(), at)[0]
    h = 1e-5 * torch.ones_like(x)
    torch.testing.assert_close(
        outer, (torch.func.grad(total)(x + h) - torch.func.grad(total)(x - h)) / 2e-5, rtol=0, atol=1e-6
    )
