"""One process's worth of results, as JSON on standard output: what test_machines.py compares.

python tests/reference/once.py THREADS [deterministic]
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import cde_nets as cn
from cde_nets.data import Dataset
from cde_nets.train import Run, TrainConfig, Trainer


class Silent:
    """A reporter of nothing."""

    def batch(self, done: int, total: int, loss: float, accuracy: float) -> None:
        """A batch is done."""

    def epoch(self, row: dict[str, object]) -> None:
        """An epoch is done."""


def flows(dtype: torch.dtype, cases: Any) -> list[Tensor]:
    """Ends and gradients of every family, of rows enough for several threads."""
    found = []
    for build in cases.FAMILIES.values():
        family = build(dtype)
        x = (cases.numbers(64, family.dim, seed=1) / 4).to(dtype).requires_grad_()
        control = cn.PiecewiseConstantControl.random(6, family.count, scale=0.1, seed=2, dtype=dtype)
        end = cn.ControlledODE(family, control, method="rk4")(x)
        found += [end, *torch.autograd.grad(end.square().mean(), (x, *control.parameters()))]
    return found


def training() -> list[Tensor]:
    """The numbers that two epochs on made images leave."""
    rng = np.random.default_rng(0)
    labels = np.arange(120, dtype=np.uint8) % 10
    # A bright row a class, in noise.
    images = rng.integers(0, 60, (120, 28, 28), dtype=np.uint8)
    images[np.arange(120), 2 * labels + 4] += 180
    parts = [Dataset(images[a:b], labels[a:b]) for a, b in ((0, 80), (80, 100), (100, 120))]
    data = cn.MNIST(*parts, source="made", detail="rows", complete=False)
    shape = cn.ImageNetworkConfig(intervals=(1, 1), count=20)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(Run(Path(folder, "run")), shape, TrainConfig(epochs=2, batch_size=20), data)
        trainer.start()
        trainer.fit(Silent())
        network, _ = cn.load_network(trainer.run.network)
    return list(network.parameters())


def told(tensors: list[Tensor]) -> dict[str, Any]:
    """The numbers, and a digest of their bits."""
    flat = torch.cat([t.detach().flatten() for t in tensors])
    return {"numbers": flat.double().tolist(), "bits": hashlib.sha256(flat.numpy().tobytes()).hexdigest()}


def main(threads: str, *mode: str) -> None:
    """Print the results of this many threads."""
    torch.set_num_threads(int(threads))
    torch.use_deterministic_algorithms(mode == ("deterministic",))
    spec = importlib.util.spec_from_file_location("cases", Path(__file__).with_name("cases.py"))
    assert spec is not None
    assert spec.loader is not None
    cases = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cases)
    results = {
        "float64": told(flows(torch.float64, cases)),
        "float32": told(flows(torch.float32, cases)),
        "training": told(training()),
    }
    print(json.dumps({"threads": torch.get_num_threads(), **results}))


if __name__ == "__main__":
    main(*sys.argv[1:])
