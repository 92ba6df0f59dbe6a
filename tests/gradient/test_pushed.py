"""Rest points in forward mode: their tangents are those of dense implicit differentiation, wherever they were begun."""

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import nn

from cde_nets.errors import ConvergenceError, ConvergenceWarning
from cde_nets.gradient import Implicit, solve
from cde_nets.nn import EquilibriumLayer
from cde_nets.solver import CG, Dense, FixedPointProblem, Neumann, Newton, Picard, Tolerance

F64 = torch.float64
TIGHT = Tolerance(1e-13, 1e-14)
DIM = 3


pytestmark = pytest.mark.usefixtures("quick")


def normal(*shape, seed=0, scale=1.0):
    return scale * torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


W, B = normal(DIM, DIM, scale=0.4), normal(4, DIM, seed=1)
VW, VB = normal(DIM, DIM, seed=2), normal(4, DIM, seed=3)


def bent(z, w, b):
    return torch.tanh(z @ w.T + b)


def make(kind, w, b, z0=None):
    z0 = torch.zeros(4, DIM, dtype=F64) if z0 is None else z0
    if kind == "root":
        return FixedPointProblem.root(lambda z, w, b: bent(z, w, b) - z, z0, args=(w, b))
    if kind == "coupled":
        return FixedPointProblem(lambda z, w, b: bent(z, w, b) - 0.2 * z.mean(0), z0, args=(w, b), coupled=True)
    if kind == "nested":
        return FixedPointProblem(lambda z, w, b: {"z": (bent(z["z"][0], w, b),)}, {"z": (z0,)}, args=(w, b))
    return FixedPointProblem(bent, z0, args=(w, b))


def rest(kind, w, b, z0=None, gradient=None, **options):
    value = solve(make(kind, w, b, z0), Newton(), gradient=gradient or Implicit(), tolerance=TIGHT, **options).value
    return value["z"][0] if kind == "nested" else value


def dense(kind, vw, vb):
    """(I - J) t = df.v with J written out; of plain torch operations."""
    z = rest(kind, W, B)

    def f(z, w, b):
        return bent(z, w, b) - (0.2 * z.mean(0) if kind == "coupled" else 0.0)

    jacobian = torch.autograd.functional.jacobian
    j = jacobian(lambda z: f(z, W, B), z).reshape(4 * DIM, 4 * DIM)
    moved = jacobian(lambda w: f(z, w, B), W).flatten(2) @ vw.flatten()
    moved = moved + jacobian(lambda b: f(z, W, b), B).flatten(2) @ vb.flatten()
    return torch.linalg.solve(torch.eye(4 * DIM, dtype=F64) - j, moved.flatten()).reshape(4, DIM)


def by_jvp(run, primals, tangents):
    return torch.func.jvp(run, primals, tangents)


def by_duals(run, primals, tangents):
    with forward_ad.dual_level():
        pair = forward_ad.unpack_dual(run(*map(forward_ad.make_dual, primals, tangents)))
        return pair.primal, pair.tangent


@pytest.mark.parametrize("way", [by_jvp, by_duals])
@pytest.mark.parametrize("kind", ["args", "root", "coupled", "nested"])
@pytest.mark.parametrize("gradient", [Implicit(), Implicit(Dense()), Implicit(CG()), Implicit(Neumann())], ids=str)
def test_a_rest_points_tangent_is_dense_implicit_differentiation(gradient, kind, way):
    want, found = dense(kind, VW, VB), rest(kind, W, B)
    for z0 in (None, found):
        z, t = way(lambda w, b: rest(kind, w, b, z0, gradient), (W, B), (VW, VB))  # noqa: B023
        torch.testing.assert_close(z, found, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(t, want, rtol=1e-9, atol=1e-11)


def test_it_is_that_of_finite_differences():
    t = torch.func.jvp(lambda w: rest("args", w, B), (W,), (VW,))[1]
    slope = (rest("args", W + 1e-6 * VW, B) - rest("args", W - 1e-6 * VW, B)) / 2e-6
    torch.testing.assert_close(t, slope, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("way", [by_jvp, by_duals])
def test_where_the_iteration_begins_has_no_part_in_it(way):
    _, t = way(lambda z0: rest("args", W, B, z0), (torch.zeros(4, DIM, dtype=F64),), (torch.ones(4, DIM, dtype=F64),))
    assert t is None or not t.any()


class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(DIM, DIM, dtype=F64)
        with torch.no_grad():
            self.linear.weight.mul_(0.5)

    def forward(self, x, z):
        return torch.tanh(self.linear(z) + x)


@pytest.mark.parametrize("no_grad", [False, True])
@pytest.mark.parametrize("trains", [False, True])
@pytest.mark.parametrize("way", [by_jvp, by_duals])
def test_a_layers_tangent_whether_or_not_it_trains(way, trains, no_grad):
    layer = EquilibriumLayer(Cell(), tolerance=TIGHT).requires_grad_(trains)
    jacobian = torch.autograd.functional.jacobian(layer, B)
    want = (jacobian.flatten(2) @ VB.flatten()).detach()
    with torch.set_grad_enabled(not no_grad):
        z, t = way(layer, (B,), (VB,))
    torch.testing.assert_close(t.detach(), want, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(torch.func.jacfwd(layer)(B), jacobian, rtol=1e-9, atol=1e-11)
    assert z.requires_grad == (trains and not no_grad)
    if z.requires_grad:
        # The value has its gradient as ever.
        (grad,) = torch.autograd.grad(z.sum(), layer.f.linear.bias)
        (exact,) = torch.autograd.grad(layer(B).sum(), layer.f.linear.bias)
        torch.testing.assert_close(grad, exact, rtol=1e-10, atol=0)


def test_a_failed_row_has_no_tangent_and_spoils_none():
    b = B.clone()
    b[1] = torch.inf
    v = VB.clone()
    t = torch.func.jvp(lambda w, b: rest("args", w, b, throw=False), (W, b), (VW, v))[1]
    assert not t[1].any()
    torch.testing.assert_close(t[[0, 2, 3]], dense("args", VW, VB)[[0, 2, 3]], rtol=1e-9, atol=1e-11)


def test_a_linear_problem_that_is_not_solved_says_so():
    gradient = Implicit(Neumann(), max_steps=2)
    with pytest.raises(ConvergenceError, match="4 of 4 rows"):
        torch.func.jvp(lambda b: rest("args", W, b, gradient=gradient), (B,), (VB,))
    with pytest.warns(ConvergenceWarning, match="4 of 4 rows"):
        torch.func.jvp(lambda b: rest("args", W, b, gradient=gradient, throw=False), (B,), (VB,))


# -- what is refused, as its derivative would be wrong without a word --------------------------------------------------


@pytest.mark.usefixtures("bad_input")
@pytest.mark.parametrize("way", [by_jvp, by_duals])
def test_tangents_that_the_map_closes_over(way):
    def run(hidden, b):
        problem = FixedPointProblem(lambda z, b: 0.5 * torch.tanh(z * hidden) + b, torch.zeros_like(B), args=(b,))
        return solve(problem, Picard(), gradient=Implicit()).value

    with pytest.raises(ValueError, match=r"have a tangent in forward mode.*args"):
        way(run, (VB, B), (VB, VB))
    with pytest.raises(ValueError, match=r"have a tangent in forward mode.*args"):
        way(lambda hidden: run(hidden, B), (VB,), (VB,))


def test_transforms_around_and_within():
    def run(b):
        return rest("args", W, b)

    def tangent(b):
        return torch.func.jvp(run, (b,), (VB,))[1]

    with pytest.raises(RuntimeError, match=r"differentiated forward once.*create_graph=True.*sensitivity"):
        torch.func.jvp(tangent, (B,), (VB,))
    with pytest.raises(RuntimeError, match="differentiated forward once"):
        torch.func.grad(lambda b: tangent(b).sum())(B)
    with pytest.raises(RuntimeError, match="differentiated forward once"):
        torch.func.jvp(torch.func.grad(lambda b: run(b).sum()), (B,), (VB,))


def test_forward_over_backward_and_backward_over_forward():
    b = B.clone().requires_grad_()
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(b, VB)
        value = rest("args", W, dual)
        with pytest.raises(RuntimeError, match="A backward pass through Implicit has no tangent"):
            torch.autograd.grad(value.sum(), b, create_graph=True)
        tangent = forward_ad.unpack_dual(rest("args", W, dual)).tangent
        with pytest.raises(RuntimeError, match="tangent of a rest point is not differentiated backward"):
            torch.autograd.grad(tangent.sum(), b)
        weights = forward_ad.make_dual(B, VB)
        with pytest.raises(RuntimeError, match="A backward pass through Implicit has no tangent"):
            torch.autograd.grad((rest("args", W, b) * weights).sum(), b)
