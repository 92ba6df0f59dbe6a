"""Trials of steering: what a row says holds, and what was done is not done again."""

import json
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

import cde_nets as cn
from experiments import interpolation
from experiments.interpolation import Part, Trial

QUICK = Trial("numbers", "polynomial", 3, 6, 2, 0, 5.0, 6, 4, seconds=10.0)


@pytest.mark.parametrize("family", ["polynomial", "ridge", "five"])
def test_a_trial_says_what_was_reached(family, looks):
    row = interpolation.measure(replace(QUICK, family=family, count=5 if family == "five" else 6))
    assert row["reached"]
    assert row["residual"] <= 1e-10
    assert (row["intervals"], row["reached_lam"]) == (6, 5.0)


def test_with_fewer_numbers_than_are_asked_for_nothing_is_tried():
    with pytest.raises(ValueError, match="1 x 6 numbers for 18"):
        interpolation.measure(replace(QUICK, points=6, steps=1))


def test_the_trials_are_those_of_the_text():
    goals = {(t.dim, t.count, t.points) for t in interpolation.trials(Part.GOALS, 2)}
    assert goals == {(10, 20, 20), (10, 40, 50), (2, 5, 10)}
    growth = list(interpolation.trials(Part.GROWTH, 1))
    assert {t.points for t in growth} == {2, 5, 10, 20, 50}
    assert {t.family for t in growth} == {"five", "polynomial", "ridge"}
    # M d goes from m N to eight times as much, at equal numbers of steps.
    numbers = list(interpolation.trials(Part.NUMBERS, 1))
    assert {t.steps * t.count / (t.dim * t.points) for t in numbers} == {1, 4 / 3, 2, 8 / 3, 4, 8}
    assert {t.steps * t.substeps for t in numbers} == {24}


@pytest.mark.usefixtures("bad_input")
def test_a_command_that_was_stopped_goes_on(tmp_path, monkeypatch):
    one, two = QUICK, replace(QUICK, seed=1)
    measured = []

    def measure(trial):
        measured.append(trial.seed)
        return row_of(trial)

    monkeypatch.setattr(interpolation, "measure", measure)
    for some in ([one], [one, two]):
        monkeypatch.setattr(interpolation, "trials", lambda part, seeds, some=some: iter(some))
        ran = CliRunner().invoke(interpolation.app, ["--parts", "numbers", "--out", str(tmp_path)])
        assert ran.exit_code == 0, ran.output
    assert measured == [0, 1]
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) == 2
    assert "1 of 2" in ran.output


def test_every_part_has_its_panel():
    rows = [row_of(t) for part in Part for t in interpolation.trials(part, 2)]
    titles = [ax.get_title() for ax in interpolation.picture(rows).axes]
    assert len(titles) == 4
    assert all(titles)
    some = interpolation.picture([row for row in rows if row["part"] == "goals"])
    assert [bool(ax.get_title()) for ax in some.axes] == [True, False, False, False]


def row_of(trial):
    """A row with figures that tell seeds apart."""
    made = json.loads(json.dumps(interpolation.asdict(trial)))
    return made | {
        "reached": trial.seed == 0,
        "reached_lam": 10.0 * (1 + trial.seed),
        "intervals": trial.steps or 48,
        "residual": 1e-12,
        "refined_residual": 1e-9,
        "final_substeps": 4,
        "energy": 10.0 + trial.points,
        "condition": 100.0,
        "evaluations": 30,
        "took": 1.0 + trial.seed,
    }


def test_points_targets_and_fields_follow_from_the_seed():
    fields = interpolation._fields(replace(QUICK, seed=3))
    assert torch.equal(
        fields.coefficients, cn.PolynomialFields.random(3, 6, 2, seed=3, dtype=torch.float64).coefficients
    )
