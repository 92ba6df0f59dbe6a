"""Fixed maps on flat image states, against the usual operations on (batch, channels, height, width)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from cde_nets.nn import AveragePool, Normalize
from cde_nets.nn.maps import standardize

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def flat(image):
    return image.permute(0, 2, 3, 1).flatten(1)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(channels=st.integers(1, 4), height=st.integers(2, 7), width=st.integers(2, 7), size=st.integers(1, 3))
def test_pooling_is_average_pooling_of_the_image(channels, height, width, size):
    size = min(size, height, width)
    image = normal(2, channels, height, width)
    pool = AveragePool((channels, height, width), size)
    pooled = functional.avg_pool2d(image, size)
    torch.testing.assert_close(pool(flat(image)), flat(pooled))
    assert pool.pooled == tuple(pooled.shape[1:])


@pytest.mark.parametrize("size", [0, -1, 4])
def test_blocks_larger_than_the_image_are_refused(bad_input, size):
    with pytest.raises(ValueError, match=rf"between 1 and 3 for a state of shape \(2, 3, 5\); got {size}"):
        AveragePool((2, 3, 5), size)


@settings(derandomize=True, deadline=None, max_examples=20)
@given(dim=st.integers(1, 9), scale=st.floats(1e-6, 1e6), seed=st.integers(0, 99))
def test_normalized_rows_have_root_mean_square_1_and_their_old_direction(dim, scale, seed):
    x = scale * normal(3, dim, seed=seed)
    y = Normalize()(x)
    torch.testing.assert_close(y, x / x.square().mean(1, keepdim=True).sqrt(), rtol=1e-10, atol=0)


def test_a_zero_row_stays_zero():
    assert not Normalize()(torch.zeros(2, 5)).any()


def test_standardized_images_have_mean_0_and_deviation_1():
    images = 3 + 7 * normal(4, 5, 6)
    got = standardize(images)
    want = torch.stack([(image - image.mean()) / image.std(correction=0) for image in images])
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(standardize(100 * images - 3), got)


@pytest.mark.parametrize("value", [0.0, 0.5, 255.0])
def test_a_constant_image_whose_mean_is_exact_becomes_zero(value):
    assert not standardize(torch.full((1, 28, 28), value)).any()


@pytest.mark.parametrize("value", [0.1, 0.3])
def test_every_constant_image_becomes_zero(value):
    assert float(standardize(torch.full((1, 28, 28), value)).abs().max()) < 1e-3
