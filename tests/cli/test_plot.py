"""`cde-nets plot`, on a run trained here on images made here."""

import json
import os
import shutil

import pytest

import cde_nets as cn
from cde_nets.cli import plot

PICTURES = ["confusion.png", "controls.png", "curves.png", "flow.png"]


@pytest.fixture
def run(tiny_run, tmp_path, monkeypatch, waves):
    """A copy of it, which tests may damage."""
    monkeypatch.setattr(plot, "load", lambda data_dir, offline: waves)
    shutil.copytree(tiny_run, tmp_path / "run")
    return cn.Run(tmp_path / "run")


def drawn(folder):
    return sorted(file.name for file in folder.glob("*.png"))


def test_a_finished_run_is_drawn_again(run, command):
    done = command("plot", "run", "--json")
    assert done.code == 0, done.err
    assert done.json["run"] == "run"
    assert sorted(done.json["pictures"]) == [f"run/{name}" for name in PICTURES]
    assert drawn(run.folder) == PICTURES
    for name in PICTURES:
        assert (run.folder / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_out_is_where_pictures_go(run, command, tmp_path):
    done = command("plot", "run", "--out", "a/b")
    assert done.code == 0, done.err
    assert sorted(done.out.split()) == [f"a/b/{name}" for name in PICTURES]
    assert drawn(tmp_path / "a" / "b") == PICTURES
    assert drawn(run.folder) == []


def without(name):
    return lambda run: (run.folder / name).unlink()


def cut_short(name):
    def damage(run):
        text = (run.folder / name).read_text()
        (run.folder / name).write_text(text[: len(text) - 20])

    return damage


def binary(run):
    run.metrics.write_bytes(b"\xff\xfe\x00")


def no_table(run):
    run.result.write_text(json.dumps({**json.loads(run.result.read_text()), "confusion": [[1, 2], [3]]}))


def foreign_metrics(run):
    run.metrics.write_text('{"epoch": 1}\n3\n')


def emptied(run):
    result = json.loads(run.result.read_text())
    del result["confusion"]
    run.result.write_text(json.dumps(result))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (without("config.json"), ["run is not a run", "config.json"]),
        (without("result.json"), ["not a finished run", "--resume run"]),
        (without("metrics.jsonl"), ["metrics.jsonl is missing", "each of 2 epochs"]),
        (without("network.safetensors"), ["network.safetensors"]),
        (cut_short("metrics.jsonl"), ["metrics.jsonl is damaged: line 2 is no JSON object", "a whole copy"]),
        (cut_short("result.json"), ["result.json is damaged"]),
        (binary, ["metrics.jsonl is damaged: line 1"]),
        (foreign_metrics, ["metrics.jsonl is damaged: line 2"]),
        (emptied, ["result.json is damaged", "confusion"]),
        (no_table, ["result.json is damaged", "no table of 10 x 10 counts"]),
    ],
)
def test_a_run_that_is_not_whole_is_refused(run, command, damage, words):
    damage(run)
    done = command("plot", "run", "--json")
    assert done.code == 2, done.err
    assert done.out == ""
    for word in words:
        assert word in done.err
    assert drawn(run.folder) == []


def test_what_is_no_folder_is_refused(command, tmp_path):
    (tmp_path / "file").write_text("")
    for name, words in (("file", "file is a file; a run is a folder"), ("nowhere", "nowhere: no such folder")):
        done = command("plot", name)
        assert done.code == 2
        assert words in done.err


def test_a_folder_that_cannot_be_written_is_refused_before_work(run, command, tmp_path, monkeypatch):
    monkeypatch.setattr(plot, "load", lambda data_dir, offline: pytest.fail("work had begun"))
    (tmp_path / "file").write_text("")
    under = command("plot", "run", "--out", "file/pictures")
    assert under.code == 2
    assert "--out" in under.err
    # As root everything may be written: what others are told is asked for here.
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(run.folder))
    done = command("plot", "run")
    assert done.code == 2
    assert "no writable folder" in done.err


def test_a_disk_that_fails_while_it_draws_has_failed(run, command, monkeypatch):
    def full(drawn, path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("cde_nets.plot.run.save", full)
    done = command("plot", "run", "--json")
    assert done.code == 1
    assert done.out == ""
    assert "No space left on device" in done.err


def test_other_images_than_it_was_trained_beside_are_spoken_of(run, command):
    result = json.loads(run.result.read_text())
    run.result.write_text(json.dumps({**result, "data_complete": True}))
    done = command("plot", "run")
    assert done.code == 0, done.err
    assert "may be among those it was trained on" in done.err


def test_the_data_are_those_of_training(command, tiny_run):
    """The command asks for MNIST as train does: a folder that is not there is refused."""
    done = command("plot", str(tiny_run), "--data-dir", "nowhere")
    assert done.code == 2
    assert "--data-dir nowhere: no such folder" in done.err
