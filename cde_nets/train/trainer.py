"""Training: epochs on the training images, choice on the validation images, one test evaluation at the end."""

from __future__ import annotations

import hashlib
import math
import platform
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cde_nets.data import MNIST, Dataset
from cde_nets.digests import tensor_bytes
from cde_nets.errors import DivergedError
from cde_nets.nn.trainable import Trainable, TrainableConfig
from cde_nets.train.batches import Batches, as_intensity
from cde_nets.train.checkpoint import (
    check_digest,
    check_finite,
    check_numbers,
    copy_into,
    load_tensors,
    save_network,
    save_tensors,
)
from cde_nets.train.config import TrainConfig
from cde_nets.train.eigenbasis import EigenbasisAdam
from cde_nets.train.evaluate import Evaluation, evaluate
from cde_nets.train.processes import Processes
from cde_nets.train.run import Run
from cde_nets.train.state import check_form, check_moments, plain

STATE = "cde-nets training state 1"
_REPORT_EVERY = 10
# Images that are prepared together.
_AT_ONCE = 5000
# Momentum falls from the second to the first while the rate rises, and comes back.
_MOMENTA = (0.85, 0.95)


@runtime_checkable
class Reporter(Protocol):
    """Who is told how training goes."""

    def batch(self, done: int, total: int, loss: float, accuracy: float) -> None:
        """Steps done out of all, and this epoch's mean loss and accuracy on the training images so far."""

    def epoch(self, row: dict[str, Any]) -> None:
        """A line of metrics.jsonl."""


class InterruptedTraining(Exception):  # noqa: N818 (no error: it was asked to stop)
    """Training was asked to stop; its state is saved and `--resume` goes on from it."""


@dataclass
class _Progress:
    """Where training stands, apart from tensors."""

    epoch: int = 0
    batch: int = 0
    loss: float = 0.0
    correct: int = 0
    failed: int = 0
    seconds: float = 0.0
    best_epoch: int = -1
    best_accuracy: float = -1.0


@dataclass
class Trainer:
    """One training run.

    Args:
        run: its folder.
        network_config: what is trained.
        train_config: how.
        data: MNIST, or images of the same form.
        device: where.
        processes: those that train it together (`together`): each has its share of every batch, the first alone writes
            and tells the reporter. The folder must be one that all of them see.
    """

    run: Run
    network_config: TrainableConfig
    train_config: TrainConfig
    data: MNIST
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    processes: Processes = field(default_factory=Processes)

    def __post_init__(self) -> None:
        self.network: Trainable = self.network_config.build().to(self.device)
        # A diverged row shows in the loss, which is read now and then; reading after every flow would stall a GPU.
        self.network.set_throw(False)
        config = self.train_config
        images, labels = self._tensors(self.data.train)
        with torch.no_grad():
            prepared = torch.cat([self.network.prepare(as_intensity(some)) for some in images.split(_AT_ONCE)])
        self._batches = Batches(prepared, labels, config.batch_size, config.moves, config.seed, self.processes)
        least = min(len(self.data.validation), len(self.data.test))
        if least < self.processes.count:
            raise ValueError(f"{least} images to evaluate on are fewer than the {self.processes.count} processes.")
        self._data = _digest(self.data)
        self._check_alike()
        self._forward = self.processes.forward(self.network)
        readout = self.network.readout_parameters()
        rest = [p for p in self.network.parameters() if not any(p is one for one in readout)]
        both = (rest, config.learning_rate), (readout, config.learning_rate * config.readout_rate)
        given = [(group, rate) for group, rate in both if group]
        kind = {"adam": torch.optim.Adam, "eigenbasis": EigenbasisAdam}[config.optimizer]
        groups: list[dict[str, Any]] = [{"params": group, "lr": rate} for group, rate in given]
        self._optimizer = kind(groups, config.learning_rate, betas=(_MOMENTA[1], 0.99))
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer,
            [rate for _, rate in given],
            total_steps=self.steps,
            pct_start=0.2,
            div_factor=10.0,
            base_momentum=_MOMENTA[0],
            max_momentum=_MOMENTA[1],
        )
        self._progress = _Progress()
        self._rows: list[dict[str, Any]] = []
        self._best: dict[str, Tensor] = self._parameters()

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.train_config.epochs * len(self._batches)

    def start(self) -> None:
        """Make the run's folder and write what fixes it.

        Raises:
            ValueError: the folder is not empty or cannot be made.
        """
        if not self.processes.first:
            return
        self.run.create()
        self.run.write_json(
            self.run.config,
            {
                "network": self.network_config.to_dict(),
                "training": self.train_config.to_dict(),
                "threads": torch.get_num_threads(),
                "data": {"source": self.data.source, "complete": self.data.complete},
                "frozen_digest": self.network.frozen_digest(),
                "versions": versions(),
            },
        )
        self._save()

    def resume(self) -> None:
        """Take up the state that the run's folder holds.

        Raises:
            ValueError: a finished run, no state, a damaged one, or one of another configuration or data; metrics that
                are damaged, or of fewer epochs than the state.
        """
        # The first may have to write the state that the others read.
        self.processes.in_turn(self._resume, self.device)

    def _resume(self) -> None:
        if self.run.result.exists():
            raise ValueError(f"{self.run.folder} is finished: it has a result.json. Nothing is left to resume.")
        if self.run.config.exists() and not self.run.state.exists():
            # Killed between its first two files: nothing was trained yet.
            self._save()
        tensors, about = load_tensors(self.run.state, STATE)
        there, here = _flat(about, self.run.state), _flat(self._identity(), self.run.state)
        differing = [
            f"{name} {there.get(name)} there, {value} here" for name, value in here.items() if there.get(name) != value
        ]
        if differing:
            raise ValueError(
                f"{self.run.state} was trained otherwise: {'; '.join(differing)}. A run goes on only with what it "
                "began with."
            )
        self._check_state(tensors, about)
        progress = _Progress(**about["progress"])
        # Written before the state: a kill may leave more lines, whole or not, and never fewer.
        rows = self.run.read_metrics(progress.epoch, ahead=True)
        # From here on nothing is refused.
        self._progress, self._rows = progress, rows
        copy_into(self.network, _under("network/", tensors), self.run.state)
        self._best = _under("best/", tensors)
        moments = _under("optimizer/", tensors)
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in moments.items():
            place, _, name = key.partition("/")
            state.setdefault(int(place), {})[name] = value
        self._optimizer.load_state_dict({"state": state, "param_groups": about["param_groups"]})
        self._schedule.load_state_dict(about["schedule"])

    def _check_state(self, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        """Refuse what no run of this trainer wrote, before any of it is taken up."""
        path = self.run.state
        like = {
            "frozen_digest": "",
            "progress": vars(_Progress()),
            "param_groups": plain(self._optimizer.state_dict()["param_groups"]),
            "schedule": plain(self._schedule.state_dict()),
        }
        for name, value in like.items():
            if name not in about:
                raise ValueError(f"{path} is damaged: it has no {name}. Train again or use a copy.")
            check_form(about[name], value, f"{path}, {name},", fixed=name in ("param_groups", "schedule"))
        check_digest(self.network, about["frozen_digest"], path)
        there, last = _Progress(**about["progress"]), about["schedule"]["last_epoch"]
        ends = there.epoch == self.train_config.epochs and there.batch == 0
        within = 0 <= there.epoch < self.train_config.epochs and 0 <= there.batch <= len(self._batches)
        if not (ends or within) or last != there.epoch * len(self._batches) + there.batch:
            raise ValueError(
                f"{path} is damaged: it stands at epoch {there.epoch}, batch {there.batch}, step {last}; the run has "
                f"{self.train_config.epochs} epochs of {len(self._batches)} steps. Train again or use a copy."
            )
        seen = there.batch * self._batches.batch_size
        if not (0 <= there.correct <= seen and 0 <= there.failed <= seen):
            raise ValueError(
                f"{path} is damaged: of {seen} images it counts {there.correct} as right and {there.failed} as failed. "
                "Train again or use a copy."
            )
        for prefix in ("network/", "best/"):
            check_numbers(self.network, _under(prefix, tensors), path)
            check_finite(_under(prefix, tensors).values(), path)
        check_moments(_under("optimizer/", tensors), self._optimizer, last, path)

    def fit(self, *reporters: Reporter) -> dict[str, Any]:
        """Train to the end, evaluate on the test images once, and write the run's files.

        Args:
            *reporters: who are told, in turn.

        Returns:
            What result.json holds.

        Raises:
            InterruptedTraining: Ctrl-C or SIGTERM came; the state is saved.
            DivergedError: the loss is not finite, or most rows fail; the last epoch's state is kept.
        """
        with _interruptions() as asked:
            while self._progress.epoch < self.train_config.epochs:
                stop = self._epoch(reporters, asked)
                self._rows.append(self._close_epoch())
                if self.processes.first:
                    self.run.write_metrics(self._rows)
                    self._save()
                    for reporter in reporters:
                        reporter.epoch(self._rows[-1])
                if stop:
                    raise InterruptedTraining
        return self._finish()

    def _epoch(self, reporters: Sequence[Reporter], asked: list[bool]) -> bool:
        """The rest of an epoch; whether some process was asked to stop meanwhile."""
        progress, began = self._progress, time.perf_counter()
        losses = torch.zeros((), dtype=torch.float64, device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        failed = torch.zeros((), dtype=torch.int64, device=self.device)

        def settle() -> bool:
            nonlocal began
            own = [losses, correct.double(), failed.double(), losses.new_tensor(float(bool(asked)))]
            loss, right, wrong, stop = self.processes.total(torch.stack(own)).tolist()
            progress.loss += loss
            progress.correct += int(right)
            progress.failed += int(wrong)
            losses.zero_(), correct.zero_(), failed.zero_()
            now = time.perf_counter()
            progress.seconds, began = progress.seconds + now - began, now
            if not (math.isfinite(progress.loss) and self._finite()):
                raise DivergedError(
                    f"The training loss or a control is not finite in epoch {progress.epoch + 1}. Take a smaller "
                    f"--learning-rate; {self.run.state} keeps the last finished epoch."
                )
            seen = progress.batch * self._batches.batch_size
            if 2 * progress.failed > seen:
                raise DivergedError(
                    f"{progress.failed} of {seen} rows failed in epoch {progress.epoch + 1}: their flows left the "
                    f"finite numbers. Take a smaller --learning-rate; {self.run.state} keeps the last finished epoch."
                )
            return bool(stop)

        for images, labels in self._batches.epoch(progress.epoch, progress.batch):
            logits = self._forward(images)
            # Rows that failed are left out: what they hold is no answer.
            lost = self.network.failed.expand(len(labels))
            smoothing = self.train_config.smoothing
            each = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
            each = torch.where(lost, 0.0, each)
            # Of all processes, so that the mean of their gradients is the gradient of the whole batch's mean loss.
            loss = each.sum() / self.processes.total((~lost).sum()).clamp(min=1)
            self._optimizer.zero_grad()
            (loss * self.processes.count).backward()
            self._optimizer.step()
            self._schedule.step()
            losses += loss.detach()
            correct += ((logits.detach().argmax(1) == labels) & ~lost).sum()
            failed += lost.sum()
            progress.batch += 1
            # Several processes stop together, where they tell each other how they stand.
            if progress.batch % _REPORT_EVERY == 0 or (asked and self.processes.alone):
                stop = settle()
                seen = progress.batch * self._batches.batch_size
                done = progress.epoch * len(self._batches) + progress.batch
                if self.processes.first:
                    for reporter in reporters:
                        reporter.batch(done, self.steps, progress.loss / progress.batch, progress.correct / seen)
                if stop:
                    self._save()
                    raise InterruptedTraining
        return settle()

    def _close_epoch(self) -> dict[str, Any]:
        progress, began = self._progress, time.perf_counter()
        validation = self._evaluate(self.data.validation)
        if validation.accuracy > progress.best_accuracy:
            progress.best_accuracy, progress.best_epoch = validation.accuracy, progress.epoch
            self._best = self._parameters()
        progress.seconds += time.perf_counter() - began
        count = len(self._batches)
        row = {
            "epoch": progress.epoch + 1,
            "steps": (progress.epoch + 1) * count,
            "loss": progress.loss / count,
            "train_accuracy": progress.correct / (count * self._batches.batch_size),
            "validation_accuracy": validation.accuracy,
            "train_failed": progress.failed,
            "validation_failed": validation.failed,
            "learning_rate": float(self._schedule.get_last_lr()[0]),
            "seconds": progress.seconds,
        }
        progress.epoch, progress.batch, progress.loss, progress.correct = progress.epoch + 1, 0, 0.0, 0
        progress.failed = 0
        return row

    def _finish(self) -> dict[str, Any]:
        copy_into(self.network, self._best, self.run.state)
        test = self._evaluate(self.data.test)
        result = self._result(test)
        if not self.processes.first:
            return result
        save_network(self.run.network, self.network, self.network_config, {"result": result, "versions": versions()})
        self.run.write_json(self.run.result, {**result, "confusion": test.confusion.tolist()})
        return result

    def _result(self, test: Evaluation) -> dict[str, Any]:
        return {
            "trained_parameters": self.network.trained_numbers,
            "frozen_parameters": self.network.frozen_numbers,
            "validation_accuracy": self._progress.best_accuracy,
            "test_accuracy": test.accuracy,
            "chosen_epoch": self._progress.best_epoch + 1,
            "epochs": self.train_config.epochs,
            "seconds": self._progress.seconds,
            "seed": self.network_config.seed,
            "data": self.data.source,
            "data_complete": self.data.complete,
            "training_images": len(self.data.train.labels),
            "validation_images": len(self.data.validation.labels),
            "test_images": len(self.data.test.labels),
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            "processes": self.processes.count,
        }

    def _check_alike(self) -> None:
        """Refuse processes that found other data than each other: rows of one batch would be of several data sets."""
        own = torch.tensor(int(self._data[:12], 16), device=self.device)
        if not torch.equal(self.processes.total(own), own * self.processes.count):
            raise ValueError(
                f"The processes have different data, this one {len(self.data.train):,} training images from "
                f"{self.data.source}: name one folder with --data-dir."
            )

    def _evaluate(self, part: Dataset) -> Evaluation:
        images, labels = self._tensors(part)
        share = self.processes.share(len(labels))
        own = evaluate(self.network, images[share], labels[share])
        if self.processes.alone:
            return own
        confusion = self.processes.total(own.confusion.to(self.device)).cpu()
        failed = int(self.processes.total(torch.tensor(own.failed, device=self.device)))
        return Evaluation(int(confusion.trace()) / len(labels), confusion, failed)

    def _save(self) -> None:
        if not self.processes.first:
            return
        tensors = {f"network/{name}": value for name, value in self._parameters().items()}
        tensors |= {f"best/{name}": value for name, value in self._best.items()}
        optimizer = self._optimizer.state_dict()
        for place, moments in optimizer["state"].items():
            tensors |= {f"optimizer/{place}/{name}": value for name, value in moments.items()}
        about = {
            **self._identity(),
            "frozen_digest": self.network.frozen_digest(),
            "progress": vars(self._progress),
            "param_groups": optimizer["param_groups"],
            "schedule": self._schedule.state_dict(),
        }
        save_tensors(self.run.state, STATE, tensors, about)

    def _identity(self) -> dict[str, Any]:
        return {
            "network": self.network_config.to_dict(),
            "training": self.train_config.to_dict(),
            "training_images": len(self.data.train.labels),
            "data_sha256": self._data,
        }

    def _finite(self) -> bool:
        return all(bool(torch.isfinite(p).all()) for p in self.network.parameters())

    def _parameters(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.network.named_parameters()}

    def _tensors(self, part: Dataset) -> tuple[Tensor, Tensor]:
        images, labels = torch.from_numpy(part.images), torch.from_numpy(part.labels.astype(np.int64))
        return images.to(self.device), labels.to(self.device)


def _digest(data: MNIST) -> str:
    """Of all images and labels, in their order."""
    digest = hashlib.sha256()
    for name in ("train", "validation", "test"):
        part: Dataset = getattr(data, name)
        digest.update(tensor_bytes(f"{name}.images", torch.from_numpy(part.images)))
        digest.update(tensor_bytes(f"{name}.labels", torch.from_numpy(part.labels)))
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """What a result depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("cde-nets", "torch", "numpy")}}


def _flat(about: dict[str, Any], path: Path) -> dict[str, Any]:
    """One level of names: network.count and so on."""
    parts = ("network", "training")
    if "training_images" not in about or not all(isinstance(about.get(part), dict) for part in parts):
        raise ValueError(f"{path} is damaged: it does not say what was trained. Train again or use a copy.")
    inner = {f"{part}.{name}": value for part in parts for name, value in about[part].items()}
    return {**inner, **{name: about.get(name) for name in ("training_images", "data_sha256")}}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


@contextmanager
def _interruptions() -> Iterator[list[bool]]:
    """A list that is no longer empty once SIGINT or SIGTERM came; a second signal acts as it did before.

    A signal must not strike inside an optimiser's step: the state saved then would be no state of any run.
    """
    asked: list[bool] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(True)
        signal.signal(number, before[signal.Signals(number)])

    try:
        for number in before:
            signal.signal(number, note)
    except ValueError:
        # Only the main thread may set handlers; elsewhere whoever runs the thread decides.
        yield asked
        return
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
