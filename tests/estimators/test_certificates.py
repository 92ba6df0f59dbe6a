"""What can be proved of a fitted estimator."""

import numpy as np
import pytest
from sklearn.datasets import make_moons

import cde_nets as cn
import theory


@pytest.fixture(scope="module")
def fitted():
    X, y = make_moons(60, noise=0.1, random_state=0)
    return cn.ControlledODEClassifier(max_iter=10, random_state=0).fit(X, y), X


def test_samples_can_be_carried_anywhere_on_the_sphere_independently(fitted):
    found, X = fitted
    certificate = found.certify(X[:8])
    assert certificate.proved
    assert certificate.verify()
    # The sphere in R^4 has dimension 3.
    assert certificate.rank == certificate.full_rank == 8 * 3
    starts = found.transform_path(X[:8])[0]
    assert theory.check_points(found.fields_, starts).rank == 24


def test_the_fields_of_the_certificate_are_those_that_run(fitted):
    found, X = fitted
    import torch

    start = torch.from_numpy(found.transform_path(X[:5])[0])
    np.testing.assert_allclose(
        found.fields_.evaluate(start), found.flow_.families[0].evaluate(start), atol=1e-12 * float(start.norm())
    )


def test_fields_of_degree_one_are_refuted(fitted):
    _, X = fitted
    y = np.arange(60) % 2
    linear = cn.ControlledODEClassifier(degree=1, max_iter=1, random_state=0).fit(X, y)
    assert not linear.certify(X[:8]).proved
