"""The machine: what it is, and how fast it multiplies matrices and copies memory while the benchmark runs."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

SIZE = 2048
# Seconds between two samples within a row.
EVERY = 2.0
# float32 numbers, 128 MB: well above any cache.
NUMBERS = 32 * 2**20
LIBRARIES = ("cde-nets", "torch", "torchdiffeq", "torchode", "jax", "jaxlib", "diffrax", "equinox", "numpy", "scipy")
VECTORS = ("avx512f", "avx2", "avx", "fma", "amx_tile", "neon", "asimd", "sve")


class Meter:
    """The best of samples taken all through a run.

    Attributes:
        gflops: of a float32 product of two square matrices of 2048 rows, with torch's threads.
        gbytes: read and written by a copy of 128 MB, a second.
    """

    def __init__(self) -> None:
        self.gflops = self.gbytes = 0.0
        self._a, self._b = torch.rand(2, SIZE, SIZE)
        self._c = torch.empty(SIZE, SIZE)
        self._source, self._target = torch.rand(NUMBERS), torch.empty(NUMBERS)
        self._last = -EVERY

    def sample(self, times: int = 2) -> None:
        """Measure once more and keep the best."""
        for _ in range(times):
            began = time.perf_counter()
            torch.mm(self._a, self._b, out=self._c)
            self.gflops = max(self.gflops, 2e-9 * SIZE**3 / (time.perf_counter() - began))
            began = time.perf_counter()
            self._target.copy_(self._source)
            self.gbytes = max(self.gbytes, 8e-9 * NUMBERS / (time.perf_counter() - began))
        self._last = time.perf_counter()

    def tick(self) -> None:
        """Measure once, if the last time was a while ago."""
        if time.perf_counter() - self._last > EVERY:
            self.sample(1)


@dataclass(frozen=True)
class Machine:
    """Where the numbers come from.

    Attributes:
        processor: its name.
        vectors: the vector instructions it has, of those that matter here.
        cores: that this process may use.
        threads: that every library was given.
        load: the machine's load average of the minute before the run; at 0 it had nothing else to do.
        system: operating system and Python.
        versions: of the libraries, where installed.
        gflops: as `Meter`.
        gbytes: as `Meter`.
    """

    processor: str
    vectors: tuple[str, ...]
    cores: int
    threads: int
    load: float
    system: str
    versions: dict[str, str]
    gflops: float
    gbytes: float


def machine(threads: int, load: float, meter: Meter) -> Machine:
    """This machine, and what the meter found."""
    facts = _cpuinfo()
    flags = set((facts.get("flags") or facts.get("Features") or "").split())
    affinity = getattr(os, "sched_getaffinity", None)
    return Machine(
        facts.get("model name") or platform.processor() or platform.machine(),
        tuple(flag for flag in VECTORS if flag in flags),
        len(affinity(0)) if affinity else os.cpu_count() or 1,
        threads,
        load,
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        {name: found for name in LIBRARIES if (found := _version(name))},
        meter.gflops,
        meter.gbytes,
    )


def load() -> float:
    """The load average of the last minute; NaN where the system has none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")


def _cpuinfo() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    pairs = (line.split(":", 1) for line in path.read_text().split("\n\n")[0].splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
