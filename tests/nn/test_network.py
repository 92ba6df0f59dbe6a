"""Lift, stages, readout."""

import pytest
import torch
from torch import nn

from cde_nets.controls import PiecewiseConstantControl
from cde_nets.fields import PolynomialFields
from cde_nets.nn import AveragePool, ControlledODE, ConvLift, DifferenceReadout, Network, Normalize, Stage


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
