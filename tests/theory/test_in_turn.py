"""Families that act one after the other: brackets within each, their sum, and no bracket of fields of two."""

import copy
import json
from itertools import product

import numpy as np
import pytest
import sympy

import theory
from theory import MonomialProgram, UnionProgram, check_points
from theory.checker import check

COORDINATES = sympy.symbols("x y z")
# Fields of degree 1 with few terms: their algebras have few dimensions, and brackets of four letters are all of them.
EXPONENTS = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]


def sparse(rng, count):
    coefficients = rng.integers(-2, 3, (count, 3, 4)) * (rng.random((count, 3, 4)) < 0.25)
    return MonomialProgram(EXPONENTS, coefficients.tolist())


def bracket(V, W):
    return [
        sum(sympy.diff(w, x) * v - sympy.diff(u, x) * b for x, v, b in zip(COORDINATES, V, W, strict=True))
        for u, w in zip(V, W, strict=True)
    ]


def explicit_rank(parts, points):
    """Of all brackets of at most four letters within each part, by SymPy over the rationals."""
    rows = []
    for part in parts:
        fields = level = part.to_sympy(COORDINATES)
        for _ in range(4):
            at = [[[c.subs(dict(zip(COORDINATES, x, strict=True))) for c in V] for x in points] for V in level]
            rows += [[c for values in field for c in values] for field in at]
            level = [bracket(V, W) for V, W in product(fields, level)]
            level = [W for W in level if any(sympy.expand(c) != 0 for c in W)]
    return sympy.Matrix(rows).rank() if rows else 0


@pytest.mark.parametrize("seed", range(6))
def test_the_rank_is_that_of_explicit_brackets_within_families(seed):
    rng = np.random.default_rng(seed)
    parts = [sparse(rng, 2) for _ in range(2)]
    points = rng.integers(-2, 3, (2, 3)).tolist()
    points[1][0] = points[0][0] + 1
    found = check_points(UnionProgram(parts), points, in_turn=True, seed=seed)
    assert (found.claim, found.rank) == ("points in turn", explicit_rank(parts, points))
    # All brackets are no fewer, and where families are one they are the same.
    assert check_points(UnionProgram(parts), points, seed=seed).rank >= found.rank
    one = UnionProgram([UnionProgram(parts)])
    together = check_points(one, points, in_turn=True, seed=seed)
    assert together.rank == check_points(UnionProgram(parts), points, seed=seed).rank


def test_in_the_six_cases_something_is_told_apart():
    """As the ranks above would be the same if brackets between families counted, or none at all."""
    told = set()
    for seed in range(6):
        rng = np.random.default_rng(seed)
        parts = [sparse(rng, 2) for _ in range(2)]
        points = rng.integers(-2, 3, (2, 3)).tolist()
        points[1][0] = points[0][0] + 1
        ranks = [check_points(UnionProgram(parts), points, in_turn=turn, seed=seed).rank for turn in (True, False)]
        values = np.concatenate([p.evaluate(theory.exact_array(points)).transpose(1, 0, 2) for p in parts])
        without = sympy.Matrix(values.reshape(4, 6).tolist()).rank()
        told |= {"between"} if ranks[0] < ranks[1] else set()
        told |= {"within"} if without < ranks[0] else set()
    assert told == {"between", "within"}


def pair():
    """Two families of which each lacks what the other has, and a bracket of one is needed."""
    x, y, _ = COORDINATES
    one = theory.read_fields([[1, 0, 0], [0, x, 0]], COORDINATES)
    two = theory.read_fields([[0, 0, 1 + y]], COORDINATES)
    return UnionProgram([one, two])


def test_a_certificate_is_written_read_checked_and_proved_again():
    made = check_points(pair(), [[0, 0, 0]], in_turn=True, seed=1)
    assert made.proved
    assert made.depth > 1
    assert f"brackets of depth <= {made.depth} within families that act in turn: the 1-point" in str(made)
    read = theory.Certificate.from_json(made.to_json())
    assert read == made
    again = read.verify(seed=2)
    assert (again.proved, again.claim) == (True, made.claim)
    assert check(json.loads(made.to_json())).startswith("checked: rank 3 of 3 at 1 points of R^3 by brackets within 2")


def test_a_proof_by_brackets_between_families_is_none_of_families_in_turn():
    x, y, _ = COORDINATES
    # (1, 0, 0) and (0, 0, y): together with (0, x, 0) they span at 0 by brackets between, in turn they do not.
    parts = [theory.read_fields([V], COORDINATES) for V in ([1, 0, 0], [0, x, 0], [0, 0, y])]
    whole = check_points(UnionProgram(parts), [[0, 0, 0]], seed=1)
    turn = check_points(UnionProgram(parts), [[0, 0, 0]], in_turn=True, seed=1)
    assert (whole.proved, turn.proved, turn.rank) == (True, False, 1)
    forged = {**json.loads(whole.to_json()), "claim": "points in turn"}
    with pytest.raises(ValueError, match="a curve moves along the fields of two families"):
        check(forged)
    assert not theory.Certificate.from_json(json.dumps(forged)).verify(seed=3).proved
    # Curves of one family each do not help it either.
    split = copy.deepcopy(forged)
    split["runs"][-1]["curves"] = [
        [[c if i == k else 0 for i, c in enumerate(row)] for row in curve]
        for curve in forged["runs"][-1]["curves"]
        for k in range(3)
    ]
    with pytest.raises(ValueError, match="the rank is 1 of 3"):
        check(split)


def test_words_have_letters_of_one_family_each():
    made = check_points(pair(), [[0, 0, 0]], in_turn=True, words=True, seed=1)
    assert sorted(made.words) == [(0,), (0, 1), (2,)]
    assert made.verify(seed=5).words == made.words
    forged = json.loads(made.to_json())
    forged["words"] = [[0], [0, 1], [1, 2]]
    again = theory.Certificate.from_json(json.dumps(forged)).verify(seed=3)
    assert (again.proved, again.words) == (True, ())
    assert "the words at hand were not seen to be independent" in again.note


def test_one_family_has_no_turns():
    with pytest.raises(ValueError, match=r"in_turn=True is about families .* give theory\.UnionProgram"):
        check_points(theory.five_fields(2), [[1, 2]], in_turn=True)
    made = json.loads(check_points(theory.five_fields(2), [[1, 2]], seed=0).to_json())
    made["claim"] = "points in turn"
    with pytest.raises(ValueError, match="of one family"):
        theory.Certificate.from_json(json.dumps(made))
    with pytest.raises(ValueError, match="this is one family"):
        check(made)
