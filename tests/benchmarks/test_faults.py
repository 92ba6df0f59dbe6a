"""The commands that call names and kill workers: what they count, and that they would see a fault."""

import json

import pytest
from typer.testing import CliRunner

from benchmarks.faults import arguments, workers
from benchmarks.faults.__main__ import app
from benchmarks.faults.entries import ARRAYS, NUMBERS
from benchmarks.faults.entries.judge import HOSTILE, OTHER, SAME, Number


@pytest.fixture
def few(monkeypatch, bad_input):
    """A public name of each kind, and no limit of memory on the process that runs all tests."""
    monkeypatch.setattr(arguments, "SPACE", float("inf"))
    monkeypatch.setattr(arguments, "ARRAYS", {"cn.PolynomialFields.evaluate": ARRAYS["cn.PolynomialFields.evaluate"]})
    monkeypatch.setattr(arguments, "NUMBERS", {"cn.GMRES": NUMBERS["cn.GMRES"]})


def test_every_form_and_value_is_called_and_counted(few, tmp_path):
    done = CliRunner().invoke(app, ["arguments", "--draws", "2", "--out", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    arrays, options = json.loads((tmp_path / "faults_arguments.json").read_text())["rows"]
    assert arrays["tried"] == arrays["identical"] == len(SAME) + len(OTHER)
    assert options["tried"] == options["identical"] == len(NUMBERS["cn.GMRES"].good) * (len(HOSTILE) + 2)
    assert arrays["lost"] == options["lost"] == []


def test_an_error_from_deep_within_is_a_fault(few, monkeypatch, tmp_path):
    monkeypatch.setattr(arguments, "NUMBERS", {"made": Number([0].__getitem__, {}), "bad": Number(_deep, {"n": 0})})
    done = CliRunner().invoke(app, ["arguments", "--draws", "0", "--out", str(tmp_path)])
    assert done.exit_code == 1
    _, options = json.loads((tmp_path / "faults_arguments.json").read_text())["rows"]
    assert "bad, n=3: JSONDecodeError" in "".join(options["lost"])
    assert options["tried"] == options["identical"] + len(options["lost"])


def _deep(n):
    # Not in this folder's code but in a library's.
    json.loads("[" if n == 3 else "[]")


def test_a_killed_worker_s_draws_are_the_same_and_others_would_be_seen(monkeypatch):
    pytest.importorskip("distributed", reason='needs the extra dask: pip install "cde-nets[dask]"')
    told = []
    count = workers.draws(1, 5, lambda: told.append(1))
    assert (count.tried, count.resumed, count.identical, count.lost) == (1, 1, 1, [])
    assert told == [1]
    count.ended("other numbers")
    assert (count.resumed, count.identical, count.lost) == (2, 1, ["other numbers"])


def test_a_killed_process_under_torchrun_is_counted(tmp_path):
    # With this seed the first process dies early: one run is enough for one kill.
    count = workers.training(tmp_path, 1, 3, lambda: None)
    assert (count.tried, count.resumed, count.identical, count.lost) == (1, 1, 1, [])
