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


def silent(said):
    raise AssertionError(f"nobody is waited for: {said}")


def test_a_run_that_one_is_at_is_not_the_others(tmp_path):
    said = []
    first, second = kept(tmp_path), kept(tmp_path)
    a, b = [("a", 0)], [("a", 1)]
    one, other = first.each([a, b], silent), second.each([a, b], said.append)
    assert next(one) == a
    assert next(other) == b
    first.add([row("a", 0)])
    second.add([row("a", 1)])
    # The second looks for what is left, and finds that it need not wait.
    assert next(other, None) is None
    assert said == []
    assert next(one, None) is None
    assert not any((tmp_path / "unfinished").iterdir())
    assert [line["seed"] for line in first.rows] == [0, 1]


def test_of_runs_done_together_those_are_left_out_that_another_is_at(tmp_path):
    first, second = kept(tmp_path), kept(tmp_path)
    one = first.each([[("a", 1)]], silent)
    assert next(one) == [("a", 1)]
    assert next(second.each([[("a", 0), ("a", 1), ("a", 2)]], silent)) == [("a", 0), ("a", 2)]


def test_a_run_that_failed_is_free_again(tmp_path):
    def fail():
        for _ in kept(tmp_path).each([[("a", 0)]], silent):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert next(kept(tmp_path).each([[("a", 0)]], silent)) == [("a", 0)]


def test_a_run_whose_process_is_killed_is_done_by_the_one_that_waits(tmp_path):
    code = (
        "import sys; from pathlib import Path; from experiments.kept import Kept\n"
        "for mine in Kept(Path(sys.argv[1]), {'steps': 3}, ('row', 'seed')).each([[('a', 0)]], print):\n"
        "    print(mine, flush=True); sys.stdin.read()"
    )
    given = [sys.executable, "-c", code, str(tmp_path / "results.jsonl")]
    own, said = kept(tmp_path), []
    with subprocess.Popen(given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "[('a', 0)]\n"

        def waiting(words):
            said.append(words)
            process.kill()

        taken = []
        for mine in own.each([[("a", 0)], [("a", 1)]], waiting):
            taken += mine
            own.add([row(*run) for run in mine])
    assert taken == [("a", 1), ("a", 0)]
    assert said == ["Waiting for other processes; runs that they are at: 1."]


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
