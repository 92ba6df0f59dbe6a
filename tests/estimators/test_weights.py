import numpy as np
import pytest
from sklearn.utils.class_weight import compute_sample_weight

from cde_nets.estimators.weights import balance, distinct


def test_samples_are_merged_with_their_weights():
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 2, (40, 3)).astype(float), rng.integers(0, 2, 40)
    w = rng.integers(0, 3, 40)
    rows, labels, sums = distinct(X, y, w)
    counted = {}
    for row, label, weight in zip(X.tolist(), y.tolist(), w.tolist(), strict=True):
        if weight:
            counted[(*row, label)] = counted.get((*row, label), 0) + weight
    assert {(*row, label): s for row, label, s in zip(rows.tolist(), labels.tolist(), sums.tolist(), strict=True)} == (
        counted
    )
    assert len(rows) == len(counted)


def test_outputs_tell_samples_apart():
    X, y = np.zeros((3, 1)), np.array([[1.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
    rows, targets, sums = distinct(X, y, None)
    assert rows.shape == (2, 1)
    assert dict(zip(targets[:, 1].tolist(), sums.tolist(), strict=True)) == {2.0: 2.0, 3.0: 1.0}


def test_balanced_is_scikit_learns():
    y = np.array([0] * 7 + [1] * 2 + [2])
    ours = balance(y, np.ones(10), np.arange(3), "balanced")
    np.testing.assert_allclose(ours, compute_sample_weight("balanced", y))
    np.testing.assert_allclose(
        balance(y, np.ones(10), np.arange(3), {1: 4}), compute_sample_weight({0: 1, 1: 4, 2: 1}, y)
    )


def test_what_is_refused():
    with pytest.raises(ValueError, match="zero"):
        distinct(np.zeros((2, 1)), np.zeros(2), [0, 0])
    labels, ones, names = np.array([0, 1]), np.ones(2), np.array(["cat", "dog"])
    with pytest.raises(ValueError, match=r"names 'cow', which is no class of y; those are \['cat', 'dog'\]"):
        balance(labels, ones, names, {"cow": 2})
    with pytest.raises(ValueError, match='None, "balanced" or a dictionary'):
        balance(labels, ones, names, "balance")
    with pytest.raises(ValueError, match="above 0 for every class"):
        balance(labels, ones, names, {"cat": 0})
