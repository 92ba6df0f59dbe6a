"""All polynomials of degree <= k."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cde_nets.fields import PolynomialFields

F64 = torch.float64


def monomials(x, degree):
    """Products of at most `degree` coordinates, as itertools lists them: degree by degree, first variables first."""
    words = [w for r in range(degree + 1) for w in itertools.combinations_with_replacement(range(len(x)), r)]
    return [math.prod((float(x[j]) for j in word), start=1.0) for word in words], words


@settings(derandomize=True, deadline=None, max_examples=25)
@given(dim=st.integers(1, 5), degree=st.integers(1, 4), rows=st.integers(0, 3), seed=st.integers(0, 99))
def test_features_are_all_products_of_at_most_k_coordinates(dim, degree, rows, seed):
    fields = PolynomialFields.random(dim, 1, degree, seed=seed, dtype=F64)
    x = torch.randn(rows, dim, dtype=F64, generator=torch.Generator().manual_seed(seed))
    got = fields.features(x)
    assert got.shape == (rows, math.comb(dim + degree, dim))
    for row, point in zip(got, x, strict=True):
        want, words = monomials(point, degree)
        # The order among monomials of one degree is the exponents' table's.
        table = {tuple(np.bincount(word, minlength=dim)) if word else (0,) * dim: v for word, v in zip(words, want)}  # noqa: B905
        ordered = [table[tuple(e)] for e in fields.exponents.tolist()]
        torch.testing.assert_close(row, torch.tensor(ordered, dtype=F64), rtol=1e-13, atol=1e-13)


@settings(derandomize=True, deadline=None, max_examples=15)
@given(dim=st.integers(1, 4), degree=st.integers(1, 4), seed=st.integers(0, 99))
def test_features_pullback_is_the_transposed_jacobian_of_the_monomials(dim, degree, seed):
    fields = PolynomialFields.random(dim, 1, degree, seed=seed, dtype=F64)
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(2, dim, dtype=F64, generator=rng).requires_grad_()
    g = torch.randn(2, len(fields.exponents), dtype=F64, generator=rng)
    exponents = torch.tensor(fields.exponents)
    phi = (x[:, None, :] ** exponents).prod(-1)
    want = torch.autograd.grad(phi, x, g)[0]
    torch.testing.assert_close(fields.features_pullback(x.detach(), g), want, rtol=1e-12, atol=1e-12)


def test_a_planar_field_written_by_hand():
    c = torch.tensor([[[1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 0, 1]]], dtype=F64)
    fields = PolynomialFields(c, 2)
    x, y = 2.0, -3.0
    terms = {(0, 0): 1.0, (1, 0): x, (0, 1): y, (2, 0): x * x, (1, 1): x * y, (0, 2): y * y}
    phi = [terms[tuple(e)] for e in fields.exponents.tolist()]
    want = [sum((a + 1) * t for a, t in enumerate(phi)), phi[5]]
    assert fields.evaluate(torch.tensor([[x, y]], dtype=F64)).tolist() == [[want]]


@pytest.mark.parametrize(("dim", "degree"), [(1, 1), (2, 3), (5, 2), (4, 4)])
def test_a_field_has_d_k_frozen_numbers(dim, degree):
    assert PolynomialFields.random(dim, 3, degree, seed=0).frozen_numbers == 3 * dim * math.comb(dim + degree, dim)


@pytest.mark.parametrize(("dim", "degree"), [(1, 3), (3, 2), (4, 3)])
def test_random_fields_have_mean_0_and_variance_1_over_gaussian_points(dim, degree):
    rng = np.random.default_rng(dim)
    x = torch.tensor(rng.standard_normal((400, dim)))
    seconds, means = [], []
    for seed in range(40):
        # Many fields a seed: the mean over coefficients is what converges slowly.
        values = PolynomialFields.random(dim, 100, degree, seed=seed, dtype=F64).evaluate(x)
        seconds.append(values.square().mean())
        means.append(values.mean())
    assert abs(float(torch.stack(means).mean())) < 0.02
    # Given x the variance is sum_a x^2a / (E[x^2a] n): the spread over 400 heavy-tailed points dominates.
    moments = np.array([[math.prod(range(1, 2 * e, 2)) for e in row] for row in _exponents(dim, degree)]).prod(axis=1)
    powers = (x.numpy()[:, None, :] ** (2 * _exponents(dim, degree))).prod(-1)
    given_x = (powers / moments).mean(1).mean()
    assert abs(float(torch.stack(seconds).mean()) / given_x - 1) < 0.03


def _exponents(dim, degree):
    rows = [e for e in itertools.product(range(degree + 1), repeat=dim) if sum(e) <= degree]
    return np.array(rows)


def test_every_monomial_has_an_equal_part_of_the_variance():
    dim, degree = 2, 3
    fields = PolynomialFields.random(dim, 20000, degree, seed=0, dtype=F64)
    moments = np.array([[math.prod(range(1, 2 * e, 2)) for e in row] for row in fields.exponents]).prod(axis=1)
    parts = fields.coefficients.square().mean((0, 1)).numpy() * moments
    np.testing.assert_allclose(parts, 1 / len(moments), rtol=0.05)


@pytest.mark.parametrize("shape", [(4, 2, 6), (4, 12), (48,)])
def test_a_coefficient_map_of_degree_two_makes_the_coefficients(shape):
    def quadratic(z):
        return np.outer(z, z).reshape(-1)[np.arange(48) % 25].reshape(shape)

    fields = PolynomialFields.random(2, 4, 2, seed=9, coefficient_map=quadratic, latent=5, dtype=F64)
    # Rank one in the latent vector: c_a c_b is symmetric, and the diagonal is made of squares.
    c = fields.coefficients.flatten()[:25].reshape(5, 5)
    assert torch.equal(c, c.T)
    assert bool((c.diagonal() > 0).all())
    torch.testing.assert_close(torch.linalg.matrix_rank(c), torch.tensor(1))
    assert torch.equal(fields.coefficients.flatten()[25:48], c.flatten()[:23])


def test_a_coefficient_map_of_another_size_is_refused_with_the_size_it_needs(bad_input):
    with pytest.raises(ValueError, match=r"returned 7 numbers .*degree 2 on R\^2 need 4 x 2 x 6 = 48"):
        PolynomialFields.random(2, 4, 2, seed=0, coefficient_map=lambda z: z, latent=7)


@pytest.mark.parametrize("half", [{"coefficient_map": lambda z: z}, {"latent": 3}])
def test_a_coefficient_map_and_its_latent_dimension_go_together(bad_input, half):
    with pytest.raises(ValueError, match="go together"):
        PolynomialFields.random(2, 4, 2, seed=0, **half)


def test_a_coefficient_map_that_returns_nan_is_refused(bad_input):
    with pytest.raises(ValueError, match="must be finite"):
        PolynomialFields.random(1, 1, 1, seed=0, coefficient_map=lambda z: z * np.nan, latent=2)


@pytest.mark.parametrize(
    ("coefficients", "degree", "message"),
    [
        (torch.zeros(2, 3, 9), 2, r"degree 2 must have shape \(any, 3, 10\); got \(2, 3, 9\)"),
        (torch.zeros(3, 10), 2, r"shape \(any, any, any\); got \(3, 10\)"),
        (torch.zeros(2, 3, 10, dtype=torch.int64), 2, "floating point; got torch.int64"),
        (torch.full((2, 3, 10), torch.nan), 2, "NaN or infinity"),
        (torch.full((2, 3, 10), torch.inf), 2, "NaN or infinity"),
        (torch.zeros(2, 3, 1), 0, "degree must be an integer of at least 1; got 0"),
        (torch.zeros(2, 3, 10), 2.0, "degree must be an integer of at least 1; got 2.0"),
        (torch.zeros(0, 3, 10), 2, "count must be an integer of at least 1; got 0"),
    ],
)
def test_bad_coefficients_are_refused(bad_input, coefficients, degree, message):
    with pytest.raises(ValueError, match=message):
        PolynomialFields(coefficients, degree)


@pytest.mark.parametrize(("name", "value"), [("dim", 0), ("count", -1), ("degree", 0), ("count", True), ("dim", 2.5)])
def test_bad_sizes_are_refused_by_name(bad_input, name, value):
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1; got {value}"):
        PolynomialFields.random(**{"dim": 2, "count": 2, "degree": 2, "seed": 0, name: value})


def test_the_users_tensor_is_copied():
    c = torch.ones(1, 1, 2)
    fields = PolynomialFields(c, 1)
    c.zero_()
    assert bool((fields.coefficients == 1).all())
