"""Lift, stages, readout."""

import pytest
import torch
from torch import nn

from cde_nets.controls import PiecewiseConstantControl
from cde_nets.fields import LinearFields, PolynomialFields
from cde_nets.nn import (
    AveragePool,
    ControlledODE,
    ConvLift,
    Deskew,
    DifferenceReadout,
    LinearReadout,
    Network,
    Normalize,
    Stage,
)


def flow(dim=2, seed=0):
    fields = PolynomialFields.random(dim, 3, 2, seed=seed)
    return ControlledODE(fields, PiecewiseConstantControl.random(4, 3, scale=0.3, seed=seed))


def network():
    return Network(None, [Stage(flow(), Normalize()), Stage(flow(seed=1))], DifferenceReadout(3.0))


def points():
    return torch.randn(5, 2, generator=torch.Generator().manual_seed(0))


def test_a_network_is_its_parts_one_after_the_other():
    net, x = network(), points()
    one, two = net.flows()
    middle = one(x)
    middle = middle / middle.square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(net(x), 3 * (two(middle) - x))
    assert [type(s.after) for s in net.flow_stages()] == [Normalize, nn.Identity]


def test_trained_and_frozen_numbers_are_counted():
    net = network()
    assert net.trained_numbers == 2 * 4 * 3 + 1
    assert net.frozen_numbers == 2 * 3 * 2 * 6
    last = net.describe().splitlines()[-1]
    assert last == "trained numbers 25, frozen numbers 72"
    assert net.describe().count("tied over 4 intervals") == 2


def test_the_frozen_digest_sees_the_fields_and_not_the_controls():
    net = network()
    before = net.frozen_digest()
    assert network().frozen_digest() == before
    with torch.no_grad():
        net.flows()[0].control.values.add_(1)
    assert net.frozen_digest() == before
    net.flows()[1].families[0].coefficients[0, 0, 0] += 1
    assert net.frozen_digest() != before


def test_set_throw_reaches_every_flow():
    net, x = network(), points()
    x[3] = torch.nan
    with pytest.raises(ValueError, match="row 3 of 5"):
        net(x)
    net.set_throw(False)
    assert net(x).isfinite().all(1).tolist() == [True, True, True, False, True]


def test_training_mode_changes_neither_value_nor_gradient():
    net, x = network(), points()
    found = []
    for mode in (True, False):
        net.train(mode).zero_grad()
        out = net(x)
        out.square().sum().backward()
        found.append([out.detach(), *(p.grad.clone() for p in net.parameters())])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_parts_with_trained_numbers_are_refused(bad_input):
    with pytest.raises(ValueError, match="lift is frozen; Linear has trained numbers"):
        Network(nn.Linear(2, 2), [Stage(flow())], DifferenceReadout())
    with pytest.raises(ValueError, match="after a flow is fixed; Linear has trained numbers"):
        Stage(flow(), nn.Linear(2, 2))
    with pytest.raises(ValueError, match="at least one stage"):
        Network(None, [], DifferenceReadout())


def test_a_readout_that_compares_two_spaces_is_refused_after_pooling(bad_input):
    lift = ConvLift(1, size=4, stride=2, seed=0)
    net = Network(lift, [Stage(flow(4), AveragePool((1, 2, 2)))], DifferenceReadout())
    with pytest.raises(ValueError, match=r"in one space; got \(3, 4\) and \(3, 1\)"):
        net(torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_image_that_is_not_finite_is_refused_and_not_answered(value):
    from cde_nets.nn import ImageNetworkConfig, image_network

    images = torch.rand(3, 28, 28)
    images[1, 4, 5] = value
    network = image_network(ImageNetworkConfig(intervals=(1,), count=10))
    with pytest.raises(ValueError, match="NaN or infinity in row 1 of 3"):
        network(images)
    network.set_throw(False)
    assert torch.isfinite(network(images)).all(1).tolist() == [True, False, True]


def test_what_is_no_stage_or_readout_is_refused(bad_input):
    from cde_nets.nn import LinearReadout, Network, Stage

    flow = ControlledODE(LinearFields.random(2, 3, seed=0), PiecewiseConstantControl(1, 3))
    with pytest.raises(ValueError, match=r"write \[Stage\(flow\)\]"):
        Network(None, [flow], LinearReadout(2, 1))
    with pytest.raises(ValueError, match="A stage begins with a ControlledODE"):
        Stage(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="readout must be a Readout"):
        Network(None, [Stage(flow)], torch.nn.Linear(2, 1))
    other = ControlledODE(LinearFields.random(4, 3, seed=0), PiecewiseConstantControl(1, 3))
    with pytest.raises(ValueError, match=r"Stage 2 flows on R\^4; what comes in is in R\^2"):
        Network(None, [Stage(flow), Stage(other)], LinearReadout(4, 1))


@pytest.mark.parametrize("shape", [(2, 1, 6, 6), (2, 6, 5), (6, 6), (2, 36)])
def test_images_are_refused_by_the_lifts_shape_though_the_normalization_takes_any(bad_input, shape):
    lift = ConvLift(1, size=6, kernel_size=3, seed=0)
    net = Network(lift, [Stage(flow(lift.dim))], LinearReadout(lift.dim, 3), normalization=Deskew())
    assert net(torch.rand(2, 6, 6)).shape == (2, 3)
    for called in (net, net.start, net.prepare):
        with pytest.raises(ValueError, match=r"images of shape \(batch, 6, 6\); got \("):
            called(torch.rand(shape))
