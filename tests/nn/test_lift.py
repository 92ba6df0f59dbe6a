"""The frozen random lift."""

import pytest
import torch
from torch.nn import functional

from cde_nets.nn import ConvLift

F64 = torch.float64


@pytest.mark.parametrize(("size", "stride", "kernel_size"), [(28, 2, 5), (9, 2, 3), (7, 3, 5), (6, 1, 1)])
def test_the_lift_is_a_strided_convolution_of_the_standardized_image_then_normalized(size, stride, kernel_size):
    lift = ConvLift(4, size=size, stride=stride, kernel_size=kernel_size, seed=0, dtype=F64)
    images = torch.rand(3, size, size, dtype=F64, generator=torch.Generator().manual_seed(0))
    one = torch.stack([(i - i.mean()) / i.std(correction=0) for i in images])[:, None]
    lifted = functional.conv2d(one, lift.kernels, stride=stride, padding=kernel_size // 2)
    want = lifted.permute(0, 2, 3, 1).flatten(1)
    want = want / want.square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(lift(images), want)
    assert lift.shape == tuple(lifted.shape[1:])
    assert lift.dim == want.shape[1]
    torch.testing.assert_close(lift(255 * images + 1), want)


def test_kernels_are_frozen_and_follow_the_seed():
    one, again, other = (ConvLift(200, kernel_size=5, seed=s) for s in (1, 1, 2))
    assert torch.equal(one.kernels, again.kernels)
    assert not torch.equal(one.kernels, other.kernels)
    assert list(one.parameters()) == []
    assert abs(float(one.kernels.square().sum((1, 2, 3)).mean()) - 1) < 0.05


@pytest.mark.parametrize(
    "arguments", [{"kernel_size": 4}, {"kernel_size": 0}, {"channels": 0}, {"size": 0}, {"stride": 0}]
)
def test_bad_numbers_are_refused(bad_input, arguments):
    name, value = next(iter(arguments.items()))
    with pytest.raises(ValueError, match=f"an odd kernel_size; got .*{name}={value}"):
        ConvLift(**{"channels": 2, "seed": 0} | arguments)


@pytest.mark.parametrize("shape", [(2, 28, 27), (28, 28), (2, 1, 28, 28)])
def test_images_of_another_shape_are_refused(bad_input, shape):
    with pytest.raises(ValueError, match=r"images of shape \(batch, 28, 28\); got \("):
        ConvLift(2, seed=0)(torch.zeros(shape))
