import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cde_nets.data import MNIST
from cde_nets.errors import DivergedError
from cde_nets.nn import ImageNetworkConfig
from cde_nets.train import InterruptedTraining, Run, TrainConfig, Trainer, evaluate, load_network


def numbers(run: Run) -> dict[str, torch.Tensor]:
    network, _ = load_network(run.network)
    return dict(network.named_parameters())


def without_time(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_it_learns_what_can_be_told_apart(make_trainer, silent):
    trainer = make_trainer(epochs=12, learning_rate=0.1)
    trainer.start()
    result = trainer.fit(silent())
    assert result["test_accuracy"] > 0.8, "guessing gives 0.1"
    assert result["trained_parameters"] == 2 * 20 + 1
    for name in (
        "trained_parameters",
        "frozen_parameters",
        "validation_accuracy",
        "test_accuracy",
        "seconds",
        "seed",
        "data",
    ):
        assert name in result


def test_the_same_seed_gives_the_same_numbers(make_trainer, silent):
    runs = []
    for folder in ("a", "b"):
        trainer = make_trainer(folder)
        trainer.start()
        trainer.fit(silent())
        runs.append(trainer.run)
    first, second = map(numbers, runs)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert without_time(runs[0].read_metrics()) == without_time(runs[1].read_metrics())


def test_another_seed_gives_other_numbers(make_trainer, silent):
    ends = []
    for seed in (0, 1):
        trainer = make_trainer(f"run{seed}", seed=seed, epochs=1)
        trainer.start()
        trainer.fit(silent())
        ends.append(numbers(trainer.run)["stages.0.flow.control.values"])
    assert not torch.equal(*ends)


@pytest.mark.parametrize("step", [10, 25])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_goes_on_to_the_same_numbers(make_trainer, silent, step, number):
    whole = make_trainer("whole", batch_size=13)
    whole.start()
    whole.fit(silent())

    stopped = make_trainer("stopped", batch_size=13)
    stopped.start()
    before = signal.getsignal(number)
    with pytest.raises(InterruptedTraining):
        stopped.fit(silent(step, lambda: os.kill(os.getpid(), number)))
    assert signal.getsignal(number) is before, "the handlers are put back"

    again = make_trainer("stopped", batch_size=13)
    again.resume()
    again.fit(silent())
    expected, found = numbers(whole.run), numbers(again.run)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert without_time(again.run.read_metrics()) == without_time(whole.run.read_metrics())


def test_a_killed_run_goes_on_from_its_last_epoch(make_trainer, silent, tmp_path):
    """As after a power cut: metrics ahead of the state, a line cut short, a temporary file left behind."""
    whole = make_trainer("whole")
    whole.start()
    whole.fit(silent())

    killed = make_trainer("killed")
    killed.start()

    class PowerCutError(Exception):
        pass

    def cut():
        raise PowerCutError

    with pytest.raises(PowerCutError):
        killed.fit(silent(20, cut))
    with killed.run.metrics.open("a") as file:
        file.write('{"epoch": 2, "loss": 0.')
    (killed.run.folder / ".state.safetensors.x.part").write_bytes(b"half")
    again = make_trainer("killed")
    again.resume()
    again.fit(silent())
    assert without_time(again.run.read_metrics()) == without_time(whole.run.read_metrics())
    expected, found = numbers(whole.run), numbers(again.run)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_the_epoch_is_chosen_on_validation_and_the_test_images_are_seen_once(make_trainer, silent, monkeypatch):
    trainer = make_trainer(epochs=3)
    seen = []
    import cde_nets.train.trainer as module

    def spy(network, images, labels, **options):
        seen.append(len(labels))
        return evaluate(network, images, labels, **options)

    monkeypatch.setattr(module, "evaluate", spy)
    trainer.start()
    result = trainer.fit(silent())
    assert seen == [50, 50, 50, 60]
    rows = trainer.run.read_metrics()
    best = max(row["validation_accuracy"] for row in rows)
    assert result["validation_accuracy"] == best
    assert rows[result["chosen_epoch"] - 1]["validation_accuracy"] == best
    network, _ = load_network(trainer.run.network)
    validation = trainer.data.validation
    again = evaluate(network, torch.from_numpy(validation.images), torch.from_numpy(validation.labels).long())
    assert again.accuracy == best, "what is stored is the chosen epoch's network"


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_epoch(make_trainer, silent):
    trainer = make_trainer(epochs=2)
    trainer.start()

    def spoil():
        with torch.no_grad():
            trainer.network.get_parameter("readout.scale").fill_(float("nan"))

    with pytest.raises(DivergedError, match="learning-rate"):
        trainer.fit(silent(10, spoil))
    again = make_trainer(epochs=2)
    again.resume()
    assert all(bool(torch.isfinite(p).all()) for p in again.network.parameters())


def test_training_in_another_thread_works(make_trainer, silent):
    trainer, results = make_trainer(epochs=1), []
    trainer.start()
    worker = threading.Thread(target=lambda: results.append(trainer.fit(silent())))
    worker.start()
    worker.join()
    assert results[0]["epochs"] == 1


def test_resuming_with_another_configuration_is_refused(make_trainer, silent):
    trainer = make_trainer(epochs=2)
    trainer.start()
    with pytest.raises(ValueError, match=r"training\.epochs 2 there, 3 here"):
        make_trainer(epochs=3).resume()


def test_resuming_with_other_data_is_refused(make_trainer, waves):
    trainer = make_trainer()
    trainer.start()
    fewer = MNIST(waves.test, waves.validation, waves.test, source="made", detail="", complete=False)
    other = Trainer(trainer.run, trainer.network_config, trainer.train_config, fewer)
    with pytest.raises(ValueError, match="training_images 200 there, 60 here"):
        other.resume()
    # As many, of which one pixel differs.
    images = waves.train.images.copy()
    images[3, 5, 5] ^= 1
    changed = replace(waves, train=replace(waves.train, images=images))
    other = Trainer(trainer.run, trainer.network_config, trainer.train_config, changed)
    with pytest.raises(ValueError, match=r"data_sha256 [0-9a-f]{64} there, [0-9a-f]{64} here"):
        other.resume()


def test_a_finished_run_is_not_resumed(make_trainer, silent):
    trainer = make_trainer(epochs=1)
    trainer.start()
    trainer.fit(silent())
    with pytest.raises(ValueError, match="finished"):
        make_trainer(epochs=1).resume()


def test_a_used_folder_is_refused_and_left_alone(make_trainer, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="not empty"):
        make_trainer().start()
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_files_of_a_run(make_trainer, silent):
    trainer = make_trainer(epochs=2)
    trainer.start()
    trainer.fit(silent())
    run = trainer.run
    assert {p.name for p in run.folder.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "state.safetensors",
        "network.safetensors",
        "result.json",
    }
    assert len(run.read_metrics()) == 2
    confusion = np.array(run.read_result()["confusion"])
    assert confusion.sum() == 60
    assert np.trace(confusion) == round(60 * run.read_result()["test_accuracy"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "damaged"),
        ("[]", "expected an object"),
        ("{}", "KeyError"),
        ('{"network": {"colour": 3}, "training": {}, "threads": 1}', "colour"),
        ('{"network": {"intervals": 5}, "training": {}, "threads": 1}', "intervals"),
        ('{"network": [], "training": {}, "threads": 1}', "damaged"),
        ("\udcff", "damaged"),
    ],
)
def test_a_damaged_configuration_is_named(tmp_path, text, message):
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=message):
        Run(tmp_path).read_config()


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"epochs": True},
        {"batch_size": 0},
        {"batch_size": 2.5},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"readout_rate": -1.0},
        {"shift": -1},
        {"seed": -1},
    ],
)
def test_training_configurations_out_of_range(wrong, bad_input):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrainConfig(**wrong)


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="momentum"):
        TrainConfig.from_dict({"momentum": 0.9})
    assert TrainConfig.from_dict(TrainConfig(seed=3).to_dict()) == TrainConfig(seed=3)


def test_a_batch_larger_than_the_data_is_refused(make_trainer):
    with pytest.raises(ValueError, match="200 training images"):
        make_trainer(batch_size=201)


def test_the_run_does_not_depend_on_the_hash_seed(tmp_path):
    """Two fresh processes, different hash seeds: one digest of everything frozen."""
    code = "import cde_nets as cn; print(cn.image_network(cn.ImageNetworkConfig()).frozen_digest())"
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_metrics_are_json_lines(make_trainer, silent):
    trainer = make_trainer(epochs=1)
    trainer.start()
    reporter = silent()
    trainer.fit(reporter)
    lines = Path(trainer.run.metrics).read_text().splitlines()
    assert [json.loads(line) for line in lines] == reporter.rows
    assert reporter.steps == [10]


def test_the_default_has_at_most_750_trained_numbers():
    config = ImageNetworkConfig()
    assert config.trained_numbers <= 750
    assert config.degree == 2


def test_a_run_killed_between_its_first_two_files_can_be_taken_up(make_trainer, silent):
    begun = make_trainer(epochs=1)
    begun.start()
    begun.run.state.unlink()
    again = make_trainer(epochs=1)
    again.resume()
    assert again.fit(silent())["epochs"] == 1


def test_what_a_killed_writer_left_is_nobodys_work(make_trainer, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".config.json.x.part").write_bytes(b"half")
    make_trainer().start()


def test_the_threads_of_a_run_are_at_least_one(tmp_path):
    (tmp_path / "config.json").write_text('{"network": {}, "training": {}, "threads": 0}')
    with pytest.raises(ValueError, match="threads must be an integer of at least 1"):
        Run(tmp_path).read_config()
