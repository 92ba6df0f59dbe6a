"""Weights of samples: what repeats is one sample with a larger weight."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import _check_sample_weight

Rows = NDArray[Any]


def distinct(X: Rows, y: Rows, sample_weight: Any) -> tuple[Rows, Rows, NDArray[np.float64]]:
    """The distinct samples of weight above 0, sorted, and the sum of each one's weights.

    So a weight of 2 is a sample given twice, and the order of samples does not matter: not only up to rounding, which
    a search of a hundred iterations would make visible, but to the bit.

    Args:
        X: shape (samples, features).
        y: numbers, shape (samples,) or (samples, outputs).
        sample_weight: None for 1 each, a number, or shape (samples,).

    Raises:
        ValueError: a weight below 0, or all 0, or another shape; a sum that float64 does not hold.
    """
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    kept = weights > 0
    if not kept.any():
        raise ValueError("sample_weight is zero for every sample; at least one must be positive.")
    X, y, weights = X[kept], y[kept], weights[kept]
    columns = [*y.reshape(len(y), -1).T[::-1], *X.T[::-1]]
    order = np.lexsort(columns)
    X, y, weights = X[order], y[order], weights[order]
    new = np.ones(len(X), dtype=bool)
    new[1:] = (X[1:] != X[:-1]).any(1) | (y[1:] != y[:-1]).reshape(len(X) - 1, -1).any(1)
    with np.errstate(over="ignore"):
        summed = np.add.reduceat(weights, np.flatnonzero(new))
        total = summed.sum()
    if not np.isfinite(total):
        raise ValueError("sample_weight adds up to more than float64 holds: divide all weights by the largest.")
    return X[new], y[new], summed


def standardizer(name: str, columns: NDArray[np.float64], weights: NDArray[np.float64]) -> StandardScaler:
    """The means and standard deviations of columns.

    Raises:
        ValueError: columns whose variance float64 does not hold.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        scaler = StandardScaler().fit(columns, sample_weight=weights)
    bad = np.flatnonzero(~(np.isfinite(scaler.mean_) & np.isfinite(scaler.scale_)))
    if len(bad):
        raise ValueError(
            f"{name}: the variance of column {bad[0]}, whose numbers go from {columns[:, bad[0]].min():.3g} to "
            f"{columns[:, bad[0]].max():.3g}, is more than float64 holds: give it in other units."
        )
    return scaler


def balance(labels: NDArray[np.int64], weights: NDArray[np.float64], classes: Rows, given: Any) -> NDArray[np.float64]:
    """The weights times those of the classes.

    Args:
        labels: places in `classes`, shape (samples,).
        weights: shape (samples,).
        classes: shape (classes,).
        given: None, "balanced" for the same sum of weights in every class, or a mapping from classes to weights; those
            that it leaves out have 1.

    Raises:
        ValueError: something else, or a class that there is not.
    """
    if given is None:
        return weights
    if isinstance(given, str):
        if given != "balanced":
            raise ValueError(f'class_weight must be None, "balanced" or a dictionary; got {given!r}.')
        sums = np.bincount(labels, weights, len(classes))
        factors: NDArray[np.float64] = weights.sum() / (len(classes) * sums)
        return weights * factors[labels]
    known = classes.tolist()
    strangers = [name for name in given if name not in known]
    if strangers:
        raise ValueError(f"class_weight names {strangers[0]!r}, which is no class of y; those are {known}.")
    factors = np.array([float(given.get(name, 1.0)) for name in known])
    if not (np.isfinite(factors).all() and (factors > 0).all()):
        raise ValueError(f"class_weight must be finite and above 0 for every class; got {dict(given)}.")
    return weights * factors[labels]
