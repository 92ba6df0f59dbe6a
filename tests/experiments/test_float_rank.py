import json

import numpy as np
import pytest
import sympy
from typer.testing import CliRunner

import theory
from experiments import float_rank as experiment
from theory import monomial_exponents


@pytest.fixture
def quick(monkeypatch):
    for name, value in {"WIDTH": 30, "DEPTH": 4, "POINTS": 10, "SPREADS": (1.0, 0.1), "UNITS": (24, 18)}.items():
        monkeypatch.setattr(experiment, name, value)


def test_brackets_are_sympys():
    rng = np.random.default_rng(0)
    exponents = monomial_exponents(2, 4)
    fields = rng.integers(-5, 6, (3, 2, 6))
    x = sympy.symbols("x y")
    monomials = [x[0] ** a * x[1] ** b for a, b in exponents.tolist()]

    def expressions(rows):
        return [[sum(int(c) * t for c, t in zip(part, monomials, strict=False)) for part in row] for row in rows]

    pairs = experiment.choose(3, 3, rng)
    levels = experiment.brackets(experiment.widen(fields, exponents), fields, exponents, pairs)
    assert [len(level) for level in levels] == [3, 3, 9]
    found = [expressions(level.reshape(len(level), 2, -1)) for level in levels]
    for n, chosen in enumerate(pairs, start=1):
        for (i, j), bracket in zip(chosen, found[n], strict=True):
            wanted = theory.lie_bracket(found[0][i], found[n - 1][j], x)
            assert all(sympy.expand(a - b) == 0 for a, b in zip(bracket, wanted, strict=True))
    at = experiment.evaluate(levels[2], np.array([[2, -3]]), exponents)
    assert at[4].tolist() == [part.subs({x[0]: 2, x[1]: -3}) for part in found[2][4]]
    assert (experiment.evaluate(levels[2], np.array([[2, -3]]), exponents, 101) == at % 101).all()


def test_commuting_fields_have_rank_two_and_floats_more():
    found = experiment.commuting(18, 0)
    assert found.exact == [2] * experiment.COMMUTING_DEPTH
    assert 2 < found.plain[-1] <= 9
    assert found.plain[-1] < found.unit[-1] <= 9
    # Counted here from what is drawn.
    assert sum(value > found.tolerance for value in found.singular_values["plain"]) == found.plain[-1]


def test_the_unit_of_time_changes_what_floats_see_and_nothing_else():
    slow, fast = experiment.commuting(24, 0), experiment.commuting(18, 0)
    assert slow.exact == fast.exact
    assert slow.plain[-1] == 2 < fast.plain[-1]
    assert slow.unit == fast.unit


def test_floats_are_right_at_spread_points_and_not_at_close_ones(monkeypatch):
    # The spread case is the check that the float brackets are no worse than floats are.
    monkeypatch.setattr(experiment, "WIDTH", 60)
    far, near = experiment.generic(1.0, 0), experiment.generic(0.03125, 0)
    # All polynomial fields of degree n + 1, from depth 3 on: m C(n + 3, 2).
    assert far.exact == near.exact == [5, 15, 30, 42, 56, 72, 90, 100]
    assert far.plain == far.unit == far.exact
    assert near.plain[-1] < near.unit[-1] < 80


def test_the_command(quick, tmp_path):
    for folder in ("images", "results"):
        (tmp_path / "docs" / folder).mkdir(parents=True)
    arguments = ["--out", str(tmp_path / "out"), "--publish", str(tmp_path / "docs")]
    ran = CliRunner().invoke(experiment.app, arguments, env={"COLUMNS": "120"})
    assert ran.exit_code == 0, ran.output
    rows = json.loads((tmp_path / "docs" / "results" / "float_rank.json").read_text())["rows"]
    assert [(row["case"], row["exact"][-1]) for row in rows] == [("generic", 20)] * 2 + [("commuting", 2)] * 2
    assert (tmp_path / "docs" / "images" / "float_rank.png").read_bytes()[:4] == b"\x89PNG"
