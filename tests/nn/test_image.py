"""The network of the main experiment, against the same formulas on ordinary (batch, channels, height, width) images."""

import json
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from cde_nets.fields import SphericalFields
from cde_nets.nn import ImageNetworkConfig, image_network

SMALL = ImageNetworkConfig(size=12, classes=3, channels=4, intervals=(2, 1, 1), count=6, control_scale=0.3, seed=5)
F64 = torch.float64


def plain(net, config, images, controls, scale):
    """Lift, residual steps on the sphere, pooling, channel means; kernels are read off the network.

    What sets images upright has tests of its own.
    """
    if config.normalization != "none":
        images = net.normalization(images)
    x = images - images.mean((1, 2), keepdim=True)
    x = x / x.square().mean((1, 2), keepdim=True).sqrt()
    x = functional.conv2d(x[:, None], net.lift.kernels, stride=2, padding=2)
    x = x / x.square().mean((1, 2, 3), keepdim=True).sqrt()
    for place, (flow, values) in enumerate(zip(net.flows(), controls, strict=True)):
        for n, u in enumerate(values):
            family = flow.families[0 if config.tied else n]
            channels = x.shape[1]
            kernel = torch.zeros(channels, channels, *family.kernels.shape[-2:], dtype=F64)
            for i in range(config.count):
                if config.kernel == "dense":
                    kernel = kernel + u[i] * family.kernels[i]
                else:
                    rows = [torch.zeros_like(kernel[0])] * channels
                    rows[i % channels] = u[i] * family.kernels[i]
                    kernel = kernel + torch.stack(rows)
            for _ in range(config.steps):
                z = x + functional.conv2d(x + x * x / 2, kernel, padding=1) / (len(values) * config.steps)
                x = z * (x.square().sum((1, 2, 3), keepdim=True) / z.square().sum((1, 2, 3), keepdim=True)).sqrt()
        if place < len(controls) - 1:
            x = functional.avg_pool2d(x, 2)
            x = x / x.square().mean((1, 2, 3), keepdim=True).sqrt()
    return scale * x.mean((2, 3))[:, : config.classes]


@pytest.mark.parametrize(
    "change",
    [
        *({}, {"tied": True}, {"kernel": "dense"}, {"orthogonal": False}, {"size": 13}, {"count": 30}, {"steps": 2}),
        *({"normalization": "none"}, {"normalization": "spread"}),
    ],
)
def test_logits_and_gradients_are_those_of_plain_operations(change):
    config = replace(SMALL, **change)
    net = image_network(config).double()
    images = torch.rand(5, config.size, config.size, dtype=F64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 2, 1, 1, 0])
    controls = [f.control.values.detach().clone().requires_grad_() for f in net.flows()]
    scale = net.readout.scale.detach().clone().requires_grad_()
    logits, want = net(images), plain(net, config, images, controls, scale)
    torch.testing.assert_close(logits, want, rtol=1e-11, atol=1e-11)
    functional.cross_entropy(logits, labels).backward()
    functional.cross_entropy(want, labels).backward()
    for flow, values in zip(net.flows(), controls, strict=True):
        assert float((flow.control.values.grad - values.grad).norm()) < 1e-10 * float(values.grad.norm())
    torch.testing.assert_close(net.readout.scale.grad, scale.grad, rtol=1e-10, atol=1e-12)


def test_the_default_network_trains_m_d_plus_1_numbers():
    config = ImageNetworkConfig()
    net = image_network(config)
    c, m, d = config.channels, sum(config.intervals), config.count
    assert net.trained_numbers == config.trained_numbers == m * d + 1
    # Lift c x 5 x 5; a family d row kernels of c x 3 x 3, d offsets, d sigma_i(r) = r and phi of degree 2.
    assert net.frozen_numbers == c * 25 + m * (d * (c * 9 + 1 + 2) + 3)
    assert net(torch.rand(2, 28, 28, generator=torch.Generator().manual_seed(0))).shape == (2, 10)


def test_tied_networks_train_as_many_numbers_with_fewer_frozen_ones():
    fresh, tied = image_network(SMALL), image_network(replace(SMALL, tied=True))
    assert fresh.trained_numbers == tied.trained_numbers == SMALL.trained_numbers == 4 * 6 + 1
    assert [len(f.families) for f in fresh.flows()] == [2, 1, 1]
    assert [len(f.families) for f in tied.flows()] == [1, 1, 1]
    assert tied.frozen_numbers < fresh.frozen_numbers


def test_a_seed_fixes_the_whole_network():
    one, again, other = image_network(SMALL), image_network(SMALL), image_network(replace(SMALL, seed=6))
    assert one.frozen_digest() == again.frozen_digest() != other.frozen_digest()
    for a, b in zip(one.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.flows()[0].control.values, other.flows()[0].control.values)


def test_fresh_families_differ_from_each_other():
    kernels = [f.kernels for flow in image_network(SMALL).flows() for f in flow.families]
    assert all(not torch.equal(a, b) for n, a in enumerate(kernels) for b in kernels[:n])


def test_row_kernels_with_one_output_are_orthonormal():
    family = image_network(replace(SMALL, count=20)).flows()[0].families[0]
    for channel in range(4):
        rows = family.kernels[family.outputs == channel].flatten(1).double()
        torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows), dtype=F64), rtol=0, atol=1e-6)


def test_rk4_steps_along_tangent_fields():
    net = image_network(replace(SMALL, method="rk4"))
    assert all(isinstance(f, SphericalFields) for flow in net.flows() for f in flow.families)
    images = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(0))
    path = net.flows()[0].trajectory(net.start(images))
    torch.testing.assert_close(path.norm(dim=2), path[:1].norm(dim=2).expand(path.shape[:2]))


def test_the_control_scale_is_that_of_the_initial_controls():
    assert not image_network(replace(SMALL, control_scale=0.0)).flows()[0].control.values.any()
    net = image_network(replace(SMALL, count=500, control_scale=0.2))
    assert abs(float(net.flows()[0].control.values.detach().std()) - 0.2) < 0.02
    assert float(net.readout.scale.detach()) == SMALL.readout_scale


def test_the_configuration_survives_json():
    config = replace(SMALL, kernel="stencil", orthogonal=False)
    assert ImageNetworkConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_an_unknown_name_in_a_configuration_is_refused():
    with pytest.raises(ValueError, match=r"Unknown in ImageNetworkConfig: depth, widht\. It has size, "):
        ImageNetworkConfig.from_dict({"widht": 3, "depth": 2, "size": 28})


@pytest.mark.parametrize("name", ["size", "classes", "channels", "count", "kernel_size", "degree"])
@pytest.mark.parametrize("value", [0, -1, 2.5, True, "3"])
def test_numbers_below_1_or_not_whole_are_refused(bad_input, name, value):
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1; got {value!r}"):
        ImageNetworkConfig(**{name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"intervals": ()}, r"one or more integers of at least 1, one a stage; got \(\)"),
        ({"intervals": (2, 0)}, r"one or more integers .* got \(2, 0\)"),
        ({"intervals": (1.5,)}, "one or more integers"),
        ({"intervals": (True,)}, "one or more integers"),
        ({"kernel": "round"}, "kernel must be one of dense, row, stencil; got 'round'"),
        ({"kernel_size": 4}, "kernel_size must be odd; got 4"),
        ({"channels": 9}, "channels must be at least classes=10; got 9"),
        ({"method": "leapfrog"}, "Unknown method 'leapfrog'; known are"),
        ({"control_scale": -0.1}, "control_scale must be finite and >= 0"),
        ({"control_scale": float("nan")}, "control_scale must be finite"),
        ({"readout_scale": float("inf")}, "readout_scale finite; got 0.1, inf"),
        ({"seed": -1}, "seed must be a non-negative integer; got -1"),
        ({"seed": 1.0}, "seed must be a non-negative integer; got 1.0"),
        ({"intervals": (1,) * 5}, "5 stages halve images of size 28 to nothing; take fewer"),
        ({"size": 2, "intervals": (1, 1)}, "2 stages halve images of size 2 to nothing"),
    ],
)
def test_values_out_of_range_are_refused_before_anything_is_drawn(bad_input, change, message):
    with pytest.raises(ValueError, match=message):
        ImageNetworkConfig(**change)


@pytest.mark.parametrize(("size", "stages"), [(28, 4), (3, 2), (1, 1), (15, 4)])
def test_the_largest_number_of_stages_that_is_allowed_works(size, stages):
    net = image_network(replace(SMALL, size=size, intervals=(1,) * stages))
    assert net.flows()[-1].dim == 4 * max(1, ((size + 1) // 2) >> (stages - 1)) ** 2


def test_a_blank_image_does_not_stop_the_batch():
    images = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(0))
    images[1] = 0
    assert bool(image_network(SMALL)(images).isfinite().all())
