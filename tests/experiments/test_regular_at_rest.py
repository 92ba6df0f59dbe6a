import numpy as np
import pytest

from experiments import regular_at_rest as experiment


@pytest.fixture(autouse=True)
def quick(unchecked, monkeypatch):
    monkeypatch.setattr(experiment, "STEPS", 6)


def test_the_start_is_as_singular_as_is_said():
    values = np.linalg.svd(np.eye(experiment.DIM) - experiment.nearly_singular(2).numpy(), compute_uv=False)
    assert values[-1] ** 2 == pytest.approx(experiment.FIRST)
    assert values[-2] ** 2 > 10 * experiment.FIRST


@pytest.mark.parametrize("scale", [0.1, 1.5])
def test_the_eigenvalue_is_numpys_and_above_its_bounds(scale):
    W, x = experiment.drawn(1)
    row = experiment.measure(scale, W, x)
    z = np.zeros(experiment.DIM)
    for _ in range(3000):
        z = np.tanh(scale * W.numpy() @ z + x[0].numpy())
    J = (1 - z**2)[:, None] * scale * W.numpy()
    least = np.linalg.svd(np.eye(experiment.DIM) - J, compute_uv=False)[-1] ** 2
    assert row["smallest"] == pytest.approx(least, rel=1e-8)
    assert row["frobenius"] <= row["infinity"] <= row["smallest"]
    assert row["norm"] == pytest.approx(np.linalg.norm(J, 2), rel=1e-6)


def test_the_printed_loss_moves_nothing_and_the_others_do():
    printed, eigenvalue, bound = (experiment.descend(name, 0) for name in experiment.LOSSES)
    assert printed == [pytest.approx(experiment.FIRST)] * 6
    for path in (eigenvalue, bound):
        assert np.all(np.diff(path) > 0)
    # A step along the eigenvalue's own gradient: |grad|^2 = 4 lambda, as A = (I - W)^T (I - W) and |v| = |Av|/lambda.
    assert eigenvalue[1] == pytest.approx(experiment.FIRST * (1 + 2 * experiment.RATE) ** 2, rel=1e-3)
