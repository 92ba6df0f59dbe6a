import numpy as np
import torch

from experiments import neumann as experiment


def test_the_operator_is_the_sum_of_powers():
    J = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    powers = [np.linalg.matrix_power(J.numpy(), k) for k in range(4)]
    np.testing.assert_allclose(experiment.operator(J, 3), sum(powers), rtol=1e-13)


def test_propositions_hold_and_another_start_is_another_number(unchecked, monkeypatch):
    monkeypatch.setattr(experiment, "TERMS", (0, 3, 12))
    monkeypatch.setattr(experiment, "UPDATES", (5, 20, 80))
    found = experiment.measure(0.7, 1)
    for row in found["rows"]:
        assert 0 < row["error"] <= row["bound"]
        assert row["truncated"] < 1e-12
        assert row["updates"] < 1e-13
        assert row["updates_from_one"] > 1e-5
    errors = [row["error"] for row in found["rows"]]
    assert errors[0] > errors[1] > 5 * errors[2]
    assert found["full"][0] > found["full"][1] > 1e3 * found["full"][2]
