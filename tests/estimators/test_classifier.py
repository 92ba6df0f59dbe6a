import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit, softmax
from sklearn.base import clone
from sklearn.datasets import load_iris, make_circles, make_classification, make_moons
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import cde_nets as cn


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def fitted(iris):
    return cn.ControlledODEClassifier(max_iter=20, random_state=0).fit(*iris)


def test_circles_and_moons_are_learnt_to_the_last_sample():
    for X, y in (
        make_circles(150, noise=0.03, factor=0.5, random_state=1),
        make_moons(150, noise=0.05, random_state=1),
    ):
        assert LogisticRegression().fit(X, y).score(X, y) < 0.95
        found = cn.ControlledODEClassifier(random_state=0, energy=0.5).fit(X, y)
        assert found.score(X, y) == 1.0


def test_where_the_flow_sees_nothing_logistic_regression_is_left(iris):
    """With spread -> 0 all samples are lifted to one point: the readout sees the standardised features alone."""
    X, y = iris
    found = cn.ControlledODEClassifier(spread=1e-9, max_iter=500, tol=1e-13, random_state=0).fit(X, y)
    Z = StandardScaler().fit_transform(X)
    theirs = LogisticRegression(C=1.0, tol=1e-8, max_iter=1000).fit(Z, y).predict_proba(Z)
    np.testing.assert_allclose(found.predict_proba(X), theirs, atol=1e-4)


def test_probabilities_are_the_softmax_of_the_decision_function(fitted, iris):
    X, y = iris
    logits, p = fitted.decision_function(X), fitted.predict_proba(X)
    assert logits.shape == p.shape == (150, 3)
    np.testing.assert_allclose(p, softmax(logits, axis=1), rtol=1e-12)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-12)
    np.testing.assert_allclose(np.exp(fitted.predict_log_proba(X)), p, rtol=1e-12)
    np.testing.assert_array_equal(fitted.predict(X), p.argmax(1))
    assert fitted.score(X, y) == np.mean(fitted.predict(X) == y)
    two = cn.ControlledODEClassifier(max_iter=5, random_state=0).fit(X[:100], np.where(y[:100], "yes", "no"))
    logits = two.decision_function(X)
    assert logits.shape == (150,)
    np.testing.assert_allclose(two.predict_proba(X)[:, 1], expit(logits), rtol=1e-9)
    np.testing.assert_array_equal(two.predict(X), np.where(logits > 0, "yes", "no"))


def test_the_network_does_what_is_written(fitted, iris):
    """Lift, flow and readout once more, in NumPy and by the flow's own solver."""
    X = iris[0][::10]
    Z = StandardScaler().fit(iris[0]).transform(X)
    full = StandardScaler().fit_transform(iris[0])
    P = 0.5 / np.sqrt(np.square(full).sum(1).mean())
    s = np.concatenate([P * Z, np.ones((15, 1)), np.zeros((15, 1))], 1)
    starts = np.sqrt(6) * s / np.linalg.norm(s, axis=1, keepdims=True)
    path = fitted.transform_path(X)
    assert path.shape == (len(fitted.flow_.times), 15, 6) == (5, 15, 6)
    np.testing.assert_allclose(path[0], starts, atol=1e-12)
    # The ODE keeps the norm; its steps nearly do.
    norms = np.linalg.norm(path[-1], axis=1) / np.sqrt(6)
    assert 0 < np.abs(norms - 1).max() <= fitted.off_sphere_ + 1e-12
    read = np.concatenate([path[-1] / norms[:, None], Z], 1)
    weight, bias = (p.detach().numpy() for p in (fitted.network_.weight, fitted.network_.bias))
    np.testing.assert_allclose(fitted.decision_function(X), read @ weight.T + bias, atol=1e-10)
    assert fitted.trained_numbers_ == 4 * 16 + 3 * (6 + 4 + 1)


def test_weights_are_repetitions_to_the_bit_and_order_does_not_matter(iris):
    X, y = iris
    rng = np.random.default_rng(0)
    w = rng.integers(0, 3, 150)
    one = cn.ControlledODEClassifier(max_iter=15, random_state=3)
    weighted = one.fit(X, y, sample_weight=w).decision_function(X)
    order = rng.permutation(w.sum())
    repeated = clone(one).fit(np.repeat(X, w, 0)[order], np.repeat(y, w)[order]).decision_function(X)
    np.testing.assert_array_equal(weighted, repeated)
    assert not np.array_equal(weighted, clone(one).fit(X, y).decision_function(X))


def test_the_same_random_state_gives_the_same_numbers(fitted, iris):
    again = clone(fitted).fit(*iris)
    np.testing.assert_array_equal(again.decision_function(iris[0]), fitted.decision_function(iris[0]))
    other = clone(fitted).set_params(random_state=1).fit(*iris)
    assert not np.array_equal(other.decision_function(iris[0]), fitted.decision_function(iris[0]))


def test_copies_predict_the_same(fitted, iris):
    said = fitted.decision_function(iris[0])
    for twin in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        np.testing.assert_array_equal(twin.decision_function(iris[0]), said)


def test_balanced_classes_are_repeated_ones(iris):
    X, y = np.concatenate([iris[0][50:100], iris[0][100:125]]), np.repeat([0, 1], [50, 25])
    balanced = cn.ControlledODEClassifier(class_weight="balanced", max_iter=10, random_state=0)
    given = clone(balanced).set_params(class_weight={0: 0.75, 1: 1.5})
    np.testing.assert_allclose(
        balanced.fit(X, y).decision_function(X), given.fit(X, y).decision_function(X), rtol=1e-6, atol=1e-9
    )
    plain = clone(balanced).set_params(class_weight=None).fit(X, y)
    assert (balanced.predict(X) == 1).sum() > (plain.predict(X) == 1).sum() - 1
    assert balanced.predict_proba(X)[:, 1].mean() > plain.predict_proba(X)[:, 1].mean()


def test_a_warm_start_goes_on(iris):
    X, y = iris
    warm = cn.ControlledODEClassifier(max_iter=5, warm_start=True, random_state=0).fit(X, y)
    first, network = warm.loss_, warm.network_
    warm.fit(X, y)
    assert warm.network_ is network
    assert warm.loss_curve_[0] < first
    cold = warm.set_params(warm_start=False).fit(X, y)
    assert cold.network_ is not network
    assert cold.loss_ == first
    # Another shape begins anew; other classes cannot be gone on with.
    warm.set_params(warm_start=True, count=3).fit(X, y)
    assert warm.flow_.count == 3
    with pytest.raises(ValueError, match=r"goes on with the classes \[0, 1, 2\]; y has \[1, 2\]"):
        warm.fit(X[50:], y[50:])


def test_many_classes_few_samples_many_features():
    X, y = make_classification(
        120, 60, n_informative=30, n_classes=12, n_clusters_per_class=1, class_sep=3.0, random_state=0
    )
    found = cn.ControlledODEClassifier(random_state=0, max_iter=60).fit(X, y)
    assert found.predict_proba(X).shape == (120, 12)
    assert found.score(X, y) > 0.95
    # The features did not fit: fifteen principal axes flow.
    assert found.network_.axes.shape == (60, 15)
    few = cn.ControlledODEClassifier(random_state=0).fit([[0.0], [1.0]], ["a", "b"])
    assert few.predict([[-1.0], [2.0]]).tolist() == ["a", "b"]


def test_principal_axes_are_those_of_the_standardised_samples():
    from sklearn.decomposition import PCA

    X, y = make_classification(80, 9, random_state=0)
    found = cn.ControlledODEClassifier(dim=4, max_iter=1, random_state=0).fit(X, y)
    Z = StandardScaler().fit_transform(X)
    theirs = PCA(3).fit_transform(Z)
    ours = Z @ found.network_.axes.numpy()
    np.testing.assert_allclose(np.abs(ours) / 0.5, np.abs(theirs) / np.sqrt(np.square(theirs).sum(1).mean()), atol=1e-9)


def test_nothing_blows_up(fitted, iris):
    X = np.concatenate([iris[0][:3] * scale for scale in (1e3, 1e30, -1e30, 1e300)])
    assert np.isfinite(fitted.decision_function(X)).all()
    np.testing.assert_allclose(fitted.predict_proba(X).sum(1), 1)
    assert np.isfinite(fitted.transform_path(X)).all()
    wild = cn.ControlledODEClassifier(energy=0.0, alpha=1e-9, random_state=0).fit(X=iris[0], y=iris[1])
    assert np.isfinite(wild.decision_function(X)).all()


def test_single_precision_stays_single(iris):
    X, y = iris
    single = cn.ControlledODEClassifier(max_iter=20, random_state=0).fit(X.astype(np.float32), y)
    assert single.flow_.families[0].dtype == torch.float32
    assert single.predict_proba(X).dtype == np.float32
    assert single.score(X, y) > 0.95


def test_frames_constant_features_and_integers(iris):
    frame = pd.DataFrame(iris[0], columns=list("abcd")).assign(constant=7.0)
    found = cn.ControlledODEClassifier(max_iter=10, random_state=0).fit(frame, pd.Series(iris[1], name="kind"))
    assert found.feature_names_in_.tolist() == ["a", "b", "c", "d", "constant"]
    assert found.score(frame, iris[1]) > 0.9
    with pytest.raises(ValueError, match="feature names"):
        found.predict(frame[["constant", "a", "b", "c", "d"]])
    whole = cn.ControlledODEClassifier(max_iter=10, random_state=0).fit((10 * iris[0]).astype(int), iris[1])
    assert whole.score((10 * iris[0]).astype(int), iris[1]) > 0.9


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"dim": 1}, "'dim' parameter of ControlledODEClassifier must be"),
        ({"count": 0}, "'count' parameter"),
        ({"energy": -1.0}, "'energy' parameter"),
        ({"alpha": 0.0}, "'alpha' parameter"),
        ({"degree": 5}, "'degree' parameter"),
        ({"dim": 2000}, r"16 fields of degree 2 on R\^2000 .* take a smaller dim"),
    ],
)
def test_what_is_refused_before_work_starts(iris, parameters, message):
    with pytest.raises(ValueError, match=message):
        cn.ControlledODEClassifier(**parameters).fit(*iris)


def test_one_class_is_refused(iris):
    X, y = iris
    with pytest.raises(ValueError, match="at least 2 classes, of positive weight; got 1 class"):
        cn.ControlledODEClassifier().fit(X, y, sample_weight=y == 1)


def test_verbose_says_how_it_went(iris, capsys):
    cn.ControlledODEClassifier(max_iter=3, random_state=0).fit(*iris)
    assert capsys.readouterr() == ("", "")
    found = cn.ControlledODEClassifier(max_iter=3, random_state=0, verbose=True).fit(*iris)
    out, err = capsys.readouterr()
    assert out == ""
    assert f"ControlledODEClassifier: 3 iterations, loss {found.loss_:.5g}" in err
    assert found.n_iter_ == len(found.loss_curve_) == 3
    assert found.loss_curve_ == sorted(found.loss_curve_, reverse=True)
