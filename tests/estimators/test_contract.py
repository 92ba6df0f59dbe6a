"""scikit-learn's own checks of what an estimator is."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

import cde_nets as cn


# The search's length is none of the checks' business; the two that ask for accuracy get it in so many iterations.
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([cn.ControlledODEClassifier(max_iter=30), cn.ControlledODERegressor(max_iter=30)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)
