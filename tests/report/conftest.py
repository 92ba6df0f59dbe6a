"""A finished run, made here in seconds, and its page."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cde_nets.data import MNIST
from cde_nets.nn import ImageNetworkConfig
from cde_nets.report import build_page, read_run, write_report
from cde_nets.report.page import certificate
from cde_nets.train import Run, TrainConfig, Trainer

SMALL = ImageNetworkConfig(intervals=(2, 1, 1), count=20)
# What HTML and JavaScript would read something into, were it not escaped.
NAME = "a run <script><b>&amp; \"quoted\" 'name'"


class Silent:
    """A reporter that says nothing."""

    def batch(self, done: int, total: int, loss: float, accuracy: float) -> None:
        """Nothing."""

    def epoch(self, row: dict[str, Any]) -> None:
        """Nothing."""


@pytest.fixture(scope="session")
def trained(waves: MNIST, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run; tests that change it take `finished`."""
    folder = tmp_path_factory.mktemp("runs") / NAME
    trainer = Trainer(Run(folder), SMALL, TrainConfig(epochs=3, batch_size=20), waves)
    trainer.start()
    trainer.fit(Silent())
    return folder


@pytest.fixture
def finished(trained: Path, tmp_path: Path) -> Path:
    """A copy of that folder."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(scope="session")
def written(trained: Path, waves: MNIST, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's page, with a certificate at two images."""
    done, path = read_run(trained), tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, build_page(done, waves.test, certificate(done, waves.test, 2, None)))
    return path


@pytest.fixture
def text(written: Path) -> str:
    """The page's text."""
    return written.read_text(encoding="utf-8")


@pytest.fixture
def own_data(waves: MNIST, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[MNIST], None]]:
    """The command finds this run's images, or those given, instead of MNIST."""

    def use(data: MNIST) -> None:
        monkeypatch.setattr("cde_nets.cli.report.load", lambda folder, offline: data)

    use(waves)
    return use
