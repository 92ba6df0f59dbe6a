"""Primes at random."""

import numpy as np
import pytest
import sympy

from theory import NoResidueError
from theory.primes import modulo_some_prime, random_prime


def test_random_primes_have_twenty_bits():
    rng = np.random.default_rng(0)
    primes = [random_prime(rng) for _ in range(2000)]
    assert all(sympy.isprime(p) and 2**19 < p < 2**20 for p in primes)
    # Of as many primes as are said to be there, 2000 draws meet about 51 twice; all of the range is drawn from.
    assert sympy.primepi(2**20) - sympy.primepi(2**19) == 38635
    assert 1900 < len(set(primes)) < 2000
    assert min(primes) < 2**19 * 1.01
    assert max(primes) > 2**20 * 0.99


def test_a_seed_repeats_its_primes():
    first, second, other = (np.random.default_rng(seed) for seed in (1, 1, 2))
    drawn = [random_prime(first) for _ in range(5)]
    assert [random_prime(second) for _ in range(5)] == drawn
    assert [random_prime(other) for _ in range(5)] != drawn


class Compute:
    """Refuses a number of primes, and remembers all it was asked for."""

    def __init__(self, refusals, error=NoResidueError):
        self.refusals, self.error, self.primes = refusals, error, []

    def __call__(self, p):
        self.primes.append(p)
        if len(self.primes) <= self.refusals:
            raise self.error(f"not modulo {p}")
        return -p


@pytest.mark.parametrize("refusals", [0, 1, 7, 49])
def test_another_prime_is_tried(refusals):
    compute = Compute(refusals)
    assert modulo_some_prime(np.random.default_rng(3), compute) == -compute.primes[-1]
    assert len(compute.primes) == refusals + 1
    assert len(set(compute.primes)) > refusals * 0.9
    assert all(map(sympy.isprime, compute.primes))


def test_fifty_primes_are_enough():
    compute = Compute(50)
    with pytest.raises(NoResidueError, match="not modulo"):
        modulo_some_prime(np.random.default_rng(4), compute)
    assert len(compute.primes) == 50


def test_other_errors_are_not_caught():
    compute = Compute(1, ValueError)
    with pytest.raises(ValueError, match="not modulo"):
        modulo_some_prime(np.random.default_rng(5), compute)
    assert len(compute.primes) == 1
