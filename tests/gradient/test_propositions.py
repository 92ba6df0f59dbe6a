"""Propositions 1 to 3 of Liao et al., "Reviving and improving recurrent back-propagation", by dense algebra."""

import pytest
import torch

import cde_nets as cn

F64 = torch.float64
TIGHT = cn.Tolerance(1e-14, 1e-15)
DIM = 5


pytestmark = pytest.mark.usefixtures("quick")


def normal(*shape, seed):
    return torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def network(backward, *, radius=0.8, forward=None, **options):
    """z* = tanh(W z* + x + b); W is not symmetric, and turns."""
    layer = cn.ImplicitRNN(
        DIM, DIM, parameter_dtype=F64, backward=backward, forward=forward, tolerance=TIGHT, **options
    )
    with torch.no_grad():
        w = normal(DIM, DIM, seed=1)
        layer.f.weight_hh.copy_(radius * w / torch.linalg.eigvals(w).abs().max())
    return layer


X, W = 0.3 * normal(3, DIM, seed=2), normal(3, DIM, seed=3)


def gradients(layer, z0=None):
    return torch.autograd.grad((layer(X, z0) * W).sum(), list(layer.parameters()))


def error(mine, theirs):
    return max(float((m - t).norm() / t.norm()) for m, t in zip(mine, theirs, strict=True))


def through_time(layer, z, steps, keep):
    """Back-propagation through the last `keep` of `steps` updates, by a loop and torch's own autograd."""
    for n in range(steps):
        if n == steps - keep:
            z = z.detach()
        z = layer.f(X, z)
    return torch.autograd.grad((z * W).sum(), list(layer.parameters()))


@pytest.mark.parametrize("count", [0, 1, 4, 12])
def test_1_at_rest_truncated_back_propagation_is_the_truncated_series(count):
    # The paper's K-step sums have K + 1 terms (its equation 6): K products, K + 1 updates kept.
    layer = network(cn.Neumann(count))
    rest = layer(X).detach()
    theirs = through_time(layer, rest, count + 1, count + 1)
    assert error(gradients(layer), theirs) < 1e-12
    layer.gradient = cn.Truncated(count + 1)
    assert error(gradients(layer), theirs) < 1e-12


def test_1_full_back_propagation_tends_to_the_full_series():
    layer = network(cn.Neumann())
    full, z0, errors = gradients(layer), torch.zeros_like(X), []
    for steps in (10, 20, 40, 160):
        errors.append(error(through_time(layer, z0, steps, steps), full))
    assert errors[0] > errors[1] > errors[2] > 10 * errors[3]
    assert errors[3] < 1e-11
    # Before the states have come to rest it is another number: the proposition is a limit.
    assert errors[0] > 1e-3


@pytest.mark.parametrize("count", [0, 1, 3, 8, 20])
def test_2_the_series_error_is_within_its_bound(count):
    layer = network(cn.Neumann(count))
    jacobian = torch.autograd.functional.jacobian(lambda z: layer.f(X[:1], z[None])[0], layer(X).detach()[0])
    exact = torch.linalg.inv(torch.eye(DIM, dtype=F64) - jacobian)
    # The operator of the truncated series, column by column, as our method sums it.
    units = torch.eye(DIM, dtype=F64)
    product = lambda w: w @ jacobian.T  # noqa: E731
    ours = cn.solve(cn.LinearProblem(product, units), cn.Neumann(count)).value.T
    norm = lambda m: float(torch.linalg.matrix_norm(m, 2))  # noqa: E731
    missed, bound = norm(ours - exact), norm(exact) * norm(jacobian) ** (count + 1)
    assert 0 < missed <= bound * (1 + 1e-12)
    # Sharper, and an identity (its equation 9).
    torch.testing.assert_close(exact - ours, exact @ torch.linalg.matrix_power(jacobian, count + 1))


@pytest.mark.parametrize("count", [0, 1, 4, 12])
def test_3_one_more_update_from_zero_is_the_truncated_series(count):
    series, updates = gradients(network(cn.Neumann(count))), gradients(network(cn.RBP(terms=count + 1)))
    assert error(updates, series) < 1e-13
    started = gradients(network(cn.RBP(z0=1.0, terms=count + 1)))
    jacobian_power = error(started, series)
    assert jacobian_power > 1e-3 * 0.8**count


def test_a_start_of_large_norm_is_what_makes_recurrent_back_propagation_fail():
    """Table A1: z0 uniform in [0, 1] over 2,832 units has norm about 30; it fades as J^k does, however small g is."""
    small = 1e-3 * W
    layer = network(cn.RBP(z0=torch.rand(3, DIM, dtype=F64, generator=torch.Generator().manual_seed(0)), terms=10))
    exact = network(cn.Dense())
    wrong = torch.autograd.grad((layer(X) * small).sum(), list(layer.parameters()))
    right = torch.autograd.grad((exact(X) * small).sum(), list(exact.parameters()))
    assert error(wrong, right) > 1
    layer.gradient = cn.Implicit(cn.RBP(terms=10))
    better = torch.autograd.grad((layer(X) * small).sum(), list(layer.parameters()))
    assert error(better, right) < 0.2
