"""Primes drawn at random, so that no data can have been made for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from theory.exact import NoResidueError
from theory.modular import is_prime
from theory.rowspace import LARGEST_PRIME

Found = TypeVar("Found")
_ATTEMPTS = 50


def random_prime(rng: np.random.Generator) -> int:
    """A prime of twenty bits: one of 38,635 between 2**19 and 2**20."""
    while True:
        candidate = int(rng.integers(LARGEST_PRIME // 2, LARGEST_PRIME)) | 1
        if is_prime(candidate):
            return candidate


def modulo_some_prime(rng: np.random.Generator, compute: Callable[[int], Found]) -> Found:
    """The outcome of a computation modulo a random prime; another is drawn where the data have no residues.

    Raises:
        NoResidueError: fifty primes in a row divide denominators: no data do that by chance.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return compute(random_prime(rng))
        except NoResidueError:
            continue
    return compute(random_prime(rng))
