"""From a graph to what is trained on: principal components and a random split."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

# Of all documents, to train and to validate on; the others are for the test. 27, 1326 and 1355 of Cora's 2708.
FRACTIONS = (0.01, 0.49)


class Split(NamedTuple):
    """Numbers of documents, all different."""

    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]


def principal_components(features: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float64]:
    """The features' coordinates along their first principal directions, by an SVD in float64: nothing is random.

    Labels are not looked at; all documents are, those of the test too, as the graph is known whole. The sign of a
    direction is such that its largest coefficient is positive.

    Args:
        features: shape (documents, words).
        count: of directions.

    Returns:
        Shape (documents, count).

    Raises:
        ValueError: more directions than there are.
    """
    most = min(features.shape)
    if not 1 <= count <= most:
        raise ValueError(f"components: found {count}, expected 1 to {most} for features of shape {features.shape}")
    centred = features - features.mean(axis=0, dtype=np.float64)
    left, values, right = np.linalg.svd(centred, full_matrices=False)
    largest = np.take_along_axis(right[:count], np.abs(right[:count]).argmax(axis=1)[:, None], axis=1)[:, 0]
    found: npt.NDArray[np.float64] = left[:, :count] * (values[:count] * np.where(largest < 0, -1, 1))
    return found


def sizes(nodes: int) -> tuple[int, int, int]:
    """How many documents train, validate and test, by `FRACTIONS`."""
    train, validation = int(nodes * FRACTIONS[0]), int(nodes * FRACTIONS[1])
    return train, validation, nodes - train - validation


def split(nodes: int, counts: tuple[int, int, int], seed: int) -> Split:
    """A random split.

    Args:
        nodes: of the graph.
        counts: of documents to train, to validate and to test on; the rest, if any, is in no part.
        seed: of the permutation.

    Raises:
        ValueError: an empty part, or more documents than there are.
    """
    if min(counts) < 1:
        raise ValueError(f"split: found parts of {counts} documents, expected at least 1 in each")
    if sum(counts) > nodes:
        raise ValueError(
            f"split: found {' + '.join(map(str, counts))} = {sum(counts)} documents, the graph has {nodes}"
        )
    order = np.random.Generator(np.random.PCG64(seed)).permutation(nodes)
    first, second, third = np.cumsum(counts)
    return Split(order[:first], order[first:second], order[second:third])
