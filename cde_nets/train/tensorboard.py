"""A log of a training run that TensorBoard reads: an epoch is a step."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from torch import nn

from cde_nets.train.run import Run

# What a line of metrics.jsonl calls each curve.
SCALARS = {
    "loss/training": "loss",
    "accuracy/training": "train_accuracy",
    "accuracy/validation": "validation_accuracy",
    "failed rows/training": "train_failed",
    "failed rows/validation": "validation_failed",
    "learning rate": "learning_rate",
    "seconds": "seconds",
}
CONFIGURATION = "configuration"
# What torch's writer adds to the name of a text.
_TEXT = "/text_summary"


def check_tensorboard() -> None:
    """Refuse to log where TensorBoard is missing.

    Raises:
        ImportError: it is.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise ImportError(
            'The log for TensorBoard needs tensorboard, which is not installed: pip install "cde-nets[tensorboard]"'
        )


class TensorBoard:
    """A `Reporter`: loss, accuracies, failed rows and learning rate by epoch; the trained numbers; the configuration.

    The log is the run's folder `tensorboard`. Trained tensors are histograms, single trained numbers curves; the
    configuration is the text of config.json. A log that is there is gone on with: what it has is not written again, and
    the scalars of epochs it lacks, as those trained without a log, come from metrics.jsonl. Their histograms are gone.

        with ProgressBar(30) as bar, TensorBoard(trainer.run, trainer.network) as board:
            trainer.fit(bar, board)

    Args:
        run: which was started or is resumed, or a finished one.
        network: what is trained.

    Raises:
        ImportError: tensorboard is missing (extra `tensorboard`).
        OSError: the log cannot be written.
    """

    def __init__(self, run: Run, network: nn.Module) -> None:
        check_tensorboard()
        # Imported here: slow, and not always there.
        from torch.utils.tensorboard import SummaryWriter

        self._network = network
        self._there = _logged(run)
        self._writer = SummaryWriter(str(run.tensorboard))
        if (CONFIGURATION + _TEXT, 0) not in self._there:
            # Indented, Markdown takes it for code.
            text = "".join(f"    {line}\n" for line in run.config.read_text().splitlines())
            self._writer.add_text(CONFIGURATION, text, 0)
        for row in run.read_metrics():
            self._write_scalars(_named(row, SCALARS), row["epoch"])
        self._writer.flush()

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def batch(self, done: int, total: int, loss: float, accuracy: float) -> None:
        """Nothing: curves are by epoch, so that a run which goes on has each point once."""

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch's points, on disk when this returns."""
        step = row["epoch"]
        trained = {name: p.detach().cpu() for name, p in self._network.named_parameters()}
        single = {f"trained/{name}": float(p) for name, p in trained.items() if p.numel() == 1}
        self._write_scalars(_named(row, SCALARS) | single, step)
        for name, p in trained.items():
            tag = f"trained/{name}"
            if p.numel() > 1 and (tag, step) not in self._there:
                self._writer.add_histogram(tag, p, step)
        self._writer.flush()

    def _write_scalars(self, values: Mapping[str, float], step: int) -> None:
        for tag, value in values.items():
            if (tag, step) not in self._there:
                self._writer.add_scalar(tag, value, step)
                self._there.add((tag, step))


def _named(row: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, float]:
    return {tag: row[name] for tag, name in names.items()}


def _logged(run: Run) -> set[tuple[str, int]]:
    """Which points the run's log has; the last one of a process that was killed may be cut short, and is none."""
    if not run.tensorboard.is_dir():
        return set()
    from tensorboard.backend.event_processing import event_accumulator

    kinds: Iterable[str] = (event_accumulator.SCALARS, event_accumulator.HISTOGRAMS, event_accumulator.TENSORS)
    # 0: all of them, and not a sample.
    log = event_accumulator.EventAccumulator(str(run.tensorboard), size_guidance=dict.fromkeys(kinds, 0))
    log.Reload()
    tags = log.Tags()
    readers = (("scalars", log.Scalars), ("histograms", log.Histograms), ("tensors", log.Tensors))
    return {(tag, event.step) for kind, read in readers for tag in tags[kind] for event in read(tag)}
