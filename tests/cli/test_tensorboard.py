"""`cde-nets train mnist --tensorboard`, on images made here."""

import pytest

from cde_nets.cli import train

SMALL = ("--epochs", "2", "--count", "4", "--intervals", "1,1", "--batch-size", "100", "--out", "run", "--json")
FIND = "cde_nets.train.tensorboard.importlib.util.find_spec"


@pytest.fixture
def here(monkeypatch, waves):
    monkeypatch.setattr(train, "load", lambda data_dir, offline, quiet: waves)
    # Pictures take most of the time, and have tests of their own.
    monkeypatch.setattr(train, "_draw", lambda run, data: [])


def steps(folder):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="logs need the extra tensorboard"
    )
    log = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    log.Reload()
    return [event.step for event in log.Scalars("loss/training")]


def test_a_run_is_logged_and_a_finished_one_too_where_it_is_asked_for(here, command, tmp_path):
    pytest.importorskip("tensorboard", reason="logs need the extra tensorboard")
    done = command("train", "mnist", *SMALL, "--tensorboard")
    assert done.code == 0, done.err
    log = tmp_path / "run" / "tensorboard"
    assert steps(log) == [1, 2]
    for file in log.iterdir():
        file.unlink()
    log.rmdir()
    again = command("train", "mnist", "--resume", "run", "--tensorboard", "--json")
    assert again.code == 0, again.err
    assert "run/metrics.jsonl" in again.err
    assert steps(log) == [1, 2]


def test_without_tensorboard_it_is_refused_before_work_starts(command, monkeypatch, tmp_path):
    monkeypatch.setattr(train, "load", lambda data_dir, offline, quiet: pytest.fail("work had begun"))
    monkeypatch.setattr(FIND, lambda name: None)
    done = command("train", "mnist", *SMALL, "--tensorboard")
    assert done.code == 2
    assert 'pip install "cde-nets[tensorboard]", or leave out --tensorboard' in done.err
    assert not (tmp_path / "run").exists()
    # A run that has a log goes on with it.
    (tmp_path / "run" / "tensorboard").mkdir(parents=True)
    resumed = command("train", "mnist", "--resume", "run")
    assert resumed.code == 2
    assert "take run/tensorboard away" in resumed.err
