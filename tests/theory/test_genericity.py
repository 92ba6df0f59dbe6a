"""Counting certified draws, with bounds that are exact."""

import pytest
from scipy.stats import beta

from theory import MonomialProgram, RidgeProgram, generic, monomial_exponents
from theory.exact import exact_array


def quadratic(seed):
    import numpy as np

    exponents = monomial_exponents(2, 2)
    return MonomialProgram(exponents, np.random.default_rng(seed).standard_normal((3, 2, len(exponents))))


def sometimes(seed):
    """Quadratic fields, or linear ones, which interpolate nothing."""
    return quadratic(seed) if seed % 2 else MonomialProgram([[1, 0], [0, 1]], [[[1, 2], [3, seed % 7]]])


def seven(seed):
    """The corollary's ridge fields, of degree 3."""
    import numpy as np

    rng = np.random.default_rng(seed)
    return RidgeProgram(rng.standard_normal((7, 2, 2)), rng.standard_normal((7, 2)), rng.standard_normal((7, 4)))


@pytest.mark.parametrize("points", [None, 4])
def test_generic_families_are_certified_every_time(points):
    found = generic(quadratic, 20, points=points, seed=0)
    assert (found.certified, found.trials, found.failures) == (20, 20, ())
    # Clopper and Pearson where all succeed: low**n = (1 - confidence) / 2.
    assert found.low == pytest.approx(0.025 ** (1 / 20))
    assert found.high == 1.0


def test_the_corollary_s_seven_ridge_fields():
    assert generic(seven, 5, seed=1).certified == 5


def test_failures_are_told_by_their_seeds_and_bounds_are_those_of_the_beta_distribution():
    found = generic(sometimes, 30, points=3, seed=2, confidence=0.9)
    assert 0 < found.certified < 30
    assert len(found.failures) == 30 - found.certified
    assert all(seed % 2 == 0 for seed in found.failures)
    k, n = found.certified, 30
    assert found.low == pytest.approx(beta.ppf(0.05, k, n - k + 1))
    assert found.high == pytest.approx(beta.ppf(0.95, k + 1, n - k))
    assert str(found).startswith(f"{k} of 30 draws certified; probability 0.")


def test_processes_change_nothing():
    one, two = (generic(sometimes, 8, points=3, seed=3, jobs=jobs) for jobs in (1, 2))
    assert one == two


def test_a_draw_is_made_again_from_its_seed():
    found = generic(sometimes, 10, points=3, seed=4)
    assert all(sometimes(seed).degree == 1 for seed in found.failures)
    assert exact_array(sometimes(found.failures[0]).coefficients).shape == (1, 2, 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"trials": 0}, "trials is 0"),
        ({"trials": 1, "points": 0}, "points 0"),
        ({"trials": 1, "confidence": 1.0}, "confidence is 1.0"),
    ],
)
def test_bad_input(options, words):
    with pytest.raises(ValueError, match=words):
        generic(quadratic, **options)
