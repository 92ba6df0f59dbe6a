"""Newton with the whole Jacobian, and the line search that Newton-Krylov shares."""

import itertools

import pytest
import torch

from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.rest import Newton, NewtonKrylov

F64 = torch.float64
BOTH = pytest.mark.parametrize("method", [Newton(), NewtonKrylov()], ids=["newton", "newton-krylov"])


class Record:
    def __init__(self):
        self.values, self.residuals = [], []

    def observe(self, before, after, signals):
        self.values.append(after.value)
        self.residuals.append(after.residual)


@BOTH
def test_quadratic_convergence(find, maps, method):
    """log |e_{k+1}| / log |e_k| tends to 2 with the distances e_k to the rest point."""
    f = maps.layer(2.0, dim=3, rows=1)
    rest = find(lambda z: torch.tanh(z @ f[0].T + f[1]), torch.zeros(1, 3, dtype=F64), Newton(), atol=1e-15).value
    record = Record()
    start = rest + torch.tensor([[0.1, -0.1, 0.1]], dtype=F64)
    find(lambda z: torch.tanh(z @ f[0].T + f[1]), start, method, atol=1e-15, max_steps=6, observers=(record,))
    errors = [float((z - rest).norm()) for z in [start, *record.values]]
    pairs = [(a, b) for a, b in itertools.pairwise(errors) if 1e-7 < a < 1e-1]
    assert len(pairs) >= 2
    constants = [b / a**2 for a, b in pairs]
    assert max(constants) < 10 * min(constants)
    assert max(constants) < 10


@BOTH
def test_affine_maps_take_one_step(find, maps, method):
    f, rest = maps.rotation(1.2)
    found = find(f, torch.zeros(3, 6, dtype=F64), method, rtol=1e-5)
    assert found.state.accepted.tolist() == [1] * 3
    torch.testing.assert_close(found.value, rest, rtol=0, atol=1e-4)


@BOTH
def test_a_singular_row_breaks_down_alone(find, method):
    """f(z) = z + 1 in the first row: J - I = 0. The second: J - I has rank 1, and the residual is not in its range."""
    A = torch.stack([torch.eye(2), torch.diag(torch.tensor([1.0, 0.5])), 0.5 * torch.eye(2)]).to(F64)
    b = torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0]], dtype=F64)
    found = find(lambda z: (A @ z[:, :, None])[:, :, 0] + b, torch.zeros(3, 2, dtype=F64), method)
    assert found.words == ["BREAKDOWN", "BREAKDOWN", "CONVERGED"]
    torch.testing.assert_close(found.value[2], torch.full((2,), 2.0, dtype=F64))
    assert torch.isfinite(found.value).all()


def test_singular_to_rounding(find, maps):
    """The last row of J - I is the sum of the others: no pivot need be 0 exactly."""
    A = maps.normal(7, 7, seed=11)
    A[-1] = A[:-1].sum(0)
    J = A + torch.eye(7, dtype=F64)
    found = find(lambda z: z @ J.T + 1, torch.zeros(2, 7, dtype=F64), Newton())
    assert found.words == ["BREAKDOWN"] * 2


@BOTH
def test_steps_that_overshoot_are_shortened(find, method):
    """arctan(x) = 0 from 3: whole steps diverge."""
    problem = FixedPointProblem.root(torch.atan, torch.tensor([[3.0], [-10.0], [0.5]], dtype=F64))
    found = find(problem, None, method)
    assert found.words == ["CONVERGED"] * 3
    assert found.state.rejected.tolist()[2] == 0
    assert min(found.state.rejected.tolist()[:2]) >= 1
    torch.testing.assert_close(found.value, torch.zeros(3, 1, dtype=F64), rtol=0, atol=1e-10)
    plain = type(method)(line_search=False)
    assert find(problem, None, plain, max_steps=50).words[0] != "CONVERGED"


@BOTH
def test_steps_out_of_the_domain_are_shortened(find, method):
    """log(x) = 0 from 9: Newton's step leads to -10.8."""
    problem = FixedPointProblem.root(torch.log, torch.tensor([[9.0]], dtype=F64))
    found = find(problem, None, method)
    assert found.words == ["CONVERGED"]
    assert int(found.state.rejected) >= 1
    torch.testing.assert_close(found.value, torch.ones(1, 1, dtype=F64))
    assert find(problem, None, type(method)(line_search=False)).words == ["DIVERGED"]


@BOTH
def test_the_residual_never_grows(find, maps, method):
    W, b = maps.layer(3.0)
    record = Record()
    find(lambda z: torch.tanh(z @ W.T + b), torch.zeros(3, 8, dtype=F64), method, observers=(record,), max_steps=60)
    residuals = torch.stack(record.residuals)
    assert (residuals[1:] <= residuals[:-1]).all()


@BOTH
def test_no_rest_point_nearby_is_a_breakdown(find, method):
    """x = x^2 + 1 + x has no real solution: |x^2 + 1| is least at 0."""
    problem = FixedPointProblem.root(lambda x: x * x + 1, torch.tensor([[0.7]], dtype=F64))
    assert find(problem, None, method).words == ["BREAKDOWN"]


@pytest.mark.parametrize("method", [Newton(damping=0.5), NewtonKrylov(damping=0.5)], ids=["newton", "newton-krylov"])
def test_damping(find, maps, method):
    """Half a step of an affine map halves the residual."""
    f, _ = maps.contraction()
    record = Record()
    find(f, torch.zeros(4, 6, dtype=F64), method, max_steps=5, observers=(record,))
    ratios = torch.stack(record.residuals[1:]) / torch.stack(record.residuals[:-1])
    torch.testing.assert_close(ratios, torch.full_like(ratios, 0.5), rtol=1e-5, atol=0)


def test_the_recorded_graph_is_the_implicit_gradient(find, maps):
    """One step from near the rest point has the derivative of the rest point (Bolte, Pauwels and Vaiter 2023)."""
    W, b = maps.layer(0.8)
    b.requires_grad_()
    found = find(lambda z, b: torch.tanh(z @ W.T + b), torch.zeros(3, 8, dtype=F64), Newton(), atol=1e-13, args=(b,))
    w = maps.normal(3, 8, seed=12)
    unrolled = torch.autograd.grad((found.value * w).sum(), b)[0]
    slope = (1 - found.value**2).detach()
    v = torch.linalg.solve(torch.eye(8, dtype=F64) - (slope[:, :, None] * W).mT, w[:, :, None])[:, :, 0]
    torch.testing.assert_close(unrolled, slope * v, rtol=0, atol=1e-5)
