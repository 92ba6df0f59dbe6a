"""What all experiments have in common: options, folders, output."""

import json
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cde_nets.plot.style import figure
from experiments import command, neumann, regression

ROOT = Path(__file__).parents[2]
POINTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["cde_nets.experiments"]
# Why an experiment has no --seed.
SEEDLESS = {
    "computation_graph": "nothing is drawn",
    "frontier": "each entry of its configurations has seeds of its own, --seeds of them",
    "mnist_seeds": "it is about several: --seeds",
    "interpolation": "it is about several: --seeds",
    "citation": "it is about several: --seeds",
}


def options(name):
    module, attribute = POINTS[name].split(":")
    app = getattr(import_module(module), attribute)
    return {option for parameter in typer.main.get_command(app).params for option in parameter.opts}


@pytest.mark.parametrize("name", POINTS)
def test_every_experiment_has_the_options_of_all(name):
    found = options(name)
    assert {"--quick", "--out", "--json"} <= found
    assert ("--seed" in found) == (name not in SEEDLESS)


def test_every_module_that_is_a_command_is_an_entry_point():
    files = [*(ROOT / "experiments").glob("*.py"), *(ROOT / "experiments").glob("*/__init__.py")]
    commands = {
        file.parent.name if file.name == "__init__.py" else file.stem
        for file in files
        if file.name != "__main__.py" and ("@app.command" in file.read_text() or "import app" in file.read_text())
    }
    assert commands == {*POINTS}


def test_every_experiment_has_a_subject(command):
    from importlib.metadata import EntryPoint

    from cde_nets.cli.experiments import GROUP, about

    for name, value in POINTS.items():
        said = about(EntryPoint(name, value, GROUP))
        assert said["subject"], name
        assert "Subject:" not in said["description"]


def test_a_quick_run_is_smaller_and_leaves_the_constants_as_they_were(unchecked, tmp_path):
    before = regression.STEPS
    ran = CliRunner().invoke(regression.app, ["--quick", "--json", "--out", str(tmp_path)])
    assert ran.exit_code == 0, ran.output
    assert before == regression.STEPS
    content = json.loads(ran.stdout)
    assert content == json.loads((tmp_path / "quick" / "regression.json").read_text())
    assert not (tmp_path / "regression.json").exists()
    assert max(content["descents"]["powers of t"]["k"]) == 200


def test_less_puts_back_after_an_error_and_knows_its_names():
    constants = {"SIZE": 3}

    @command.less(constants, SIZE=1)
    def work(*, quick):
        assert constants["SIZE"] == (1 if quick else 3)
        raise KeyError(constants["SIZE"])

    for quick in (True, False):
        with pytest.raises(KeyError):
            work(quick=quick)
        assert constants == {"SIZE": 3}
    with pytest.raises(KeyError, match="SISE"):
        command.less(constants, SISE=1)


def test_names_come_with_commas_between():
    known = {"bptt": 1, "rbp": 2, "gmres": 3}
    assert command.named("rbp, bptt,rbp,", known, "--rows") == ["rbp", "bptt"]
    assert command.named("", iter(known), "--rows") == ["bptt", "rbp", "gmres"]
    with pytest.raises(typer.BadParameter, match="--rows: there is no 'gmers'; did you mean 'gmres'"):
        command.named("rbp,gmers", known, "--rows")


def test_folders_that_cannot_be_written_are_refused_before_work(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(neumann, "measure", None)
    for arguments, words in (
        (["--out", str(tmp_path / "file" / "out")], "cannot be written (Not a directory)"),
        (["--out", str(tmp_path / "out"), "--publish", str(tmp_path / "docks")], "expected the folder of docs"),
        (["--out", str(tmp_path / "out"), "--publish", str(tmp_path), "--quick"], "leave --publish out"),
    ):
        ran = CliRunner().invoke(neumann.app, arguments, env={"COLUMNS": "300"})
        assert ran.exit_code == 2
        assert words in ran.stderr
        assert ran.stdout == ""


def test_figures_and_numbers_are_the_same_in_both_places(tmp_path, capsys):
    out, docs = tmp_path / "out", tmp_path / "docs"
    docs.mkdir()
    assert command.begin(out, docs) == out
    command.leave("a", out, docs, {"b": 1}, {"one.png": figure(1.0, 1.0), "two.png": figure(2.0, 1.0)}, "said")
    assert capsys.readouterr().out == "said\n"
    for name in ("one.png", "two.png"):
        assert (docs / "images" / name).read_bytes() == (out / name).read_bytes()
    assert json.loads((docs / "results" / "a.json").read_text()) == {"b": 1}
    with pytest.raises(ValueError, match="JSON"):
        command.leave("a", out, None, {"b": float("nan")}, figure(1.0, 1.0), as_json=True)
