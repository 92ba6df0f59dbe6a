"""The network written out by hand, in torch and JAX, is ours; where the time goes is counted where it goes."""

from importlib.util import find_spec

import pytest
import torch

from benchmarks import profile
from benchmarks.flows import network, torch_sides
from benchmarks.flows.rows import Row, draw
from benchmarks.flows.sides import off
from cde_nets.kernels import native
from cde_nets.nn import ImageNetworkConfig

SMALL = ImageNetworkConfig(size=14, classes=4, channels=5, intervals=(2, 1), count=13)


@pytest.mark.parametrize("peer", network.PEERS)
def test_the_network_by_hand_is_ours(peer):
    if peer == "scan" and find_spec("jax") is None:
        pytest.skip("jax is not installed")
    task = network.draw(6, SMALL)
    mine = network.ours(task)
    end, gradient = mine.forward(), mine.both().clone()
    assert gradient.shape == (3 * 13 + 1,)
    for side in network.PEERS[peer](task):
        assert off(side.forward(), end) < 1e-5
        assert off(side.both(), gradient) < 1e-5


def test_operations_are_those_of_the_convolutions():
    task = network.draw(2, SMALL)
    # Five kernels of 5 x 5 on 7 x 7 places; then 5 x 5 kernels of 3 x 3, twice on 7 x 7 places and once on 3 x 3.
    lift, steps = 2 * 2 * 49 * 5 * 25, 2 * 2 * (49 + 49 + 9) * 25 * 9
    assert network.flops(task, gradient=False) == lift + steps
    assert network.flops(task, gradient=True) == lift + 3 * steps


@pytest.mark.skipif(native().library is None, reason="there are no CPU kernels")
def test_time_within_the_library_is_that_of_its_calls():
    run = torch_sides.ours(draw(Row("ridge", 3, 4, 6, 5))).both
    with profile.within() as spent:
        run()
        run()
    assert len(spent) == 4
    assert all(0 < seconds < 1 for seconds in spent)
    run()
    assert len(spent) == 4


def test_shares_of_a_training_are_of_its_whole():
    table = profile.training(2)
    names = [str(cell) for cell in table.columns[0].cells]
    shares = [int(str(cell).rstrip("%")) for cell in table.columns[1].cells]
    assert 90 <= sum(shares) <= 110
    assert names[-2:] == ["other operations", "Python between them"]
    assert len(set(names)) == profile.OPERATIONS + 2
    assert shares[:-2] == sorted(shares[:-2], reverse=True)
    assert all(share > 0 for share in shares[:3])
    assert "numbers read by the host a step" in str(table.title)
    assert torch.is_grad_enabled()
