"""Data of quick runs: a part of what is at hand, and where nothing is, what comes with scikit-learn in its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from cde_nets.data import MNIST, Dataset, DataUnavailableError, load_digits, load_mnist
from cde_nets.data.citation import CitationGraph, load_citation

Notify = Callable[[str], None]
# Images that train, validate and test.
FEW = (600, 200, 200)
SIDE = 28
# Of the graph of digits: documents, and the others that each cites.
NODES, NEIGHBOURS = 500, 4


def few_images(data_dir: Path | None, notify: Notify) -> MNIST:
    """Some images of MNIST; where it is not at hand, scikit-learn's digits enlarged to 28 x 28. Nothing is fetched.

    Raises:
        ValueError: a folder was named, and MNIST cannot be read there.
    """
    try:
        found = load_mnist(data_dir, notify=notify, offline=True)
    except DataUnavailableError:
        notify("MNIST is not at hand: scikit-learn's digits take its place, enlarged to 28 x 28.")
        found = _enlarged(load_digits())
    parts = zip((found.train, found.validation, found.test), FEW, strict=True)
    train, validation, test = (Dataset(one.images[:count], one.labels[:count]) for one, count in parts)
    return MNIST(train, validation, test, found.source, found.detail, complete=False)


def some_graph(dataset: str, data_dir: Path | None, notify: Notify) -> CitationGraph:
    """The citation graph; where it is not at hand, scikit-learn's digits, each with its nearest others.

    Raises:
        ValueError: a folder was named, and the graph cannot be read there.
    """
    try:
        return load_citation(dataset, data_dir, notify=notify, offline=True)
    except DataUnavailableError:
        # Imported here: scikit-learn need not be installed for anything else.
        from sklearn.datasets import load_digits as load_bunch
        from sklearn.neighbors import kneighbors_graph

        notify(f"{dataset}.npz is not at hand: scikit-learn's digits take its place, each with its nearest others.")
    bunch = load_bunch()
    features = bunch.data[:NODES].astype(np.float32)
    edges = np.stack(kneighbors_graph(features, NEIGHBOURS).nonzero()).astype(np.int64)
    names = tuple(str(digit) for digit in range(10))
    return CitationGraph("digits", edges, features, bunch.target[:NODES].astype(np.int64), names, source="scikit-learn")


def _enlarged(data: MNIST) -> MNIST:
    train, validation, test = (_larger(one) for one in (data.train, data.validation, data.test))
    return MNIST(train, validation, test, data.source, data.detail, complete=False)


def _larger(data: Dataset) -> Dataset:
    images = torch.from_numpy(data.images)[:, None].float()
    large = torch.nn.functional.interpolate(images, size=(SIDE, SIDE), mode="bilinear")
    return Dataset(large[:, 0].round().to(torch.uint8).numpy(), data.labels)
