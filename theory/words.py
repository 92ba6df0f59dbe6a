"""Words that stand for brackets: how many there are of each length, and Lyndon's."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

Word = tuple[int, ...]
# A letter, or a pair of nestings.
Nesting = Any


@lru_cache(maxsize=4096)
def witt(letters: int, length: int) -> int:
    """The dimension of the brackets of `length` letters in the free Lie algebra (Witt's formula).

    (1/n) sum over the divisors k of n of mu(k) d**(n / k), with Moebius' function mu.

    >>> [witt(2, n) for n in range(1, 8)]
    [2, 1, 2, 3, 6, 9, 18]
    """
    total: int = sum(_moebius(k) * letters ** (length // k) for k in range(1, length + 1) if length % k == 0)
    return total // length


def _moebius(n: int) -> int:
    sign, factor = 1, 2
    while factor * factor <= n:
        if n % factor == 0:
            n //= factor
            if n % factor == 0:
                return 0
            sign = -sign
        factor += 1
    return -sign if n > 1 else sign


def lyndon_words(letters: int, length: int) -> Iterator[Word]:
    """All Lyndon words over 0..letters-1 of exactly this length, in lexicographic order (Duval, 1988)."""
    word = [-1]
    while word:
        word[-1] += 1
        if len(word) == length:
            yield tuple(word)
        size = len(word)
        while len(word) < length:
            word.append(word[len(word) - size])
        while word and word[-1] == letters - 1:
            word.pop()


def standard_factors(word: Word) -> tuple[Word, Word]:
    """A Lyndon word w = u v with v its longest proper suffix that is Lyndon: the bracket of w is [u, v].

    Raises:
        ValueError: a word of one letter or none, or one that is not Lyndon.
    """
    if len(word) < 2 or not is_lyndon(word):
        raise ValueError(f"the word {word} has no factors, expected a Lyndon word of two letters or more")
    # A single letter is Lyndon: some cut is always found.
    cut = next(cut for cut in range(1, len(word)) if is_lyndon(word[cut:]))
    return word[:cut], word[cut:]


def is_lyndon(word: Word) -> bool:
    """Whether a word is smaller than all its proper suffixes."""
    return bool(word) and all(word < word[cut:] for cut in range(1, len(word)))


def right_normed(word: Word) -> Nesting:
    """The nesting [a, [b, .. c]] of a word.

    >>> right_normed((0, 1, 2))
    (0, (1, 2))
    """
    return word[0] if len(word) == 1 else (word[0], right_normed(word[1:]))
