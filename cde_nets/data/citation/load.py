"""Where a citation graph is looked for: a named directory alone, or cache and download."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cde_nets.data.cache import cache_folder, store
from cde_nets.data.citation.graph import CitationGraph, read_graph
from cde_nets.data.mirrors import ANSWER_SECONDS, PROGRESS_BYTES, STALL_SECONDS
from cde_nets.data.mnist import DataUnavailableError
from cde_nets.data.named import VARIABLE, named_directory
from cde_nets.data.transfer import Transfer

# What is read from a folder that the user names.
MAX_FILE = 1 << 26


@dataclass(frozen=True)
class Published:
    """A file that may be downloaded, and how to know it.

    Attributes:
        size: in bytes.
        sha256: of them.
        urls: where it may be had, in order.
    """

    size: int
    sha256: str
    urls: tuple[str, ...]


# Of Pubmed no file with a digest that could be checked was at hand: it is read from a folder, and never downloaded.
DATASETS: dict[str, Published | None] = {
    "cora": Published(
        540_580,
        "068e22d90c3849b4057dfb05851741428992af058efcd4e7ebb4186f3d581de2",
        (
            "https://github.com/shchur/gnn-benchmark/raw/master/data/npz/cora.npz",
            "https://github.com/BUPT-GAMMA/CPF/raw/master/data/npz/cora.npz",
        ),
    ),
    "pubmed": None,
}


def load_citation(
    dataset: str = "cora",
    data_dir: str | Path | None = None,
    *,
    notify: Callable[[str], None] | None = None,
    offline: bool = False,
) -> CitationGraph:
    """Loads a citation graph from a named directory, or else from the cache or a download.

    A file from a named directory may be any graph of the layout (`read_graph`), and its digest is in the result. What
    is downloaded or cached is used only if its digest is the published one.

    Args:
        dataset: "cora" or "pubmed".
        data_dir: a directory that holds ``<dataset>.npz``, directly or in a subfolder of the data set's name. None
            reads the environment variable ``CDE_NETS_DATA``; unset or empty, no directory is named.
        notify: told, in a sentence each, of damaged cached files, downloads and edges left out; None logs them as
            warnings.
        offline: do not download.

    Returns:
        The graph, and where it came from.

    Raises:
        ValueError: an unknown data set, or a directory was named and the file there is missing or damaged.
        DataUnavailableError: no directory was named and no source gave the file.
    """
    if dataset not in DATASETS:
        raise ValueError(f"dataset: found {dataset!r}, expected one of {', '.join(DATASETS)}")
    notify = logging.getLogger(__name__).warning if notify is None else notify
    named = named_directory(data_dir)
    if named is not None:
        directory, named_by = named
        path = _find(directory, f"{dataset}.npz", named_by)
        return read_graph(_read(path), dataset, str(path), notify=notify, source="directory")
    return _published(dataset, DATASETS[dataset], notify, offline)


def _find(directory: Path, name: str, named_by: str) -> Path:
    places = [directory / name, directory / name.removesuffix(".npz") / name]
    for path in places:
        if path.is_file():
            return path
    state = "" if directory.is_dir() else " (there is no such directory)"
    raise ValueError(
        f"{named_by} names {directory}{state}: found neither {places[0]} nor {places[1]}, expected one of them; "
        "or name no directory, and the file is looked for in the cache and fetched where that is known how."
    )


def _read(path: Path) -> bytes:
    size = path.stat().st_size
    if size > MAX_FILE:
        raise ValueError(f"{path}: found {size} bytes, expected at most {MAX_FILE}")
    return path.read_bytes()


def _published(dataset: str, file: Published | None, notify: Callable[[str], None], offline: bool) -> CitationGraph:
    name = f"{dataset}.npz"
    tried = []
    if file is None:
        tried.append(f"download: no address with a digest is known for {name}")
    else:
        folder = cache_folder().parent / "citation"
        path = folder / name
        try:
            raw = _verified(_read(path), file, str(path))
            return read_graph(raw, dataset, str(path), notify=notify, source="cache")
        except FileNotFoundError:
            tried.append(f"cache: {path} is not there")
        except (ValueError, OSError) as error:
            notify(f"damaged file in the cache, not used: {error}")
            tried.append(f"cache: {error}")
        if offline:
            tried.append("download: not asked, because offline=True")
        for url in () if offline else file.urls:
            notify(f"trying {url}")
            try:
                raw = _verified(_download(url, file, len(file.urls)), file, url)
            except Exception as error:  # the HTTP client's errors have no common base; each is a reason to go on
                tried.append(f"download: {error}")
                continue
            try:
                store(folder, name, raw)
            except OSError as error:
                notify(f"the cache {folder} cannot be written ({error}): the graph is used from memory, not kept")
            return read_graph(raw, dataset, url, notify=notify, source="download")
    raise DataUnavailableError(
        f"{name} could not be had from any source:\n"
        + "".join(f"  - {reason}\n" for reason in tried)
        + f"Name a directory that holds {name} (data_dir, or the variable {VARIABLE})."
    )


def _verified(raw: bytes, file: Published, where: str) -> bytes:
    digest = hashlib.sha256(raw).hexdigest()
    if digest != file.sha256:
        raise ValueError(
            f"{where}: found {len(raw)} bytes with sha256 {digest}, expected {file.size} bytes with {file.sha256}"
        )
    return raw


def _download(url: str, file: Published, sources: int) -> bytes:
    transfer = Transfer(url, limit=file.size, socket_timeout=STALL_SECONDS)
    return transfer.fetch(
        answer_by=time.monotonic() + ANSWER_SECONDS / sources,
        stall_seconds=STALL_SECONDS,
        progress_bytes=PROGRESS_BYTES,
    )
