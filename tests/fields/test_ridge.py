"""sigma_i(C_i x + b_i)."""

import numpy as np
import pytest
import torch

from cde_nets.fields import RidgeFields

F64 = torch.float64


def test_each_field_is_its_polynomial_of_its_affine_map():
    fields = RidgeFields.random(4, 3, 3, seed=2, dtype=F64)
    x = np.random.default_rng(0).standard_normal((5, 4))
    c, b, s = (t.numpy() for t in (fields.matrices, fields.offsets, fields.polynomials))
    for n, row in enumerate(x):
        for i in range(3):
            want = np.polynomial.Polynomial(s[i])(c[i] @ row + b[i])
            np.testing.assert_allclose(fields.evaluate(torch.tensor(x))[n, i].numpy(), want, rtol=1e-12)


# Given x a preactivation is N(0, (|x|^2 / dim + 1) / 2), so that powers above the second weigh a little more than in
# a standard normal: sum_j E[((|x|^2 / dim + 1) / 2)^j] / (degree + 1), with |x|^2 chi-squared.
@pytest.mark.parametrize(("dim", "degree", "variance"), [(2, 1, 1), (3, 2, 19 / 18), (5, 3, 1.11)])
def test_random_fields_have_variance_near_1_over_gaussian_points(dim, degree, variance):
    rng = np.random.default_rng(1)
    seconds = []
    for seed in range(100):
        fields = RidgeFields.random(dim, 200, degree, seed=seed, dtype=F64)
        seconds.append(fields.evaluate(torch.tensor(rng.standard_normal((40, dim)))).square().mean())
    assert abs(float(torch.stack(seconds).mean()) - variance) < 0.04


def test_preactivations_of_random_fields_have_variance_1_in_equal_halves():
    fields = RidgeFields.random(50, 200, seed=0, dtype=F64)
    assert abs(float(fields.matrices.square().sum(-1).mean()) - 0.5) < 0.01
    assert abs(float(fields.offsets.square().mean()) - 0.5) < 0.02


def test_seven_quadratic_fields_are_the_default():
    fields = RidgeFields.random(3, seed=0)
    assert (fields.count, fields.degree, fields.frozen_numbers) == (7, 2, 7 * (9 + 3 + 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"matrices": torch.zeros(2, 3, 4)}, r"matrices must have shape \(2, 3, 3\); got \(2, 3, 4\)"),
        ({"offsets": torch.zeros(2, 4)}, r"offsets must have shape \(2, 3\); got \(2, 4\)"),
        ({"polynomials": torch.zeros(3, 3)}, r"polynomials must have shape \(2, any\); got \(3, 3\)"),
        ({"polynomials": torch.zeros(2, 1)}, "degree must be an integer of at least 1; got 0"),
        ({"polynomials": torch.zeros(2, 3, dtype=F64)}, "differ in dtype: torch.float32, torch.float32, torch.float64"),
        ({"offsets": torch.full((2, 3), torch.nan)}, "offsets holds NaN"),
        ({"matrices": torch.zeros(2, 3, 3, dtype=torch.int32)}, "matrices must be floating point; got torch.int32"),
    ],
)
def test_bad_coefficients_are_refused(bad_input, change, message):
    good = {"matrices": torch.zeros(2, 3, 3), "offsets": torch.zeros(2, 3), "polynomials": torch.zeros(2, 3)}
    with pytest.raises(ValueError, match=message):
        RidgeFields(**good | change)


def test_degree_0_is_refused(bad_input):
    with pytest.raises(ValueError, match="degree must be an integer of at least 1; got 0"):
        RidgeFields.random(3, degree=0, seed=0)
