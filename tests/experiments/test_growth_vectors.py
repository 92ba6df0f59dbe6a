import json
from dataclasses import replace

import pytest
import sympy
from typer.testing import CliRunner

import theory
from experiments import growth_vectors as experiment
from theory.bounds import Limit, by_depth
from theory.brackets import lie_algebra

SMALL = (
    experiment.Case("quadratic", 2, 4, depth=3),
    experiment.Case("ridge", 2, 3, count=3, depth=3),
    experiment.Case("linear", 2, 4, count=3, depth=3),
    experiment.Case("spherical", 2, 3, depth=3),
)


def explicit(case, depth):
    """The rank of brackets expanded by SymPy, over the rationals."""
    import numpy as np

    x = list(sympy.symbols(f"x_1:{case.dim + 1}"))
    points = np.random.default_rng([0, 1]).standard_normal((case.points, case.dim))
    fields = experiment._fields(case, 0).exact().to_sympy(x)
    rows = []
    for bracket in lie_algebra(fields, x, depth):
        values = [
            part.subs(dict(zip(x, map(sympy.Rational, row), strict=True)))
            for row in points
            for part in bracket.components
        ]
        rows.append(values)
    return sympy.polys.matrices.DomainMatrix.from_list_sympy(len(rows), len(rows[0]), rows).to_field().rank()


@pytest.mark.parametrize("case", SMALL[:3], ids=lambda case: case.family)
def test_ranks_are_those_of_expanded_brackets(case):
    found, _ = experiment.measure(case, 0)
    assert list(found.ranks[:2]) == [explicit(case, depth) for depth in range(1, len(found.ranks[:2]) + 1)]


def test_what_stops_ranks_has_its_name():
    for family, m, n, depth, name in (
        ("quadratic", 2, 50, 2, Limit.LETTERS),
        ("quadratic", 2, 50, 3, Limit.POLYNOMIALS),
        ("quadratic", 2, 50, 8, Limit.SPACE),
        ("linear", 3, 6, 4, Limit.LINEAR),
        ("spherical", 3, 6, 4, Limit.SPHERES),
    ):
        program = experiment._fields(experiment.Case(family, m, n), 0).exact()
        assert by_depth(program, n, depth).limit is name


def test_a_rank_below_its_bound_is_tried_again_and_said_as_a_lower_bound(monkeypatch):
    case = SMALL[0]
    seeds = []

    def limited(fields, points, depth, *, seed):
        seeds.append(seed)
        return theory.Growth((5, 6, 7), (), 8, 2, 4, 7, 1, seed)

    monkeypatch.setattr(theory, "growth_vector", limited)
    found, primes = experiment.measure(replace(case), 0)
    assert len(set(seeds)) == 1 + experiment.RETRIES
    assert (found.ranks, found.known) == ((5, 6, 7), (True, False, False))
    assert primes == [7] * (1 + experiment.RETRIES)
    assert experiment._said(7, False) == "≥7"


def test_numbers_figure_and_table(monkeypatch, tmp_path):
    monkeypatch.setattr(experiment, "CASES", SMALL)
    for folder in ("images", "results"):
        (tmp_path / "docs" / folder).mkdir(parents=True)
    arguments = ["--out", str(tmp_path / "out"), "--publish", str(tmp_path / "docs")]
    ran = CliRunner().invoke(experiment.app, arguments, env={"COLUMNS": "120"})
    assert ran.exit_code == 0, ran.output
    content = json.loads((tmp_path / "docs" / "results" / "growth_vectors.json").read_text())
    assert [case["ranks"][-1] for case in content["cases"]] == [8, 6, 4, 3]
    assert all(all(case["known"]) for case in content["cases"])
    assert (tmp_path / "docs" / "images" / "growth_vectors.png").read_bytes()[:4] == b"\x89PNG"
    assert str(content["cases"][0]["primes"][0]) in ran.output
