import json
import os

import pytest
from typer.testing import CliRunner

import cde_nets as cn
from cde_nets.cli import check as command
from experiments import certificates as experiment


@pytest.fixture
def trained(monkeypatch, tmp_path, waves):
    """A small network of the same form, in a file."""
    monkeypatch.setattr(experiment, "load_mnist", lambda data_dir, notify: waves)
    monkeypatch.setattr(command, "load", lambda data_dir, offline: waves)
    monkeypatch.chdir(tmp_path)
    for folder in ("docs/images", "docs/results", "runs/a", "runs/b"):
        (tmp_path / folder).mkdir(parents=True)
    config = cn.ImageNetworkConfig(channels=10, count=60, intervals=(1, 1, 1), seed=0)
    cn.save_network(tmp_path / "runs" / "b" / "network.safetensors", cn.image_network(config), config)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(experiment.app, list(arguments), env={"COLUMNS": "140"})


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_is_published_is_what_the_command_proves(trained):
    ran = run("--most", "3", "--publish", "docs")
    assert ran.exit_code == 0, ran.output
    rows = lines(trained / "docs" / "results" / "certificates.jsonl")
    assert [(row["points"], row["proved"], row["full_rank"]) for row in rows] == [(1, True, 89), (2, True, 178)]
    assert (trained / "docs" / "images" / "certificates.png").read_bytes()[:4] == b"\x89PNG"
    # By the way of `cde-nets check`, which reads network and images itself.
    flow, x = command._stage(trained / "runs" / "b" / "network.safetensors", None, "2", None)
    again = cn.check_flow(flow, x, seed=0)
    same = (rows[1]["rank"], rows[1]["fields_digest"], rows[1]["points_digest"], rows[1]["sentence"])
    assert same == (again.rank, again.digest, again.points_digest, str(again))


def test_a_second_call_goes_on(trained, monkeypatch):
    assert run("--most", "2").exit_code == 0
    first = lines(trained / "runs" / "certificates" / "certificates.jsonl")
    asked = []
    whole = experiment.check_flow
    monkeypatch.setattr(experiment, "check_flow", lambda flow, x, **o: asked.append(len(x)) or whole(flow, x, **o))
    assert run("--most", "5").exit_code == 0
    assert asked == [5]
    assert lines(trained / "runs" / "certificates" / "certificates.jsonl")[:2] == first
    # Another network is measured anew.
    config = cn.ImageNetworkConfig(channels=10, count=60, intervals=(1, 1, 1), seed=1)
    cn.save_network(trained / "other.safetensors", cn.image_network(config), config)
    assert run("--most", "1", "--network", "other.safetensors").exit_code == 0
    assert asked == [5, 1]
    assert len(lines(trained / "runs" / "certificates" / "certificates.jsonl")) == 4


def test_the_first_that_is_not_proved_ends_and_more_time_tries_again(trained, monkeypatch):
    kept = trained / "runs" / "certificates" / "certificates.jsonl"
    whole = experiment.check_flow

    def slow(flow, x, *, time_limit, **options):
        # As a machine on which a second point takes longer than a second.
        return whole(flow, x, time_limit=0.0 if len(x) > 1 and time_limit < 10 else None, **options)

    monkeypatch.setattr(experiment, "check_flow", slow)
    ran = run("--most", "5", "--seconds", "1")
    assert ran.exit_code == 0, ran.output
    assert [(row["points"], row["proved"]) for row in lines(kept)] == [(1, True), (2, False)]
    # As much time is known not to suffice.
    assert run("--most", "5", "--seconds", "1").exit_code == 0
    assert len(lines(kept)) == 2
    assert run("--most", "2", "--seconds", "10").exit_code == 0
    assert [(row["points"], row["proved"]) for row in lines(kept)] == [(1, True), (2, False), (2, True)]


def test_no_network_is_an_error_before_work(trained, monkeypatch):
    (trained / "runs" / "b" / "network.safetensors").unlink()
    monkeypatch.setattr(experiment, "load_mnist", lambda *a, **k: pytest.fail("no work before the error"))
    ran = run()
    assert ran.exit_code == 2
    assert "make mnist" in ran.output
    assert "--network" in ran.output


def test_the_newest_run_is_taken(tmp_path):
    for name, at in (("b", 10), ("a", 20), ("c", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "network.safetensors").touch()
        os.utime(tmp_path / name / "network.safetensors", (at, at))
    assert experiment.newest_network(tmp_path) == tmp_path / "a" / "network.safetensors"


def test_sizes():
    assert list(experiment.sizes(250)) == [1, 2, 5, 10, 20, 40, 60, 80, 120, 160, 240]
    assert list(experiment.sizes(3)) == [1, 2]
