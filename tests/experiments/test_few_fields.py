import json

import pytest
from typer.testing import CliRunner

import theory
from experiments import few_fields as experiment


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(experiment, "DIMS", (2,))
    monkeypatch.setattr(experiment, "COUNTS", (1, 3))


def test_the_command_writes_numbers_and_figure_and_goes_on_where_it_stopped(small, monkeypatch, tmp_path):
    arguments = ["--out", str(tmp_path / "run"), "--trials", "2", "--publish", str(tmp_path / "docs")]
    for folder in ("images", "results"):
        (tmp_path / "docs" / folder).mkdir(parents=True)
    ran = CliRunner().invoke(experiment.app, arguments)
    assert ran.exit_code == 0, ran.output
    content = json.loads((tmp_path / "run" / "few_fields.json").read_text())
    found = {(row["count"], row["family"]): row for row in content["rows"]}
    assert [found[key]["proved"] for key in ((1, "random"), (3, "random"), (2, "explicit"))] == [False, True, True]
    # m C(m + D, m) for the degree that was filled; Clopper and Pearson's interval of 2 of 2.
    row = found[3, "random"]
    assert row["full_rank"] == 2 * theory.monomial_count(2, row["degree"])
    assert (row["certified"], row["trials"]) == (2, 2)
    assert row["low"] == pytest.approx(0.025**0.5)
    for file in ("images/few_fields.png", "results/few_fields.json"):
        assert (tmp_path / "docs" / file).stat().st_size > 500

    content["rows"] = content["rows"][:2]
    (tmp_path / "run" / "few_fields.json").write_text(json.dumps(content))
    monkeypatch.setattr(experiment, "measure", None)
    ran = CliRunner().invoke(experiment.app, arguments)
    assert ran.exit_code == 0, ran.output
    again = json.loads((tmp_path / "run" / "few_fields.json").read_text())
    assert [row["family"] for row in again["rows"]] == ["random", "random", "explicit"]


def test_other_settings_start_anew(small, tmp_path):
    file = tmp_path / "few_fields.json"
    file.write_text(json.dumps({"seed": 1, "trials": 2, "seconds": 60.0, "rows": [{"dim": 2}]}))
    assert experiment._earlier(file, {"seed": 0, "trials": 2, "seconds": 60.0}) == []
    assert experiment._earlier(file, {"seed": 1, "trials": 2, "seconds": 60.0}) == [{"dim": 2}]
