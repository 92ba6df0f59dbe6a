"""The log of a run, read back by TensorBoard itself."""

import json
import os
import signal

import pytest
import torch

from cde_nets.train import InterruptedTraining, Run, TensorBoard, load_network

accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="logs need the extra tensorboard"
)
CONTROLS = "trained/stages.0.flow.control.values"


def log(run):
    """Scalars, histograms and texts: by tag, a list of steps and values, in the order in which they were written."""
    read = accumulator.EventAccumulator(str(run.tensorboard), size_guidance=dict.fromkeys(("scalars", "histograms"), 0))
    read.Reload()
    scalars = {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    histograms = {tag: [(e.step, e.histogram_value) for e in read.Histograms(tag)] for tag in read.Tags()["histograms"]}
    texts = {tag: [e.tensor_proto.string_val[0].decode() for e in read.Tensors(tag)] for tag in read.Tags()["tensors"]}
    return scalars, histograms, texts


def fit(trainer, *reporters):
    with TensorBoard(trainer.run, trainer.network) as board:
        return trainer.fit(*reporters, board)


def check(run, epochs):
    """Each epoch once, with the numbers of metrics.jsonl."""
    rows, (scalars, histograms, texts) = run.read_metrics(), log(run)
    assert len(rows) == epochs
    for tag, name in {
        "loss/training": "loss",
        "accuracy/training": "train_accuracy",
        "accuracy/validation": "validation_accuracy",
        "learning rate": "learning_rate",
    }.items():
        steps, values = zip(*scalars[tag], strict=True)
        assert steps == tuple(range(1, epochs + 1))
        assert values == pytest.approx([row[name] for row in rows], rel=1e-6)
    assert [json.loads(text) for text in texts["configuration/text_summary"]] == [json.loads(run.config.read_text())]
    return scalars, histograms


def test_scalars_are_those_of_the_metrics_and_histograms_those_of_the_controls(make_trainer, silent):
    trainer, told = make_trainer(), silent()
    trainer.start()
    fit(trainer, told)
    assert len(told.rows) == 3, "others are told, too"
    scalars, histograms = check(trainer.run, 3)
    assert [step for step, _ in histograms[CONTROLS]] == [1, 2, 3]
    assert [step for step, _ in scalars["trained/readout.scale"]] == [1, 2, 3]
    # The chosen epoch's controls are the network's.
    chosen = trainer.run.read_result()["chosen_epoch"]
    network, _ = load_network(trainer.run.network)
    values = network.state_dict()["stages.0.flow.control.values"]
    found = dict(histograms[CONTROLS])[chosen]
    assert found.num == values.numel()
    assert (found.min, found.max) == pytest.approx((float(values.min()), float(values.max())))
    assert found.sum_squares == pytest.approx(float(values.double().square().sum()), rel=1e-5)


def test_a_run_that_goes_on_has_each_point_once(make_trainer, silent):
    first = make_trainer(batch_size=13)
    first.start()
    with pytest.raises(InterruptedTraining):
        # In the second epoch: one has 15 steps.
        fit(first, silent(25, lambda: os.kill(os.getpid(), signal.SIGINT)))
    assert [step for step, _ in log(first.run)[0]["loss/training"]] == [1]
    again = make_trainer(batch_size=13)
    again.resume()
    fit(again)
    _, histograms = check(again.run, 3)
    assert [step for step, _ in histograms[CONTROLS]] == [1, 2, 3]
    # Opened once more, nothing is added.
    with TensorBoard(again.run, again.network):
        pass
    check(again.run, 3)


def test_a_process_that_was_killed_while_it_wrote_leaves_a_log_that_is_gone_on_with(make_trainer):
    trainer = make_trainer()
    trainer.start()
    fit(trainer)
    (file,) = trainer.run.tensorboard.iterdir()
    file.write_bytes(file.read_bytes()[:-7])
    # The last points are gone, or cut short; scalars come from the metrics.
    with TensorBoard(trainer.run, trainer.network):
        pass
    check(trainer.run, 3)


def test_epochs_without_a_log_are_taken_from_the_metrics(make_trainer):
    trainer = make_trainer()
    trainer.start()
    trainer.fit()
    assert not trainer.run.tensorboard.exists()
    with TensorBoard(trainer.run, trainer.network):
        pass
    _, histograms = check(trainer.run, 3)
    assert histograms == {}, "their numbers are gone"


def test_without_tensorboard_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("cde_nets.train.tensorboard.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "cde-nets\[tensorboard\]"'):
        TensorBoard(Run(tmp_path), torch.nn.Linear(1, 1))
    assert list(tmp_path.iterdir()) == []
