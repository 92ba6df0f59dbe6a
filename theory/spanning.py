"""Words of brackets that are independent at given points: a proof that can be read."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence

import numpy as np

from theory.exact import ExactArray
from theory.nested import nested_brackets
from theory.program import Program
from theory.programs.union import numbered
from theory.rowspace import Residues, RowSpace
from theory.words import Word

# Work grows as 3**depth.
MOST_DEPTH = 10
# Prefixes of a depth that are all tried, in order; of more, random ones, until so many in a row bring nothing.
_ALL, _PATIENCE = 256, 48


def independent_words(
    families: Sequence[Program],
    points: ExactArray,
    p: int,
    target: int,
    depth: int,
    rng: np.random.Generator,
    deadline: float = math.inf,
) -> list[Word]:
    """Right-normed words (a, b, .., c), for [V_a, [V_b, .. V_c]], whose brackets at the points are independent.

    Short words first. Modulo a prime independence is proved for the rationals.

    Args:
        families: the fields, counted through; a word's letters are all of one family.
        points: exact, (N, m).
        p: a prime below 2**20.
        target: the rank at which to stop.
        depth: the most letters.
        rng: for the choice among many.
        deadline: by `time.monotonic`.

    Returns:
        At most `target` words: fewer where no more are found.
    """
    space = RowSpace(points.shape[0] * points.shape[1], p)
    found: list[Word] = []
    for length in range(depth):
        for family, first in numbered(families):
            idle = 0
            for prefix in _prefixes(family.count, length, rng):
                words = [(*prefix, j) for j in range(prefix[-1] + 1 if prefix else 0, family.count)]
                kept = space.keep(_rows(family, points, prefix, p)[[word[-1] for word in words]])
                found += [tuple(first + letter for letter in words[k]) for k in kept]
                idle = 0 if len(kept) else idle + 1
                if space.rank >= target or time.monotonic() > deadline:
                    return found
                if idle == _PATIENCE and family.count**length > _ALL:
                    break
    return found


def are_independent(families: Sequence[Program], points: ExactArray, words: Sequence[Word], p: int) -> bool:
    """Whether the brackets of right-normed words, stacked over the points, are independent modulo p.

    False, too, where a word has letters of two families.
    """
    space, told = RowSpace(points.shape[0] * points.shape[1], p), 0
    for family, first in numbered(families):
        ours = [tuple(letter - first for letter in word) for word in words]
        ours = [word for word in ours if all(0 <= letter < family.count for letter in word)]
        told += len(ours)
        for prefix, group in itertools.groupby(sorted(ours, key=lambda w: (len(w), w)), key=lambda w: w[:-1]):
            last = [word[-1] for word in group]
            if space.add(_rows(family, points, prefix, p)[last]) < len(last):
                return False
    return told == len(words)


def _rows(program: Program, points: ExactArray, prefix: Word, p: int) -> Residues:
    """[V_a, [V_b, .. V_j]] for one prefix (a, b, ..) and all j, stacked over the points."""
    units = np.eye(program.count)
    rows: Residues = nested_brackets(program, points, [units[i : i + 1] for i in prefix], p)[-1]
    return rows


def _prefixes(letters: int, length: int, rng: np.random.Generator) -> Iterator[Word]:
    """All words of a length where they are few, else random ones, none twice."""
    if letters**length <= _ALL:
        yield from itertools.product(range(letters), repeat=length)
        return
    seen: set[Word] = set()
    while len(seen) < letters**length:
        word = tuple(rng.integers(0, letters, length).tolist())
        if word not in seen:
            seen.add(word)
            yield word
