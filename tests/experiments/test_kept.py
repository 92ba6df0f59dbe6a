import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.faults import child
from experiments.kept import Kept

SETTINGS = {"steps": 3}


def kept(folder):
    return Kept(folder / "results.jsonl", SETTINGS, ("row", "seed"))


def row(name, seed, **more):
    return {"row": name, "seed": seed, **more}


def test_what_two_add_is_there_from_both(tmp_path):
    first, second = kept(tmp_path), kept(tmp_path)
    first.add([row("a", 0), row("a", 1)])
    second.add([row("b", 0)])
    first.add([row("a", 2)])
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [(line["row"], line["seed"]) for line in lines] == [("a", 0), ("a", 1), ("b", 0), ("a", 2)]
    assert all(line["settings"] == SETTINGS for line in lines)
    assert not second.has(("a", 2))
    second.refresh()
    assert second.has(("a", 2))


def test_a_run_is_kept_once(tmp_path):
    first, second = kept(tmp_path), kept(tmp_path)
    first.add([row("a", 0, accuracy=0.5)])
    second.add([row("a", 0, accuracy=0.7), row("a", 1, accuracy=0.9)])
    assert [(line["seed"], line["accuracy"]) for line in second.rows] == [(0, 0.5), (1, 0.9)]


def test_a_run_that_one_is_at_is_not_the_others(tmp_path):
    first, second = kept(tmp_path), kept(tmp_path)
    with first.claim([("a", 0)]) as mine:
        assert mine == [("a", 0)]
        with second.claim([("a", 0), ("a", 1)]) as others:
            assert others == [("a", 1)]
        first.add([row("a", 0)])
    with second.claim([("a", 0), ("a", 1)]) as left:
        assert left == [("a", 1)]
    assert not any((tmp_path / "unfinished").iterdir())


def test_a_run_that_failed_or_was_killed_is_free_again(tmp_path):
    first, second = kept(tmp_path), kept(tmp_path)
    with pytest.raises(KeyboardInterrupt), first.claim([("a", 0)]):
        raise KeyboardInterrupt
    code = (
        "import sys; from pathlib import Path; from experiments.kept import Kept\n"
        "with Kept(Path(sys.argv[1]), {'steps': 3}, ('row', 'seed')).claim([('a', 0)]) as mine:\n"
        "    print(mine, flush=True); sys.stdin.read()"
    )
    given = [sys.executable, "-c", code, str(tmp_path / "results.jsonl")]
    with subprocess.Popen(given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "[('a', 0)]\n"
        with second.claim([("a", 0)]) as others:
            assert others == []
        process.kill()
    with second.claim([("a", 0)]) as mine:
        assert mine == [("a", 0)]


def test_lines_that_do_not_name_their_run_are_refused(tmp_path):
    (tmp_path / "results.jsonl").write_text(json.dumps({"row": "a", "settings": SETTINGS}) + "\n")
    with pytest.raises(ValueError, match="line 1: found no seed"):
        kept(tmp_path)


@pytest.mark.parametrize("name", ["citation", "hopfield"])
def test_commands_at_once_do_every_run_once_and_lose_none(tmp_path, name):
    """Two processes in one folder, and then one alone in another: the same numbers."""
    folders = [tmp_path / place for place in ("one", "another", "alone")]
    for folder in folders:
        folder.mkdir()
    shared, alone = tmp_path / "shared", tmp_path / "out"
    with ThreadPoolExecutor(2) as both:
        ended = list(both.map(lambda notes: child.run(name, shared, notes), folders[:2]))
    assert [one.code for one in ended] == [0, 0], ended
    assert child.run(name, alone, folders[2]).code == 0

    def runs(folder):
        (file,) = [*folder.rglob("results.jsonl"), *folder.rglob("trials.jsonl")]
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for one in rows:
            del one["seconds"]
        return sorted(rows, key=json.dumps)

    assert runs(shared) == runs(alone)
