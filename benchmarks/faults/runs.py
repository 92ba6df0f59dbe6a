"""What is killed: training and every experiment that goes on where it stood, on sizes that take a second or two.

Each is the command a user gives, in a process of its own in which data and sizes are made small; the code that keeps
and resumes is the command's own. Where a checkpoint is written every few minutes it is written after every epoch here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cde_nets.data import MNIST, Dataset, load_digits


@dataclass(frozen=True)
class Job:
    """One command.

    Attributes:
        name: of the run, in the table.
        arguments: of `cde-nets`; the folder comes after them.
        shrink: makes data and sizes small, in the process that runs the command.
        again: the arguments that go on with the run in a folder; the same command where None.
    """

    name: str
    arguments: tuple[str, ...]
    shrink: Callable[[], None]
    again: Callable[[Path], tuple[str, ...] | None] = lambda folder: None

    def command(self, folder: Path) -> list[str]:
        """What is given, the first time and after a fault."""
        return [*(self.again(folder) or (*self.arguments, "--out", str(folder)))]


def images() -> MNIST:
    """scikit-learn's digits in MNIST's form: 28 x 28, a few of them."""
    digits = load_digits()

    def some(part: Dataset, count: int) -> Dataset:
        large = part.images[:count].repeat(3, axis=1).repeat(3, axis=2)
        return Dataset(np.pad(large, ((0, 0), (2, 2), (2, 2))), part.labels[:count])

    parts = some(digits.train, 300), some(digits.validation, 100), some(digits.test, 100)
    return MNIST(*parts, source="scikit-learn", detail="enlarged", complete=False)


def _train() -> None:
    import cde_nets.data as data

    _put(data, load_mnist=lambda *given, **options: images())


def _resume(folder: Path) -> tuple[str, ...] | None:
    # Killed before it had written anything it is begun again.
    return ("train", "mnist", "--resume", str(folder)) if (folder / "config.json").exists() else None


def _mnist_seeds() -> None:
    from cde_nets.nn import ImageNetworkConfig
    from experiments import mnist_seeds

    small = partial(ImageNetworkConfig, intervals=(1, 1), count=10)
    _put(mnist_seeds, load_mnist=lambda *given, **options: images(), ImageNetworkConfig=small)


def _frontier() -> None:
    from experiments.frontier import plan

    # One epoch of 1,200 digits.
    _put(plan, QUICK_STEPS=1)


def _citation() -> None:
    from cde_nets.data.citation import CitationGraph
    from experiments.citation import command
    from experiments.citation.training import run

    rng = np.random.default_rng(0)
    labels = np.arange(48) % 3
    words = rng.random((48, 80)) < np.where(np.arange(80) % 3 == labels[:, None], 0.6, 0.1)
    near = rng.random((48, 48)) < np.where(labels[:, None] == labels, 0.25, 0.02)
    np.fill_diagonal(near, False)
    made = CitationGraph(
        "cora", np.stack(near.nonzero()), words.astype(np.float32), labels, ("one", "two", "three"), sha256="made"
    )
    _put(
        command,
        some_graph=lambda *given, **options: made,
        run=partial(run, seconds=0.0),
        QUICK={"epochs": 6, "every": 2, "steps": 20},
        SIZES={command.Dataset.CORA: 8},
    )


def _hopfield() -> None:
    from experiments.hopfield import command
    from experiments.hopfield.training import Batch

    sizes = {size: replace(known, side=4, hidden=6, epochs=4) for size, known in command.SETTINGS.items()}
    _put(
        command,
        load_mnist=lambda *given, **options: images(),
        SETTINGS=sizes,
        Batch=partial(Batch, every=0.0),
    )


def _interpolation() -> None:
    from experiments import interpolation

    # Easy ones, with more time than they need on any machine: a trial whose time is up would be another result.
    def trials(part: Any, seeds: int) -> list[Any]:
        return [
            interpolation.Trial(part.value, "polynomial", 2, 5, 2, seed, 5.0, 8, seconds=600.0) for seed in range(seeds)
        ]

    _put(interpolation, trials=trials)


def _few_fields() -> None:
    from experiments import few_fields

    _put(few_fields, DIMS=(2,), COUNTS=(2, 3, 4, 5))


def _put(module: Any, **values: Any) -> None:
    for name, value in values.items():
        # What is not there would be put beside what the command reads.
        getattr(module, name)
        setattr(module, name, value)


JOBS = {
    job.name: job
    for job in (
        Job(
            "train",
            ("train", "mnist", "--epochs", "4", "--batch-size", "25", "--intervals", "1,1", "--count", "10"),
            _train,
            _resume,
        ),
        Job("mnist_seeds", ("run", "mnist_seeds", "--seeds", "2", "--epochs", "1"), _mnist_seeds),
        Job("frontier", ("run", "frontier", "run", "100", "dense", "--data", "digits", "--quick"), _frontier),
        Job(
            "citation",
            (
                *("run", "citation", "--quick", "--split", "6", "20", "22"),
                *("--rows", "tbptt", "--rows", "uniform-artbp", "--rows", "neumann-rbp"),
            ),
            _citation,
        ),
        Job(
            "hopfield",
            ("run", "hopfield", "--cells", "tbptt:10,rbp-uniform:10", "--trials", "4", "--batch", "2"),
            _hopfield,
        ),
        Job("interpolation", ("run", "interpolation", "--part", "numbers", "--seeds", "4"), _interpolation),
        Job("few_fields", ("run", "few_fields", "--trials", "2"), _few_fields),
    )
}


def load() -> None:
    """Import what the commands import, once for all processes that are forked after it."""
    import experiments.citation
    import experiments.few_fields
    import experiments.frontier
    import experiments.hopfield
    import experiments.interpolation
    import experiments.mnist_seeds  # noqa: F401
