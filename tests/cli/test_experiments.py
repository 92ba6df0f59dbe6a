"""`cde-nets list` and `cde-nets run`, with experiments of a package made here."""

import json
import sys
from importlib.metadata import EntryPoint

import pytest
from typer.testing import CliRunner

from cde_nets.cli import app, experiments

FAKES = '''"""Things for tests. They do little.

More of it.

Subject: Work
Source: Taylor 1911, section 2
"""
import typer

app = typer.Typer(add_completion=False)


@app.command()
def work(size: int = 1, fail: bool = False, stop: bool = False, lose: bool = False) -> None:
    """Work a little."""
    if stop:
        raise KeyboardInterrupt
    if lose:
        raise OSError("the disk is full")
    print(f"size {size}")
    raise typer.Exit(3 if fail else 0)


def plain() -> int:
    import sys

    print(sys.argv)
    return 5
'''
POINTS = """[cde_nets.experiments]
little_work = fakes:app
plain_work = fakes:plain
heavy = heavies.inner:app
lost = nowhere_at_all:app
"""


@pytest.fixture
def site(tmp_path_factory, monkeypatch):
    """A package with four experiments: an app, a function, one that nobody may import, one that is not there."""
    folder = tmp_path_factory.mktemp("site")
    about = folder / "fakes-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: fakes\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(POINTS)
    (folder / "fakes.py").write_text(FAKES)
    (folder / "heavies").mkdir()
    (folder / "heavies" / "__init__.py").write_text("raise ImportError('heavies was imported')\n")
    (folder / "heavies" / "inner.py").write_text('"""Weighs\na lot of al. tons: x. But why?"""\nraise ImportError\n')
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop("fakes", None)


def test_the_list_says_what_they_are_and_imports_none(site, command):
    listed = command("list", "--json")
    assert listed.code == 0, listed.err
    assert listed.err == ""
    found = {one["name"]: one for one in listed.json["experiments"]}
    subjects = [one["subject"] for one in found.values()]
    assert subjects == sorted(subjects, key=lambda one: (one is None, one or ""))
    assert list(found)[-1] == "lost"
    assert found["little_work"]["subject"] == "Work"
    assert found["little_work"]["source"] == "Taylor 1911, section 2"
    assert found["heavy"]["source"] is None
    assert found["little_work"]["description"] == "Things for tests."
    assert found["heavy"]["description"] == "Weighs a lot of al. tons: x."
    assert found["lost"]["description"] is None
    assert found["mnist_seeds"]["command"] == "cde-nets run mnist_seeds"
    assert found["mnist_seeds"]["description"].startswith("MNIST with 745 trained numbers, from several seeds:")
    assert not {"fakes", "heavies"} & set(sys.modules)
    (line,) = [one for one in command("list", env={"COLUMNS": "200"}).out.splitlines() if "little_work" in one]
    assert line.endswith("Things for tests. [Taylor 1911, section 2]")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (b"#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n\nr'''On R^m, u\\to v.'''\nx = 1\n", "On R^m, u\\to v."),
        (b"x = 1\n'Not a docstring.'\n", None),
        (b"b'Bytes.'\n", None),
        (b"'''Never ends.", None),
        (b"'\xff'\n", None),
        (b"", None),
    ],
)
def test_docstrings_are_read_as_python_does(site, source, says):
    (site / "odd.py").write_bytes(source)
    assert experiments.about(EntryPoint("odd", "odd:app", experiments.GROUP))["description"] == says


def test_experiments_of_packages_are_described():
    """Their docstring is in the package."""
    point = EntryPoint("fixed_points", "experiments.fixed_points:app", experiments.GROUP)
    said = experiments.about(point)
    assert said["description"].startswith("Fixed points z = f(z):")
    assert said["subject"] == "Equilibria"


@pytest.mark.parametrize("columns", [20, 40, 59, 60, 80, 200])
def test_the_list_fits_the_terminal(site, command, columns):
    listed = command("list", env={"COLUMNS": str(columns)})
    assert listed.code == 0, listed.err
    lines = listed.out.splitlines()
    assert max(len(line) for line in lines if " " in line.strip()) <= columns
    assert any(line.split()[0] == "little_work" for line in lines)
    words = " ".join(listed.out.split())
    assert "Things for tests." in words
    assert "They do" not in words


def test_a_program_reads_a_line_each(site, process):
    listed = process("list", env={"COLUMNS": ""})
    assert listed.code == 0, listed.err
    # Asked of the same program: what is installed may be found in other places from here.
    named = json.loads(process("list", "--json", env={"COLUMNS": ""}).out)["experiments"]
    lines = [line for line in listed.out.splitlines() if line.startswith("  ")]
    assert [line.split()[0] for line in lines] == [one["name"] for one in named]
    # All others are subjects.
    others = [line for line in listed.out.splitlines() if not line.startswith("  ")]
    assert others == [*dict.fromkeys(one["subject"] or "Others" for one in named)]


def test_arguments_and_exit_codes_pass_through(site, command):
    done = command("run", "little_work", "--size", "7")
    assert (done.code, done.out) == (0, "size 7\n")
    assert command("run", "little_work", "--fail").code == 3
    refused = command("run", "little_work", "--sise", "7")
    assert refused.code == 2
    assert "--size" in refused.err
    assert "Usage: cde-nets run little_work" in refused.err
    assert command("run", "little_work", "--size", "many").code == 2
    assert command("run", "little_work", "too", "much").code == 2


def test_help_is_the_experiments_own(site, command):
    own = command("run", "little_work", "--help")
    assert own.code == 0
    assert "Work a little." in own.out
    assert "--size" in own.out
    ours = command("run", "--help")
    assert ours.code == 0
    assert "EXPERIMENT" in ours.out
    assert "--size" not in ours.out


def test_a_function_as_scripts_have_them(site, command, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pytest"])
    done = command("run", "plain_work", "--any", "-x", "--", "y")
    assert done.code == 5
    assert done.out == "['cde-nets run plain_work', '--any', '-x', '--', 'y']\n"


def test_an_unknown_name_is_refused_with_the_nearest(site, command):
    done = command("run", "little_wrok", "--fail")
    assert done.code == 2
    assert done.out == ""
    assert "did you mean 'little_work'" in done.err
    assert "cde-nets list" in done.err
    far = command("run", "zzzzzz")
    assert far.code == 2
    assert "did you mean" not in far.err
    assert "cde-nets list" in far.err
    assert command("run").code == 2


@pytest.mark.parametrize(("name", "why"), [("lost", "nowhere_at_all"), ("heavy", "heavies was imported")])
def test_what_cannot_be_imported_has_failed(site, command, name, why):
    done = command("run", name)
    assert done.code == 1
    assert done.out == ""
    assert name in done.err
    assert why in done.err


def test_ctrl_c_is_1_without_a_traceback(site, command):
    done = command("run", "little_work", "--stop")
    assert done.code == 1
    assert done.err == "Stopped.\n"


def test_work_that_fails_is_1_and_a_sentence(site, command):
    done = command("run", "little_work", "--lose")
    assert done.code == 1
    assert done.err == "error the disk is full\n"


def test_names_of_experiments_are_completed(site):
    words = {"_CDE_NETS_COMPLETE": "complete_bash", "COMP_WORDS": "cde-nets run litt", "COMP_CWORD": "2"}
    done = CliRunner().invoke(app, prog_name="cde-nets", env=words)
    assert done.stdout.split() == ["little_work"]
