"""Fashion-MNIST, in MNIST's own format, from a directory."""

from pathlib import Path

import numpy as np

from cde_nets.data.files import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS
from cde_nets.data.idx import read_idx_file
from cde_nets.data.mnist import MNIST, VALIDATION_COUNT, Dataset, split
from cde_nets.data.named import VARIABLE, named_directory

# Of each class: of digits MNIST has now more, now fewer, so that the one is not taken for the other.
TRAIN_OF_EACH, TEST_OF_EACH = 6000, 1000


def load_fashion_mnist(data_dir: str | Path | None = None, *, split_seed: int = 0) -> MNIST:
    """Loads Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017) from the four IDX files of a directory.

    The publishers give digests of their gzip containers alone, which change when the files are packed again. So the
    contents are checked: 60,000 and 10,000 images of 28 x 28, and exactly 6,000 and 1,000 of each of ten classes, which
    MNIST has not.

    Args:
        data_dir: a directory that holds the four files, plain or ``.gz``, directly or in a subfolder ``fashion``. None
            reads the environment variable ``CDE_NETS_DATA``.
        split_seed: seed of the split of training and validation images, as in `load_mnist`.

    Returns:
        The split data; ``source`` is "directory".

    Raises:
        ValueError: no directory was named, or a file there is missing, damaged or of something else.
    """
    named = named_directory(data_dir)
    if named is None:
        raise ValueError(
            f"Fashion-MNIST is not fetched: name a directory that holds its four files (data_dir, or {VARIABLE})."
        )
    directory, named_by = named
    train = _read(directory, named_by, TRAIN_IMAGES, TRAIN_LABELS, TRAIN_OF_EACH)
    test = _read(directory, named_by, TEST_IMAGES, TEST_LABELS, TEST_OF_EACH)
    train, validation = split(train, VALIDATION_COUNT, split_seed)
    return MNIST(train, validation, test, "directory", str(directory), complete=True)


def _read(directory: Path, named_by: str, images: str, labels: str, of_each: int) -> Dataset:
    places = [_find(directory, named_by, name) for name in (images, labels)]
    found = Dataset(*(read_idx_file(place) for place in places))
    counts = np.bincount(found.labels, minlength=10)
    if found.images.shape[1:] != (28, 28) or counts.tolist() != [of_each] * 10:
        raise ValueError(
            f"{places[1]}: found {found.images.shape[1]} x {found.images.shape[2]} images, of the classes "
            f"{counts.tolist()}, expected 28 x 28, {of_each:,} of each of ten: this is not Fashion-MNIST."
        )
    return found


def _find(directory: Path, named_by: str, name: str) -> Path:
    # The subfolder first: what lies beside it under the same names may be MNIST.
    for folder in (directory / "fashion", directory):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise ValueError(f"{named_by} names {directory}: found neither {name} nor {name}.gz there or in fashion/ under it.")
