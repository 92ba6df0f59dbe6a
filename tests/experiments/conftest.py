"""What tests of several experiments share."""

import numpy as np
import pytest

from cde_nets.data.citation import CitationGraph

NODES, CLASSES = 24, 3


@pytest.fixture(scope="module")
def graph():
    """Documents of three classes, words and citations mostly within a class; the last has no edge."""
    rng = np.random.default_rng(0)
    labels = np.arange(NODES) % CLASSES
    words = rng.random((NODES, 12)) < np.where(np.arange(12) % CLASSES == labels[:, None], 0.7, 0.1)
    near = rng.random((NODES, NODES)) < np.where(labels[:, None] == labels, 0.25, 0.02)
    np.fill_diagonal(near, False)
    near[-1] = near[:, -1] = False
    names = ("one", "two", "three")
    return CitationGraph("cora", np.stack(near.nonzero()), words.astype(np.float32), labels, names, sha256="made")
