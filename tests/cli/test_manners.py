"""What every command owes who called it: one JSON object, forty columns, a pipe that closes, no display, exit codes."""

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from cde_nets.cli.app import main
from cde_nets.cli.shape import ORDER
from cde_nets.train import ProgressBar

TRAIN = "train mnist --epochs 1 --count 4 --intervals 1,1 --batch-size 100 --out made"
# What prints results by itself; run and bench hand over to others.
WORKS = {
    "train": TRAIN,
    "evaluate": "evaluate run/network.safetensors",
    "plot": "plot run",
    "report": "report run --certificate 0",
    "check": "check polynomial --dim 2 --points 2",
    "steer": "steer polynomial --points 1 --lam 10 --out steered",
    "list": "list",
    "info": "info",
}
BAD = {
    "train": "train mnist --intervals 2;2",
    "evaluate": "evaluate nowhere.safetensors",
    "plot": "plot nowhere",
    "report": "report nowhere",
    "check": "check nowhere",
    "steer": "steer nowhere",
    "list": "list --nonsense",
    "info": "info --nonsense",
}
each = pytest.mark.parametrize("name", WORKS)


def test_no_command_is_forgotten():
    assert set(WORKS) == set(BAD) == set(ORDER) - {"run", "bench"}


def strict(text):
    """JSON as the standard has it: Python's own NaN and infinities are none."""

    def refuse(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


@each
def test_json_is_one_object_and_nothing_else(workplace, command, name):
    done = command(*WORKS[name].split(), "--json")
    assert done.code == 0, done.err
    assert done.out.count("\n") == 1
    assert isinstance(strict(done.out), dict)


@each
def test_bad_input_is_2_and_says_so_on_standard_error_alone(workplace, command, name):
    before = sorted(workplace.rglob("*"))
    done = command(*BAD[name].split(), "--json")
    assert (done.code, done.out) == (2, "")
    assert "rror" in done.err
    assert "Traceback" not in done.err
    assert sorted(workplace.rglob("*")) == before


@each
def test_forty_columns_cut_nothing(workplace, command, name):
    done = command(*WORKS[name].split(), env={"COLUMNS": "40"})
    assert done.code == 0, done.err
    assert "…" not in done.out + done.err
    if name == "train":
        rows = [line.split("│") for line in done.out.splitlines() if line.startswith("│")]
        assert max(map(len, done.out.splitlines())) <= 40
        assert "made/network.safetensors(" in "".join(row[2] for row in rows).replace(" ", "")


@pytest.mark.parametrize(("columns", "figures"), [(40, False), (72, True), (100, True)])
def test_the_bar_of_a_training_run_fits(columns, figures, capsys):
    from rich.console import Console

    console = Console(width=columns, force_terminal=True, color_system=None, file=sys.stderr)
    with ProgressBar(30, console) as bar:
        bar.batch(8249, 8250, 0.0123, 0.9876)
        bar._bar.refresh()
    shown = capsys.readouterr().err
    assert "100%" in shown
    assert "…" not in shown
    assert ("loss 0.0123 accuracy 98.76%" in shown) == figures


@each
def test_a_reader_who_has_gone_is_1_without_a_word(workplace, monkeypatch, capsys, bad_input, name):
    ours, theirs = os.pipe()
    os.close(ours)
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(sys, "argv", ["cde-nets", *WORKS[name].split()])
    # What is left in the buffer finds nobody when it is closed, either.
    with suppress(BrokenPipeError), os.fdopen(theirs, "w") as nobody:
        monkeypatch.setattr(sys, "stdout", nobody)
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert "error" not in said
    assert "Broken pipe" not in said


def test_no_display_is_needed(process):
    """Not even where matplotlib is told to open windows."""
    there = {"DISPLAY": None, "WAYLAND_DISPLAY": None, "MPLBACKEND": "tkagg"}
    done = process("steer", "polynomial", "--points", "1", "--lam", "10", "--out", "made", "--json", env=there)
    assert done.code == 0, done.err
    assert done.err == ""


def unwritable(monkeypatch, folder):
    """As a folder that others own: as root everything may be written."""
    allowed = os.access
    here = folder.absolute()

    def access(path, mode):
        return not (mode & os.W_OK and Path(path).absolute() == here) and allowed(path, mode)

    monkeypatch.setattr(os, "access", access)


@pytest.mark.parametrize(
    "arguments",
    [
        [*TRAIN.split()[:-1], "closed"],
        ["train", "mnist", "--resume", "closed"],
        ["plot", "run", "--out", "closed"],
        ["plot", "closed"],
        ["report", "closed"],
        ["report", "run", "--out", "closed/page.html"],
        ["check", "five", "--dim", "2", "--points", "1", "--out", "closed/c.json"],
        ["steer", "five", "--points", "1", "--out", "closed"],
        ["steer", "five", "--points", "1", "--out", "closed/below/it"],
    ],
    ids=" ".join,
)
def test_a_folder_that_cannot_be_written_is_refused_before_work(workplace, command, monkeypatch, arguments):
    if arguments[-1] == "closed" and arguments[-2] in ("--resume", "plot", "report"):
        (workplace / "run").rename(workplace / "closed")
    (workplace / "closed").mkdir(exist_ok=True)
    before = {path: path.stat().st_mtime_ns for path in workplace.rglob("*")}
    unwritable(monkeypatch, workplace / "closed")
    begun = SimpleNamespace(work=False)

    def work(*given, **options):
        begun.work = True
        raise AssertionError("work had begun")

    for name in ("cde_nets.data.load_mnist", "theory.check_points", "cde_nets.steer.interpolate"):
        monkeypatch.setattr(name, work)
    done = command(*arguments)
    assert (done.code, done.out) == (2, ""), done.err
    assert "closed" in done.err
    assert "writ" in done.err
    assert not begun.work
    assert {path: path.stat().st_mtime_ns for path in workplace.rglob("*")} == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*TRAIN.split()[:-1], "file"], "file is no folder"),
        (["plot", "run", "--out", "file/below"], "file is no writable folder"),
        (["steer", "five", "--points", "1", "--out", "file"], "file is no writable folder"),
        (["check", "five", "--dim", "2", "--points", "1", "--out", "run"], "--out run is a folder, expected the name"),
        (["check", "five", "--dim", "2", "--points", "1", "--out", "file/c.json"], "there is no folder"),
    ],
    ids=" ".join,
)
def test_a_file_in_the_place_of_a_folder(workplace, command, arguments, words):
    (workplace / "file").write_text("mine")
    done = command(*arguments)
    assert (done.code, done.out) == (2, "")
    assert words in " ".join(done.err.split())
    assert (workplace / "file").read_text() == "mine"


def test_a_run_whose_metrics_are_damaged_is_not_gone_on_with(workplace, command):
    """Stopped after its second epoch; the first one's line was damaged since."""
    (workplace / "run" / "result.json").unlink()
    metrics = workplace / "run" / "metrics.jsonl"
    metrics.write_text("{" + metrics.read_text())
    before = {path: path.read_bytes() for path in (workplace / "run").iterdir()}
    done = command("train", "mnist", "--resume", "run", "--json")
    assert (done.code, done.out) == (2, "")
    assert "metrics.jsonl is damaged: line 1 is no JSON object." in done.err
    assert "Put a whole copy in its place, or train again." in done.err
    assert {path: path.read_bytes() for path in (workplace / "run").iterdir()} == before
