"""A short version of `python -m benchmarks.faults.kill`, and what it would see if something were lost."""

import json

import pytest
import torch
from typer.testing import CliRunner

from benchmarks.faults import files
from benchmarks.faults.counts import Count
from benchmarks.faults.kill import Bench, app, disk
from benchmarks.faults.trust import markdown
from cde_nets.train.checkpoint import save_tensors


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("kills"), seed=0)


@pytest.fixture(scope="module")
def whole(bench):
    return bench.whole("citation")


def test_a_killed_run_leaves_whole_files_and_ends_with_the_same_numbers(bench, whole):
    assert "quick/results.jsonl" in whole.numbers
    count = Count("citation", "killed", clear=None)
    for number in range(3):
        bench.kill("citation", whole, count, number)
    assert count.tried >= 2
    assert (count.resumed, count.identical, count.lost) == (count.tried, count.tried, [])


def test_a_limit_on_the_size_of_files_is_told_in_words_and_nothing_is_lost(bench, whole):
    count = Count("citation", "file size limited")
    bench.limit("citation", whole, count, 0)
    assert (count.tried, count.clear, count.resumed, count.identical, count.lost) == (1, 1, 1, 1, [])
    assert count.left == 0, "no temporary file is left by a writer that lives"


def test_a_disk_that_fills_up_and_a_folder_that_becomes_read_only(bench, whole, tmp_path):
    try:
        with disk(tmp_path / "disk", 4096):
            pass
    except PermissionError as error:
        pytest.skip(f"mounts a small disk, which this user may not: {error}")
    for fault in (bench.fill, bench.protect):
        count = Count("citation", "")
        fault("citation", whole, count, 0)
        assert (count.tried, count.clear, count.identical, count.lost) == (1, 1, 1, [])


def test_other_numbers_are_seen(bench, whole, tmp_path):
    count = Count("citation", "killed", clear=None)
    other = type(whole)({**whole.numbers, "quick/results.jsonl": []}, whole.steps, whole.seconds, whole.bytes)
    bench.limit("citation", other, count, 1)
    assert count.identical == 0
    assert count.lost == ["other numbers in quick/results.jsonl"]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.safetensors", "a.md"])
def test_a_file_that_is_cut_short_is_seen(tmp_path, name):
    path = tmp_path / name
    if name == "a.safetensors":
        save_tensors(path, "kind", {"x": torch.zeros(5)}, {"seconds": 1})
    else:
        path.write_text('{"a": 1}\n')
    assert files.damaged(tmp_path) == []
    path.write_bytes(path.read_bytes()[:-3])
    assert [words.split(":")[0] for words in files.damaged(tmp_path)] == [name]


def test_times_alone_may_differ(tmp_path):
    for folder, seconds, value in (("a", 1.0, 2), ("b", 3.0, 2), ("c", 1.0, 4)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "r.jsonl").write_text(json.dumps({"rows": [{"seconds": seconds, "value": value}]}) + "\n")
    a, b, c = (files.numbers(tmp_path / folder) for folder in "abc")
    assert a == b != c


def test_the_page_s_table():
    row = {"run": "train", "fault": "killed", "tried": 8, "identical": 7}
    about = {"seed": 3, "date": "2026-01-01", "torch": "2"}
    content = {**about, "rows": [row, {**row, "run": "citation", "tried": 7}]}
    fed = {**about, "readers": [{"tried": 1000, "faults": 2}, {"tried": 500, "faults": 1}]}
    made = markdown({"kill": content, "feed": fed})
    assert "| killed: train; citation | 15 | 1 | `python -m benchmarks.faults kill` |" in made
    assert "| file damaged, of 2 sorts | 1,500 | 3 | `python -m benchmarks.faults feed` |" in made
    refused = {**content, "rows": [{**row, "tried": None, "identical": 0}]}
    assert "| not allowed there | 0 |" in markdown({"kill": refused})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--runs", "nothing"], "there is no 'nothing'"), (["--runs", "train", "--publish", "docs"], "leave --runs out")],
)
def test_bad_input(arguments, words):
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert words in done.output
