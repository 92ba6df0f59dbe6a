import json

import pytest
from typer.testing import CliRunner

from experiments import mnist_seeds


@pytest.fixture
def small(monkeypatch, waves):
    """The experiment on a small data set and network."""
    monkeypatch.setattr(mnist_seeds, "load_mnist", lambda data_dir, notify: waves)
    whole = mnist_seeds.ImageNetworkConfig
    monkeypatch.setattr(
        mnist_seeds, "ImageNetworkConfig", lambda seed: whole(channels=10, intervals=(1, 1), count=10, seed=seed)
    )


def test_results_and_figure_and_a_second_call_reads_them_back(small, tmp_path):
    arguments = ["--seeds", "2", "--epochs", "1", "--out", str(tmp_path / "out")]
    first = CliRunner().invoke(mnist_seeds.app, arguments)
    assert first.exit_code == 0, first.output
    rows = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert [row["seed"] for row in rows] == [0, 1]
    assert (tmp_path / "out" / "errors.png").read_bytes()[:4] == b"\x89PNG"
    mean = sum(row["test_accuracy"] for row in rows) / 2
    assert f"{mean:.2%}" in first.output

    (tmp_path / "out" / "seed-1" / "state.safetensors").unlink()
    (tmp_path / "docs").mkdir()
    arguments += ["--publish", str(tmp_path / "docs")]
    second = CliRunner().invoke(mnist_seeds.app, arguments)
    assert second.exit_code == 0, second.output
    lines = (tmp_path / "docs" / "results" / "mnist_seeds.jsonl").read_text()
    assert lines == (tmp_path / "out" / "results.jsonl").read_text()
    assert {p.name for p in (tmp_path / "docs" / "images").iterdir()} == {
        f"{name}.png" for name in ("controls", "curves", "confusion", "flow", "errors")
    }
    assert [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()] == rows


def test_another_configuration_in_the_same_folder_is_refused(small, tmp_path):
    base = ["--seeds", "1", "--out", str(tmp_path / "out"), "--epochs"]
    assert CliRunner().invoke(mnist_seeds.app, [*base, "1"]).exit_code == 0
    refused = CliRunner().invoke(mnist_seeds.app, [*base, "2"])
    assert isinstance(refused.exception, ValueError)
    assert "another configuration" in str(refused.exception)


def test_a_run_killed_between_its_first_two_files_is_gone_on_with(small, tmp_path):
    out = tmp_path / "out"
    arguments = ["--seeds", "1", "--epochs", "1", "--out", str(out)]
    assert CliRunner().invoke(mnist_seeds.app, arguments).exit_code == 0
    before = json.loads((out / "results.jsonl").read_text())
    for path in (out / "seed-0").iterdir():
        if path.name != "config.json":
            path.unlink()
    again = CliRunner().invoke(mnist_seeds.app, arguments)
    assert again.exit_code == 0, again.output
    after = json.loads((out / "results.jsonl").read_text())
    assert after | {"seconds": 0} == before | {"seconds": 0}
