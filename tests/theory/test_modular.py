"""Arithmetic modulo p."""

import numpy as np
import pytest
import sympy

from theory.modular import check_modulus, is_prime, matmul

PRIMES = [2, 3, 251, 1048573, 33554393, 47453111, 94906249, 2**31 - 1]


def test_is_prime_agrees_with_sympy():
    for n in [*range(2000), *range(2**31 - 200, 2**31), 3215031751 // 7, 25326001, 1373653]:
        assert is_prime(n) == sympy.isprime(n)


@pytest.mark.parametrize("p", PRIMES)
@pytest.mark.parametrize("inner", [1, 7, 3000])
def test_matmul_is_exact(p, inner):
    rng = np.random.default_rng(p + inner)
    a, b = rng.integers(0, p, (3, inner)), rng.integers(0, p, (inner, 2))
    # The worst case for rounding: residues of the largest size and one sign.
    a[0], b[:, 0] = p // 2, p // 2
    expected = (a.astype(object) @ b.astype(object)) % p
    product = matmul(a, b, p)
    assert product.dtype == np.int64
    assert product.tolist() == expected.tolist()


def test_matmul_without_rows():
    assert matmul(np.zeros((0, 3), np.int64), np.ones((3, 2), np.int64), 7).shape == (0, 2)


@pytest.mark.parametrize("bad", [1.0, "7", True, np.True_, None])
def test_modulus_must_be_an_integer(bad):
    with pytest.raises(TypeError, match="expected a prime given as an integer"):
        check_modulus(bad)


@pytest.mark.parametrize("bad", [-3, 0, 1, 4, 1048575, 2**31 + 11])
def test_modulus_must_be_a_prime(bad):
    with pytest.raises(ValueError, match="expected a prime in"):
        check_modulus(bad)


def test_numpy_integers_are_fine():
    assert check_modulus(np.int64(7)) == 7
