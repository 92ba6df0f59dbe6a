from collections.abc import Callable
from pathlib import Path

import pytest

from cde_nets.data import MNIST
from cde_nets.nn import ImageNetworkConfig
from cde_nets.train import Run, TrainConfig, Trainer

SMALL = ImageNetworkConfig(size=28, classes=10, channels=10, intervals=(1, 1), count=20)


@pytest.fixture
def make_trainer(waves: MNIST, tmp_path: Path) -> Callable[..., Trainer]:
    def make(folder: str = "run", **training: int | float) -> Trainer:
        config = TrainConfig(**{"epochs": 3, "batch_size": 20, **training})
        return Trainer(Run(tmp_path / folder), SMALL, config, waves)

    return make


class Silent:
    """A reporter that keeps what it is told, and may do something at a step."""

    def __init__(self, at: int = -1, act: Callable[[], None] = lambda: None) -> None:
        self.rows: list[dict[str, object]] = []
        self.steps: list[int] = []
        self.at, self.act = at, act

    def batch(self, done: int, total: int, loss: float, accuracy: float) -> None:
        self.steps.append(done)
        if done == self.at:
            self.act()

    def epoch(self, row: dict[str, object]) -> None:
        self.rows.append(row)


@pytest.fixture
def silent() -> type[Silent]:
    return Silent
