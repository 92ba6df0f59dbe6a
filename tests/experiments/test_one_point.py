import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import sympy
from scipy.integrate import solve_ivp
from typer.testing import CliRunner

from experiments import one_point as experiment

UNICYCLE, HEISENBERG, GRUSHIN, DISC = experiment.EXAMPLES
x, y = experiment.X, experiment.Y


# Written here once more, by hand.
def unicycle(p, u):
    return [u[0] * math.cos(p[2]), u[0] * math.sin(p[2]), u[1]]


def heisenberg(p, u):
    return [u[0], u[1], (u[1] * p[0] - u[0] * p[1]) / 2]


def grushin(p, u):
    return [u[0], u[1] * p[0]]


def disc(p, u):
    return [u[0] * math.cos(p[2]), u[0] * math.sin(p[2]), u[1], u[0]]


VELOCITIES = (unicycle, heisenberg, grushin, disc)


def follow(velocity, start, values):
    """The end of the ODE, by scipy, started anew where the control jumps."""
    state, times = np.array(start, dtype=float), np.linspace(0, 1, len(values) + 1)
    for span, u in zip(pairwise(times), values, strict=True):
        state = solve_ivp(lambda _, p, u=u: velocity(p, u), span, state, "DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
    return state


@pytest.fixture
def quick(monkeypatch, looks, unchecked):
    monkeypatch.setattr(experiment, "STEPS", 12)


# Brackets by hand, and what the target is made of at the start.
@pytest.mark.parametrize(
    ("example", "brackets", "shares"),
    [
        (UNICYCLE, ["(sin(theta), -cos(theta), 0)"], [0, 0, -1]),
        (HEISENBERG, ["(0, 0, 1)"], [0, 0, 1]),
        (GRUSHIN, ["(0, 1)"], [0, 1]),
        (
            DISC,
            ["(sin(theta), -cos(theta), 0, 0)", "(-cos(theta), -sin(theta), 0, 0)"],
            [sympy.pi / 2, 0, 0, sympy.pi / 2],
        ),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_brackets_fill_the_space_everywhere(example, brackets, shares):
    filled = experiment.frame(example.fields, example.symbols)
    assert [str(b.components) for b in filled.brackets if b.depth > 1] == brackets
    for row in np.random.default_rng(0).standard_normal((5, len(example.symbols))):
        matrix = [
            [float(c.subs(dict(zip(example.symbols, row, strict=True)))) for c in b.components] for b in filled.brackets
        ]
        assert np.linalg.det(matrix) == pytest.approx(float(filled.determinant), abs=1e-12)
        assert abs(np.linalg.det(matrix)) > 0.5
    move = [there - here for here, there in zip(example.start, example.target, strict=True)]
    assert filled.coordinates(example.symbols, example.start, move) == shares


def test_a_determinant_that_may_vanish_proves_nothing():
    # Where x = 0 the second field of the first pair vanishes, and a bracket helps; of the second pair none does.
    assert experiment.frame(((1, 0), (0, x)), (x, y)).brackets[-1].depth == 2
    with pytest.raises(ValueError, match=r"No 2 brackets up to depth 4.*: x\. Take other fields"):
        experiment.frame(((x, 0), (0, 1)), (x, y))
    with pytest.raises(ValueError, match="found: none, as there are fewer"):
        experiment.frame(((1, 0),), (x, y))


def test_the_least_energies_are_those_of_the_circle_and_the_sine():
    times = (np.arange(4000) + 0.5) / 4000
    # A circle around an area of one, from and to the origin.
    length = 2 * math.sqrt(math.pi)
    circle = length * np.stack([np.cos(2 * np.pi * times), np.sin(2 * np.pi * times)], 1)
    a = math.sqrt(2 / math.pi)
    sine = np.stack([a * np.pi * np.cos(np.pi * times), a * np.pi * np.sin(np.pi * times)], 1)
    for example, velocity, u in ((HEISENBERG, heisenberg, circle), (GRUSHIN, grushin, sine)):
        assert (u**2).sum(1).mean() == pytest.approx(example.least_energy, rel=1e-12)

        def along(t, p, velocity=velocity, u=u):
            return velocity(p, [np.interp(t, times, part) for part in u.T])

        end = solve_ivp(along, (0, 1), example.start, rtol=1e-9, atol=1e-10, max_step=1e-2).y[:, -1]
        np.testing.assert_allclose(end, np.array(example.target, dtype=float), atol=2e-6)


def test_a_failure_stops_with_the_way_out(monkeypatch):
    monkeypatch.setattr(experiment, "TIME_LIMIT", 1e-6)
    with pytest.raises(RuntimeError, match=r"unicycle, parked sideways: .*--seed"):
        experiment.steer(UNICYCLE, 0)


def test_the_path_begins_at_the_start_and_ends_at_the_target(quick):
    example = replace(GRUSHIN, start=(0, 0), target=(0, sympy.Rational(1, 2)))
    found = experiment.steer(example, 1)
    walked = experiment.path(example, found)
    assert walked.shape == (12 * experiment.FINE + 1, 2)
    np.testing.assert_allclose(walked[[0, -1]], [[0, 0], [0, 0.5]], atol=1e-7)
    # On its way: two thirds of the time, which `follow` would stretch to one.
    values = found.control.values.detach().numpy()[:8] * 2 / 3
    np.testing.assert_allclose(walked[8 * experiment.FINE], follow(grushin, (0, 0), values), atol=1e-7)


def test_numbers_figure_and_table(quick, tmp_path):
    for folder in ("images", "results"):
        (tmp_path / "docs" / folder).mkdir(parents=True)
    arguments = ["--out", str(tmp_path / "out"), "--publish", str(tmp_path / "docs")]
    ran = CliRunner().invoke(experiment.app, arguments, env={"COLUMNS": "160"})
    assert ran.exit_code == 0, ran.output
    content = json.loads((tmp_path / "docs" / "results" / "one_point.json").read_text())
    rows = content["rows"]
    for row, velocity in zip(rows, VELOCITIES, strict=True):
        values = np.array(row["control"])
        end = follow(velocity, row["start"], values)
        np.testing.assert_allclose(end, row["target"], rtol=0, atol=2e-8)
        assert row["residual"] <= experiment.TOLERANCE
        assert row["refined_residual"] <= experiment.REFINED
        assert row["energy"] == pytest.approx((values**2).sum() / len(values))
        assert f"{row['energy']:.3f}" in ran.output
    assert [row["certified_rank"] for row in rows] == [None, 3, 2, None]
    # No polygon of 12 sides encloses the area with less than the regular one; no control is below the least.
    polygon = 4 * 12 * math.tan(math.pi / 12)
    assert polygon * (1 - 1e-9) <= rows[1]["energy"] <= 1.005 * polygon
    assert 2 * math.pi <= rows[2]["energy"] <= 1.05 * 2 * math.pi
    assert (tmp_path / "docs" / "images" / "one_point.png").read_bytes()[:4] == b"\x89PNG"
