"""Arithmetic modulo a prime below 2**31 on int64 arrays of residues, with matrix products done by BLAS."""

from __future__ import annotations

from functools import lru_cache
from operator import index
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

# Products of integers are exact in float64 while every partial sum stays within its 53 bits.
_EXACT_IN_FLOAT64 = 2**53


@lru_cache(maxsize=1024)
def is_prime(n: int) -> bool:
    """Whether n is prime; Miller-Rabin with the bases 2, 3, 5, 7, which decides every n < 3,215,031,751."""
    if n < 2:
        return False
    for q in (2, 3, 5, 7):
        if n % q == 0:
            return n == q
    twos = ((n - 1) & -(n - 1)).bit_length() - 1
    for base in (2, 3, 5, 7):
        x = pow(base, (n - 1) >> twos, n)
        if x not in (1, n - 1) and all((x := x * x % n) != n - 1 for _ in range(twos - 1)):
            return False
    return True


def check_modulus(modulus: Any) -> int:
    """Return the modulus as an int.

    Raises:
        TypeError: it is not an integer.
        ValueError: it is not a prime in [2, 2**31).
    """
    try:
        p = index(modulus)
    except TypeError:
        p = None
    if p is None or isinstance(modulus, bool | np.bool_):
        raise TypeError(f"the modulus is {modulus!r}, expected a prime given as an integer, such as 1048573")
    if not 2 <= p < 2**31 or not is_prime(p):
        raise ValueError(f"the modulus is {p}, expected a prime in [2, 2**31), such as 1048573")
    return p


def matmul(a: IntArray, b: IntArray, p: int) -> IntArray:
    """The product of two matrices of residues modulo p < 2**31.

    Residues centred at zero are at most p/2 in size, so that 2**53 / (p/2)**2 terms of a sum (32,768 of them for
    p < 2**20) are exact in float64 and BLAS may do them. Larger primes split one factor into two 16-bit halves.

    Args:
        a: residues in [0, p), shape (rows, inner).
        b: residues in [0, p), shape (inner, columns).
        p: the modulus.

    Returns:
        Residues in [0, p), shape (rows, columns).
    """
    half = p // 2
    centred = (b - p * (b > half)).astype(np.float64)
    if 16 * half * half <= _EXACT_IN_FLOAT64:
        return _blocked((a - p * (a > half)).astype(np.float64), centred, half * half, p)
    high, low = a >> 16, a & 0xFFFF
    upper = _blocked(high.astype(np.float64), centred, half << 16, p)
    lower = _blocked(low.astype(np.float64), centred, half << 16, p)
    product: IntArray = (upper * (2**16 % p) + lower) % p
    return product


def _blocked(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], bound: int, p: int) -> IntArray:
    """The product modulo p where every single product is at most `bound` in size, by blocks of the inner index."""
    size = max(1, _EXACT_IN_FLOAT64 // max(bound, 1))
    total = np.zeros((a.shape[0], b.shape[1]), dtype=np.int64)
    for start in range(0, a.shape[1], size):
        total += (a[:, start : start + size] @ b[start : start + size]).astype(np.int64) % p
    total %= p
    return total
