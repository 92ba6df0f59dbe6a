import numpy as np
import pytest

from experiments import implicit_function as experiment


@pytest.fixture(autouse=True)
def quick(unchecked, monkeypatch):
    monkeypatch.setattr(experiment, "STEPS", (1e-2, 1e-3, 1e-4))


def test_slopes_of_the_circle_are_those_of_its_radius_turned():
    for angle in (0.4, 1.3, 2.5):
        row = experiment.on_the_circle(angle)
        assert row["derivative"] == pytest.approx(-1 / np.tan(angle), rel=1e-12)
    assert "solve" in experiment.without_derivative() or "singular" in experiment.without_derivative()


def test_roots_are_pythons_and_their_derivatives_are_divided_differences():
    for x in (0.3, 7.0):
        row = experiment.root(x)
        assert row["root"] == pytest.approx(x**0.5, rel=1e-14)
        # (sqrt(a) - sqrt(b)) / (a - b) = 1 / (sqrt(a) + sqrt(b)), with the root of x in the middle.
        assert row["derivative"] == pytest.approx(1 / (2 * x**0.5), rel=1e-14)


def test_differences_err_by_the_square_of_their_step():
    errors = experiment.beside_differences(3)["errors"]
    slope = np.polyfit(np.log(experiment.STEPS), np.log(errors), 1)[0]
    assert slope == pytest.approx(2, abs=0.02)
