import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_friedman1
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

import cde_nets as cn
from cde_nets.estimators.regressor import FLOOR, ridge


@pytest.fixture(scope="module")
def friedman():
    return make_friedman1(200, noise=0.3, random_state=0)


@pytest.fixture(scope="module")
def fitted(friedman):
    return cn.ControlledODERegressor(max_iter=20, random_state=0).fit(*friedman)


def test_linear_fields_leave_ridge_regression_in_closed_form(friedman):
    """They rotate the sphere, and a penalty on the sum of squares does not see a rotation: whatever the control is."""
    X, y = friedman
    found = cn.ControlledODERegressor(degree=1, energy=1.0, alpha=2.0, intervals=2, random_state=0)
    found.fit(X, y)
    Z = StandardScaler().fit_transform(X)
    lifted = np.concatenate([found.transform_path(X)[0], Z], 1)
    level, scale = y.mean(), y.std()
    expected = Ridge(alpha=2.0).fit(lifted, (y - level) / scale).predict(lifted) * scale + level
    # What is left is that coarse steps turn a sphere almost.
    np.testing.assert_allclose(found.predict(X), expected, atol=1e-6 * scale + 10 * scale * found.off_sphere_)
    assert found.off_sphere_ < 1e-3


def test_ridge_is_scikit_learns():
    rng = np.random.default_rng(0)
    F, Y, w = rng.standard_normal((30, 4)), rng.standard_normal((30, 2)), rng.uniform(0.1, 2, 30)
    weight, bias = ridge(*(torch.from_numpy(a) for a in (F, Y, w / w.sum())), decay=0.7 / w.sum())
    theirs = Ridge(alpha=0.7).fit(F, Y, sample_weight=w)
    np.testing.assert_allclose(weight, theirs.coef_, rtol=1e-9)
    np.testing.assert_allclose(bias, theirs.intercept_, rtol=1e-9)


def test_the_objective_and_its_gradient_are_those_written(friedman):
    """Central differences solve for the readout anew: in the gradient it may be held fixed."""
    X, y = friedman[0][:40], np.stack([friedman[1][:40], friedman[0][:40, 0] ** 2], 1)
    found = cn.ControlledODERegressor(max_iter=3, random_state=0, count=4, alpha=0.5, energy=2.0).fit(X, y)
    network, total = found.network_, 40.0
    z = network.standardized(torch.from_numpy(X))
    targets = torch.from_numpy((y - y.mean(0)) / y.std(0))
    loss = found._objective(network, network.lift(z), z, targets, torch.full((40,), 1 / total, dtype=torch.float64))
    values = network.flow.control.values
    objective = loss() + 2.0 / (total * 4) * values.square().sum()
    assert objective.item() == pytest.approx(found.loss_, rel=1e-9)
    errors = (found.predict(X) - y) / y.std(0)
    quality = np.square(errors).mean(0) + 0.5 / total * network.weight.detach().square().sum(1).numpy()
    energy = 2.0 / total * float(values.detach().square().sum()) / 4
    assert found.loss_ == pytest.approx(0.5 * np.log(quality + FLOOR).sum() + energy, rel=1e-9)
    (slopes,) = torch.autograd.grad(loss(), values)
    for place in ((0, 0), (3, 2)):
        ends = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                values[place] += step
                ends.append(loss().item())
                values[place] -= step
        assert float(slopes[place]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-9)


def test_it_learns_what_ridge_regression_cannot(fitted, friedman):
    X, y = make_friedman1(500, random_state=1)
    whole = clone(fitted).set_params(max_iter=100).fit(*friedman)
    assert whole.score(X, y) > 0.8 > Ridge().fit(*friedman).score(X, y)


def test_several_outputs(friedman):
    X, y = friedman
    both = np.stack([y, 1e4 * X[:, 0] - 3, np.ones(200)], 1)
    found = cn.ControlledODERegressor(max_iter=60, random_state=0).fit(X, both)
    said = found.predict(X)
    assert said.shape == (200, 3)
    assert found.n_outputs_ == 3
    for k in (0, 1):
        assert 1 - np.mean((said[:, k] - both[:, k]) ** 2) / both[:, k].var() > 0.9
    np.testing.assert_allclose(said[:, 2], 1)
    column = cn.ControlledODERegressor(max_iter=5, random_state=0).fit(X, both[:, :1])
    flat = cn.ControlledODERegressor(max_iter=5, random_state=0).fit(X, y)
    assert column.predict(X).shape == (200, 1)
    np.testing.assert_array_equal(column.predict(X)[:, 0], flat.predict(X))


def test_units_of_y_do_not_matter(fitted, friedman):
    X, y = friedman
    scaled = clone(fitted).fit(X, 1000 * y + 5)
    np.testing.assert_allclose(scaled.predict(X), 1000 * fitted.predict(X) + 5, rtol=1e-5)


def test_weights_are_repetitions_to_the_bit(fitted, friedman):
    X, y = friedman
    w = np.random.default_rng(0).integers(0, 3, 200)
    weighted = clone(fitted).fit(X, y, sample_weight=w).predict(X)
    np.testing.assert_array_equal(weighted, clone(fitted).fit(np.repeat(X, w, 0), np.repeat(y, w)).predict(X))


def test_the_same_random_state_and_copies_give_the_same_numbers(fitted, friedman):
    said = fitted.predict(friedman[0])
    np.testing.assert_array_equal(clone(fitted).fit(*friedman).predict(friedman[0]), said)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(friedman[0]), said)


def test_a_warm_start_goes_on(friedman):
    X, y = friedman
    warm = cn.ControlledODERegressor(max_iter=5, warm_start=True, random_state=0).fit(X, y)
    first = warm.loss_
    assert warm.fit(X, y).loss_curve_[0] < first
    # New data in other units: the network that there is keeps its own.
    level = warm._y_mean
    warm.fit(X, y + 1)
    np.testing.assert_array_equal(warm._y_mean, level)
    assert warm.score(X, y + 1) > 0.6


def test_one_feature_and_far_points():
    X = np.linspace(-3, 3, 60)[:, None]
    found = cn.ControlledODERegressor(random_state=0, energy=1.0).fit(X, np.sin(2 * X[:, 0]))
    assert found.score(X, np.sin(2 * X[:, 0])) > 0.99
    assert np.isfinite(found.predict([[1e300], [-1e300], [1e12]])).all()
    flat = cn.ControlledODERegressor(random_state=0).fit(X, np.full(60, 4.0))
    np.testing.assert_allclose(flat.predict(X), 4.0)
    blind = cn.ControlledODERegressor(random_state=0).fit(np.zeros((60, 2)), X[:, 0])
    np.testing.assert_allclose(blind.predict(np.zeros((2, 2))), X.mean(), atol=1e-12)


def test_one_sample_is_refused():
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        cn.ControlledODERegressor().fit([[1.0]], [2.0])


@pytest.mark.parametrize("scale", [{"X": 1e300}, {"y": 1e200}])
def test_numbers_whose_variance_no_float_holds_are_refused(friedman, scale):
    X, y = friedman[:2]
    with pytest.raises(ValueError, match=f"{next(iter(scale))}: the variance of column 0.* more than float64 holds"):
        cn.ControlledODERegressor().fit(X * scale.get("X", 1.0), y * scale.get("y", 1.0))
    with pytest.raises(ValueError, match="sample_weight adds up to more"):
        cn.ControlledODERegressor().fit(X, y, np.full(len(y), 1e308))
