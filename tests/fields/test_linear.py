"""A_i x."""

import numpy as np
import pytest
import torch

from cde_nets.fields import LinearFields

F64 = torch.float64


def test_each_field_is_its_matrix_times_the_state():
    a, x = np.random.default_rng(0).standard_normal((4, 3, 3)), np.random.default_rng(1).standard_normal((5, 3))
    fields = LinearFields(torch.tensor(a))
    for n in range(5):
        for i in range(4):
            np.testing.assert_allclose(fields.evaluate(torch.tensor(x))[n, i].numpy(), a[i] @ x[n], rtol=1e-13)
    assert torch.equal(fields.matrices, torch.tensor(a))
    assert fields.frozen_numbers == 4 * 9


def test_a_rotation_turns_and_its_pullback_turns_back():
    fields = LinearFields(torch.tensor([[[0.0, -1.0], [1.0, 0.0]]]))
    x, u = torch.tensor([[1.0, 0.0]]), torch.ones(1)
    assert fields.velocity(x, u).tolist() == [[0.0, 1.0]]
    assert fields.pullback(x, u, torch.tensor([[0.0, 1.0]])).state.tolist() == [[1.0, 0.0]]


def test_random_entries_give_fields_of_variance_1():
    fields = LinearFields.random(10, 500, seed=0, dtype=F64)
    assert abs(float(fields.matrices.square().sum(-1).mean()) - 1) < 0.02


@pytest.mark.parametrize(
    ("matrices", "message"),
    [
        (torch.zeros(2, 3, 4), r"matrices must have shape \(any, 3, 3\); got \(2, 3, 4\)"),
        (torch.zeros(3, 3), r"matrices must have shape \(any, any, any\); got \(3, 3\)"),
        (torch.full((1, 2, 2), torch.nan), "matrices holds NaN"),
        (torch.zeros(1, 2, 2, dtype=torch.int64), "matrices must be floating point"),
        (torch.zeros(0, 2, 2), "count must be an integer of at least 1"),
    ],
)
def test_bad_matrices_are_refused(bad_input, matrices, message):
    with pytest.raises(ValueError, match=message):
        LinearFields(matrices)


@pytest.mark.parametrize("name", ["dim", "count"])
def test_bad_sizes_are_refused_by_name(bad_input, name):
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1; got 0"):
        LinearFields.random(**{"dim": 2, "count": 2, "seed": 0, name: 0})


def test_skew_matrices_are_tangent_to_spheres():
    a = torch.randn(3, 4, 4, dtype=F64, generator=torch.Generator().manual_seed(0))
    assert LinearFields(a - a.mT).tangent_to("sphere")
    assert not LinearFields(a - a.mT).tangent_to("plane")
    assert not LinearFields(a).tangent_to("sphere")
    nearly = a - a.mT
    nearly[2, 0, 1] = torch.nextafter(nearly[2, 0, 1], torch.tensor(torch.inf, dtype=F64))
    assert not LinearFields(nearly).tangent_to("sphere")
    b = torch.complex(a, a.flip(0))
    assert LinearFields(b - b.mH).tangent_to("sphere")
    assert not LinearFields(b - b.mT).tangent_to("sphere")
