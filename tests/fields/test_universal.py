"""The explicit five."""

import numpy as np
import pytest
import torch

import theory
from cde_nets.fields import UniversalFields

F64 = torch.float64


@pytest.mark.parametrize("m", [2, 3, 5])
def test_the_five_are_those_of_theory(m):
    # Dyadic points small enough that float64 makes no rounding at all.
    x = np.random.default_rng(m).integers(-64, 65, (6, m)) / 16
    exact = theory.five_fields(m).evaluate(x)
    got = UniversalFields(m, dtype=F64).evaluate(torch.tensor(x))
    assert got.tolist() == exact.astype(np.float64).tolist()


def test_the_five_in_space_by_hand():
    x = torch.tensor([[2.0, 3.0, 5.0]])
    # i^2 - mean of 1, 4, 9 is (-11, -2, 13) / 3.
    want = [[-22.0, -6.0, 65.0], [5.0, 2.0, 3.0], [0.0, 0.0, 1.0], [25.0, 0.0, 0.0], [10.0, 15.0, 25.0]]
    assert UniversalFields(3, dtype=torch.float32).evaluate(x).tolist() == [want]


def test_a_large_dimension_stores_one_diagonal():
    fields = UniversalFields(784)
    assert sum(b.numel() for b in fields.buffers()) == fields.frozen_numbers == 784
    x = torch.randn(2, 784, generator=torch.Generator().manual_seed(0))
    u = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])
    want = x.roll(1, 1) + 4 * x[:, -1:] * x
    want[:, -1] += 2
    want[:, 0] += 3 * x[:, -1] ** 2
    torch.testing.assert_close(fields.velocity(x, u), want)


@pytest.mark.parametrize(("m", "dtype"), [(784, torch.float32), (784, F64)])
def test_the_diagonal_that_runs_is_the_exact_one(m, dtype):
    assert UniversalFields(m, dtype=dtype).diagonal.tolist() == list(theory.five_diagonal(m))


@pytest.mark.parametrize(("m", "dtype"), [(3000, torch.float32), (40, torch.bfloat16), (784, torch.float16)])
def test_a_dtype_that_rounds_the_diagonal_is_refused(m, dtype):
    with pytest.raises(ValueError, match="do not fit into"):
        UniversalFields(m, dtype=dtype)
    with pytest.raises(ValueError, match="do not fit into"):
        UniversalFields(m, dtype=torch.float64).to(dtype).exact()


@pytest.mark.parametrize("m", [1, 0, -3])
def test_the_line_is_refused_with_the_reason(bad_input, m):
    with pytest.raises(ValueError, match=f"m is {m}, expected m >= 2: on the line the flow .* keeps the order"):
        UniversalFields(m)
