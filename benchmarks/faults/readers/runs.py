"""Readers of training runs: networks, states, configurations, metrics, results."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save

from benchmarks.faults.mutate import damaged, damaged_json, damaged_lines, damaged_text
from benchmarks.faults.readers.base import Maker, Reader, same
from cde_nets.data import MNIST, Dataset
from cde_nets.errors import DivergedError
from cde_nets.nn import ImageNetworkConfig
from cde_nets.train import Run, TrainConfig, Trainer, load_network
from cde_nets.train.checkpoint import NETWORK, checksum, load_tensors, save_network, save_tensors
from cde_nets.train.finished import read_run
from cde_nets.train.trainer import STATE

SMALL = ImageNetworkConfig(size=12, classes=3, channels=3, intervals=(1, 1), count=4)
TRAINING = TrainConfig(epochs=2, batch_size=10)


class _Silent:
    def batch(self, done: int, total: int, loss: float, accuracy: float) -> None:
        """Says nothing."""

    def epoch(self, row: dict[str, Any]) -> None:
        """Says nothing."""


def trainer(folder: Path) -> Trainer:
    """A run on noise in place of images."""
    rng = np.random.default_rng(0)

    def noise(count: int) -> Dataset:
        images = rng.integers(0, 256, (count, SMALL.size, SMALL.size), dtype=np.uint8)
        return Dataset(images, np.arange(count, dtype=np.uint8) % SMALL.classes)

    data = MNIST(noise(40), noise(20), noise(20), source="made", detail="noise", complete=False)
    return Trainer(Run(folder), SMALL, TRAINING, data)


def _finished(folder: Path) -> Run:
    """The folder of a finished run, the same at every time it is made: as if everything took a second."""
    made = trainer(folder / "run")
    made.start()
    made.fit(_Silent())
    run = made.run
    for path, kind in ((run.network, NETWORK), (run.state, STATE)):
        tensors, about = load_tensors(path, kind)
        save_tensors(path, kind, tensors, _timeless(about))
    run.write_json(run.result, _timeless(run.read_result()))
    run.write_metrics(_timeless(run.read_metrics()))
    return run


def _timeless(value: Any) -> Any:
    if isinstance(value, list):
        return [_timeless(part) for part in value]
    if isinstance(value, dict):
        return {name: 1.0 if name == "seconds" else _timeless(part) for name, part in value.items()}
    return value


def forged(good: list[bytes], kind: str) -> Callable[[Random], bytes]:
    """Damaged files of tensors; half of them with a checksum that is right, as somebody would forge them."""
    parts = []
    for raw in good:
        length = int.from_bytes(raw[:8], "little")
        parts.append((load(raw), json.loads(json.loads(raw[8 : 8 + length])["__metadata__"]["about"])))

    def make(rng: Random) -> bytes:
        place = rng.randrange(len(good))
        if rng.random() < 0.4:
            return damaged(rng, good[place], good)
        tensors, about = parts[place]
        tensors = dict(tensors)
        if rng.random() < 0.8:
            about = damaged_json(rng, about)
        else:
            name = rng.choice(sorted(tensors))
            value = tensors[name]
            tensors[rng.choice((name, name + "/x", "optimizer/x/step", "optimizer/9/step", "best/"))] = rng.choice(
                (value.double(), value.flatten()[:0], value * float("nan"), value.new_zeros(3, 2), value.to(torch.int8))
            ).contiguous()
        # A lone surrogate stands in JSON as an escape.
        text = json.dumps(about)
        if rng.random() < 0.02:
            text = rng.choice(("", "[]", "3", "null", text[:-1], "[" * 3000))
        return save(tensors, {"kind": kind, "about": text, "checksum": checksum(kind, text, tensors)})

    return make


def _network(folder: Path) -> Reader:
    run = _finished(folder)
    other = folder / "other.safetensors"
    config = ImageNetworkConfig(size=8, classes=2, channels=2, intervals=(1,), count=3, method="rk4", seed=1)
    save_network(other, config.build(), config, {"note": "another"})

    def read(path: Path, raw: bytes) -> None:
        network, about = load_network(path)
        kept = load(raw)
        same({name: p.detach().tolist() for name, p in network.named_parameters()},
             {name: value.tolist() for name, value in kept.items()}, "numbers")  # fmt: skip
        same(network.frozen_digest(), about["frozen_digest"], "digest")

    make = forged([run.network.read_bytes(), other.read_bytes()], NETWORK)
    return Reader("networks in safetensors: `load_network`", make, read)


def _state(folder: Path) -> Reader:
    run = _finished(folder)
    going = trainer(folder / "state")
    going.start()
    good = [run.state.read_bytes(), going.run.state.read_bytes()]

    # Made once for all that are refused: of those nothing is taken up.
    ready = [trainer(going.run.folder)]

    def read(path: Path, raw: bytes) -> None:
        going.run.state.write_bytes(raw)
        again = ready[0]
        before = vars(again._progress)
        try:
            again.resume()
        except ValueError:
            same(vars(again._progress), before, "what a state that is refused leaves")
            raise
        ready[0] = trainer(going.run.folder)
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        same(vars(again._progress), json.loads(header["__metadata__"]["about"])["progress"], "progress")
        # What was accepted can be gone on with.
        with suppress(DivergedError):  # with controls that are finite and as large as anybody may write
            again.fit(_Silent())
        for path in (again.run.result, again.run.network):
            path.unlink(missing_ok=True)

    return Reader("the state of a training: `Trainer.resume`, then `fit`", forged(good, STATE), read, named=False)


def _json_of(
    path: Path, kept: Callable[[Run], Path], read: Callable[[Run, Callable[[], Any]], None], says: str
) -> Reader:
    """A reader of one JSON file of a run's folder."""
    run = _finished(path)
    good = kept(run).read_bytes()
    mine = Run(path / f"of-{kept(run).name}")
    shutil.copytree(run.folder, mine.folder, dirs_exist_ok=True)

    def one(path: Path, raw: bytes) -> None:
        kept(mine).write_bytes(raw)
        read(mine, lambda: json.loads(raw))

    return Reader(says, lambda rng: damaged_text(rng, good, [good]), one, named=False)


def _config(folder: Path) -> Reader:
    def read(run: Run, content: Callable[[], Any]) -> None:
        network, training, threads = run.read_config()
        said = content()
        same(network.to_dict() | said["network"], network.to_dict(), "network")
        same(training.to_dict() | said["training"], training.to_dict(), "training")
        same(threads, said["threads"], "threads")
        run.check_is_of(network, training)

    return _json_of(folder, lambda run: run.config, read, "configurations of runs: `Run.read_config`, `check_is_of`")


def _result(folder: Path) -> Reader:
    def read(run: Run, content: Callable[[], Any]) -> None:
        same(json.dumps(run.read_result()), json.dumps(content()), "result")

    return _json_of(folder, lambda run: run.result, read, "results of runs: `Run.read_result`")


def _whole(folder: Path) -> Reader:
    """Whole folders, of which one of the files that a report reads is damaged."""
    run = _finished(folder)
    mine = Run(folder / "whole")
    files = [run.config, run.result, run.metrics, run.network]
    good = [file.read_bytes() for file in files]
    networks = forged([run.network.read_bytes()], NETWORK)

    def make(rng: Random) -> bytes:
        place = rng.randrange(4)
        damage = (damaged_text, damaged_text, damaged_lines)
        raw = networks(rng) if place == 3 else damage[place](rng, good[place], good)
        return bytes([place]) + raw

    def read(path: Path, raw: bytes) -> None:
        shutil.copytree(run.folder, mine.folder, dirs_exist_ok=True)
        (mine.folder / files[raw[0]].name).write_bytes(raw[1:])
        found = read_run(mine.folder)
        same(len(found.metrics), found.result["epochs"], "epochs")
        same(json.dumps(found.config), json.dumps(json.loads(mine.config.read_text())), "configuration")

    return Reader("folders of finished runs: `read_run`", make, read, named=False)


def _metrics(folder: Path) -> Reader:
    run = _finished(folder)
    mine = Run(folder / "metrics")
    mine.folder.mkdir(exist_ok=True)
    good = run.metrics.read_bytes()

    def read(path: Path, raw: bytes) -> None:
        mine.metrics.write_bytes(raw)
        # Of a last line that was cut short it warns.
        with warnings.catch_warnings(action="ignore"):
            rows = mine.read_metrics()
        same(json.dumps(rows), json.dumps([json.loads(line) for line in raw.split(b"\n")[: len(rows)]]), "rows")
        same(all(isinstance(row, dict) for row in rows), True, "whether all rows are objects")

    return Reader("metrics in JSON lines: `Run.read_metrics`", lambda rng: damaged_lines(rng, good, [good]), read,
                  named=False)  # fmt: skip


READERS: dict[str, Maker] = {
    "network": _network,
    "state": _state,
    "config": _config,
    "result": _result,
    "metrics": _metrics,
    "run": _whole,
}
