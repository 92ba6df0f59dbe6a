"""What all tests share: shape checking, data, a command line run in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

# Tests are many small solves: on a busy machine threads that wait for each other make them many times slower. Before
# NumPy and torch are imported, who look once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jaxtyping
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Functions of these rooms refuse what their signatures do not allow while the tests run.
ROOMS = ("conditions", "controls", "fields", "gradient", "nn", "plot", "report", "solver", "train")

jaxtyping.install_import_hook([f"cde_nets.{room}" for room in ROOMS], "beartype.beartype")

from cde_nets.data import MNIST, Dataset, DataUnavailableError, load_mnist  # noqa: E402


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """For modules of many small solves, where the shape checker would take most of the time; users do not have it."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def bad_input() -> Iterator[None]:
    """For tests of what users see: without the shape checker, which would speak first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def unchecked(bad_input: None) -> None:
    """Without the shape checker, where it would take most of the time and what is called is checked in its own room."""


class Looks:
    """A clock that goes on whenever it is looked at.

    Attributes:
        now: seconds.
        tick: seconds from look to look.
    """

    def __init__(self) -> None:
        self.now, self.tick = 0.0, 0.01

    def monotonic(self) -> float:
        """The time, a tick later than at the last look."""
        self.now += self.tick
        return self.now


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    """The clock of `cde_nets.steer`, which looks before every step: limits of time become limits of steps.

    So what a search has time for is the same on every machine, however busy.
    """
    from cde_nets.steer import damped, energy, interpolate, regularized, search, starts  # noqa: F401

    clock = Looks()
    for name in ("damped", "energy", "interpolate", "regularized", "search", "starts"):
        monkeypatch.setattr(sys.modules[f"cde_nets.steer.{name}"], "time", clock)
    return clock


@pytest.fixture
def no_kernels() -> Iterator[None]:
    """No kernels: for tests that look at the steps from inside."""
    from cde_nets.kernels import plain_steps

    with plain_steps():
        yield


class Reads(TorchDispatchMode):
    """Counts what is read from the device while it is entered: through the dispatcher, and past it.

    Attributes:
        count: how often the host had to wait.
    """

    PAST = ("tolist", "item", "numpy", "__bool__", "__float__", "__int__", "__index__", "__array__", "nonzero")
    NAMES = ("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select")

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.count, self._entered, self._depth = 0, 0, 0
        for name in self.PAST:
            monkeypatch.setattr(torch.Tensor, name, self._counted(getattr(torch.Tensor, name)))

    def __enter__(self) -> "Reads":
        self._entered += 1
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self._entered -= 1
        super().__exit__(*error)

    def _counted(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        def read(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            self.count += self._depth == 1 and self._entered > 0
            try:
                return plain(tensor, *args, **kwargs)
            finally:
                self._depth -= 1

        return read

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        reading = name in self.NAMES
        if name == "index":
            # A mask is turned into numbers, and how many they are is read.
            reading = any(k is not None and k.dtype == torch.bool for k in args[1])
        self.count += reading and self._depth == 0
        return func(*args, **(kwargs or {}))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Counts what makes the host wait for the device, within `with reads:`."""
    from cde_nets.solver import opaque

    # On a CPU, where this costs nothing, the host does look; here the CPU stands for a device.
    monkeypatch.setattr(opaque, "readable", lambda x: False)
    return Reads(monkeypatch)


def _waves(count: int, seed: int) -> Dataset:
    """Images of ten classes that are easy to tell apart: waves of five directions and two lengths, in noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.uint8) % 10
    angle, frequency = np.pi * (labels % 5) / 5, np.where(labels < 5, 0.15, 0.3)
    rows, columns = np.mgrid[:28, :28]
    along = np.cos(angle)[:, None, None] * rows + np.sin(angle)[:, None, None] * columns
    phase = 2 * np.pi * (frequency[:, None, None] * along + rng.random((count, 1, 1)))
    images = 128 + 90 * np.sin(phase) + 10 * rng.standard_normal((count, 28, 28))
    return Dataset(images.clip(0, 255).astype(np.uint8), labels)


@pytest.fixture(scope="session")
def waves() -> MNIST:
    """A data set of MNIST's form, made here: 200 training, 50 validation and 60 test images."""
    return MNIST(_waves(200, 0), _waves(50, 1), _waves(60, 2), source="made", detail="waves", complete=False)


@pytest.fixture(scope="session")
def full_mnist() -> MNIST:
    """All of MNIST, where it is at hand; nothing is downloaded for a test."""
    try:
        data = load_mnist(offline=True)
    except DataUnavailableError:
        data = None
    if data is None or not data.complete:
        pytest.skip("needs all of MNIST: set CDE_NETS_DATA to its folder, or run `make mnist` once to fill the cache")
    return data


@dataclass(frozen=True)
class Ran:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON value."""
        return json.loads(self.out)


# What `command` and `process` change of the environment: an empty cache and no named data, wherever tests run.
def _environment(folder: Path, extra: dict[str, str] | None) -> dict[str, str | None]:
    cache = str(folder / "cache")
    return {"CDE_NETS_DATA": None, "XDG_CACHE_HOME": cache, "COLUMNS": "100", "OMP_NUM_THREADS": "1", **(extra or {})}


def run_process(folder: Path, *arguments: str, env: dict[str, str] | None = None, timeout: float = 300) -> Ran:
    """Run `cde-nets` in a process of its own, in this folder, with an empty cache and no named data."""
    changed = {**os.environ, **_environment(folder, env)}
    done = subprocess.run(
        [sys.executable, "-m", "cde_nets", *arguments],
        cwd=folder,
        env={name: value for name, value in changed.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., Ran]:
    """Run `cde-nets` in a process of its own, in an empty folder: for exit codes, streams and what is imported."""
    return partial(run_process, tmp_path)


@pytest.fixture(scope="module")
def process_in() -> Callable[..., Ran]:
    """As `process`, in a folder that is named first: for what the tests of a module share."""
    return run_process


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """As `process`, without a process: many times as quick, as torch is imported already.

    As a user sees it, so without the shape checker. An error that would be a traceback is raised here.
    """
    from typer.testing import CliRunner

    from cde_nets.cli import app

    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, env: dict[str, str] | None = None) -> Ran:
        threads, checked = torch.get_num_threads(), not jaxtyping.config.jaxtyping_disable
        jaxtyping.config.update("jaxtyping_disable", True)
        try:
            done = CliRunner().invoke(
                app, arguments, prog_name="cde-nets", env=_environment(tmp_path, env), catch_exceptions=False
            )
        finally:
            jaxtyping.config.update("jaxtyping_disable", not checked)
            torch.set_num_threads(threads)
        return Ran(done.exit_code, done.stdout, done.stderr)

    return run
