"""Every command with arguments that make it work, quickly, on images made here."""

import shutil
from pathlib import Path

import pytest

import cde_nets as cn
from cde_nets.data import MNIST
from cde_nets.train import ProgressBar


@pytest.fixture(scope="package")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, waves: MNIST) -> Path:
    """The folder of a finished run of two epochs, without pictures."""
    run = cn.Run(tmp_path_factory.mktemp("tiny") / "run")
    network = cn.ImageNetworkConfig(intervals=(1, 1), count=4)
    trainer = cn.Trainer(run, network, cn.TrainConfig(epochs=2, batch_size=100), waves)
    trainer.start()
    trainer.fit(ProgressBar(2))
    return run.folder


@pytest.fixture
def workplace(tiny_run: Path, tmp_path: Path, waves: MNIST, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a copy of that run, `run`; commands find its images and draw nothing, which takes most time."""
    shutil.copytree(tiny_run, tmp_path / "run")
    monkeypatch.setattr("cde_nets.data.load_mnist", lambda *given, **options: waves)
    monkeypatch.setattr("cde_nets.plot.run_pictures", lambda run, *given: [run.folder / "flow.png"])
    monkeypatch.setattr("cde_nets.cli.steer._draw", lambda *given: None)
    monkeypatch.setattr("cde_nets.report.page._library", lambda: "")
    return tmp_path
