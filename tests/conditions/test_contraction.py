"""Banach's theorem: factors that were observed, and steps that were predicted."""

import math

import pytest
import torch

import cde_nets as cn

F64 = torch.float64


def affine(z, J, b):
    return (J @ z[:, :, None])[:, :, 0] + b


def picard(function, z0, *args, tolerance=1e-10):
    problem = cn.FixedPointProblem(function, z0, args=args)
    save = cn.SaveAt(steps=True)
    with torch.no_grad():
        return cn.solve(problem, cn.Picard(), tolerance=cn.Tolerance(1e-15, tolerance), save_at=save)


@pytest.fixture
def turned(orthogonal, normal):
    """Three rows of z = q_r Q z + b: every step is q_r times as long as the one before."""
    q = torch.tensor([0.3, 0.6, 0.9], dtype=F64)
    J = q[:, None, None] * torch.stack([orthogonal(5, seed=k) for k in range(3)])
    return q, J, normal(3, 5, seed=7)


def test_of_a_multiple_of_an_orthogonal_map_the_rate_is_the_factor(turned):
    q, J, b = turned
    solution = picard(affine, torch.zeros_like(b), J, b)
    # The rows end at different steps: what is repeated after that is no ratio of theirs.
    steps = solution.statistics.accepted
    assert len(set(steps.tolist())) == 3
    # The last residuals are 1e-10, known to 1e-16.
    torch.testing.assert_close(cn.contraction_rate(solution.trace.residuals), q, rtol=1e-5, atol=0)
    norm = cn.spectral_norm(cn.FixedPointProblem(affine, b, args=(J, b)), solution.value).value
    torch.testing.assert_close(norm, q, rtol=1e-13, atol=0)


def test_the_predicted_steps_suffice_and_for_such_a_map_are_hardly_too_many(turned):
    q, J, b = turned
    solution = picard(affine, torch.zeros_like(b), J, b)
    exact = torch.linalg.solve(torch.eye(5, dtype=F64) - J, b)
    errors = (solution.trace.values - exact).norm(dim=2)
    for tolerance in (1e-2, 1e-5, 1e-8):
        predicted = cn.banach_steps(q, solution.trace.residuals[0], tolerance)
        for row, k in enumerate(predicted.long().tolist()):
            assert float(errors[k, row]) <= tolerance
            # |z_0 - z*| >= |z_1 - z_0| / (1 + q): the bound is generous by (1 + q) / (1 - q) at most.
            needed = int((errors[:, row] > tolerance).sum())
            generous = math.log((1 + q[row]) / (1 - q[row])) / -math.log(q[row])
            assert needed <= k <= needed + generous + 1


def test_a_rate_is_not_above_a_factor_that_is_proved(normal):
    a, b = normal(6, 6, seed=1), normal(4, 6, seed=2)
    a = 0.9 * a / torch.linalg.matrix_norm(a, 2)

    def function(z, a, b):
        return torch.tanh(z @ a.T + b)

    solution = picard(function, torch.zeros_like(b), a, b)
    rate = cn.contraction_rate(solution.trace.residuals)
    assert (rate <= 0.9 + 1e-6).all()
    assert (rate > 0.1).all()
    # By definition, row by row.
    for row, steps in enumerate(solution.statistics.accepted.tolist()):
        own = solution.trace.residuals[: steps + 1, row]
        assert float(rate[row]) == float((own[1:] / own[:-1]).max())


def test_rows_that_took_no_step_or_left_the_numbers():
    residuals = torch.tensor([[1.0, 3.0, 1.0, 1.0], [0.5, 3.0, math.inf, math.nan], [0.125, 3.0, math.inf, math.nan]])
    found = cn.contraction_rate(residuals)
    assert found[:1].tolist() == [0.5]
    assert found[1].isnan()
    assert not found[2] < 1
    assert found[3].isnan()
    assert cn.contraction_rate(residuals[:1]).isnan().all()


@pytest.mark.parametrize("q", [0.0, 1e-3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("first", [1e-9, 1e-3, 1.0, 1e5])
@pytest.mark.parametrize("tolerance", [1e-8, 2.0**-9, 10.0])
def test_predicted_steps_are_the_least_that_the_bound_allows(q, first, tolerance):
    k, bound = 0, first / (1 - q)
    while q**k / (1 - q) * first > tolerance:
        k += 1
    assert bound >= 0
    assert float(cn.banach_steps(q, first, tolerance)) == k


def test_where_banach_says_nothing():
    found = cn.banach_steps(
        torch.tensor([0.5, 1.0, 1.5, -0.1, math.nan, 1.0]), torch.tensor([1.0] * 5 + [0.0]), 2.0**-9
    )
    assert found[:3].tolist() == [10, math.inf, math.inf]
    assert found[3:5].isnan().all()
    assert found[5] == 0
    assert cn.banach_steps(torch.full((2, 1), 0.5), torch.ones(3), 0.1).shape == (2, 3)


def test_bad_input(bad_input):
    with pytest.raises(ValueError, match=r"shape \(steps \+ 1, rows\); got torch.float32, shape \(3,\)"):
        cn.contraction_rate(torch.ones(3))
    with pytest.raises(ValueError, match="tolerance must be a number above 0"):
        cn.banach_steps(0.5, 1.0, 0.0)
