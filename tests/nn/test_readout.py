"""Readouts against their formulas."""

import pytest
import torch

from cde_nets.nn import AnchorReadout, ChannelMeanReadout, DifferenceReadout, LinearReadout

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def trained(readout):
    return sum(p.numel() for p in readout.parameters())


def test_the_difference_readout_is_one_number_times_the_displacement():
    readout = DifferenceReadout(2.5).double()
    end, start = normal(4, 3), normal(4, 3, seed=1)
    torch.testing.assert_close(readout(end, start), 2.5 * end - 2.5 * start)
    readout(end, start).sum().backward()
    torch.testing.assert_close(readout.lam.grad, (end - start).sum())
    assert trained(readout) == 1


def test_the_difference_readout_refuses_two_spaces(bad_input):
    with pytest.raises(ValueError, match=r"in one space; got \(4, 6\) and \(4, 3\). Use another readout"):
        DifferenceReadout()(torch.zeros(4, 3), torch.zeros(4, 6))


def test_the_channel_mean_readout_averages_the_image():
    readout = ChannelMeanReadout((5, 3, 2), 4, initial=7.0).double()
    image = normal(2, 5, 3, 2)
    got = readout(image.permute(0, 2, 3, 1).flatten(1), normal(2, 9))
    torch.testing.assert_close(got, 7 * image.mean((2, 3))[:, :4])
    assert trained(readout) == 1


def test_the_anchor_readout_measures_along_orthonormal_anchors():
    readout = AnchorReadout(9, 4, seed=3, initial=2.0, dtype=F64).double()
    torch.testing.assert_close(readout.anchors @ readout.anchors.T, torch.eye(4, dtype=F64), rtol=0, atol=1e-14)
    end = normal(3, 9)
    want = [[2 * float(row @ anchor) / 3 for anchor in readout.anchors] for row in end]
    torch.testing.assert_close(readout(end, end), torch.tensor(want, dtype=F64))
    assert trained(readout) == 1
    again, other = (AnchorReadout(9, 4, seed=s, dtype=F64).anchors for s in (3, 4))
    assert torch.equal(again, readout.anchors)
    assert not torch.equal(other, again)


def test_the_linear_readout_trains_a_matrix_and_an_offset():
    readout = LinearReadout(6, 2).double()
    end = normal(3, 6)
    torch.testing.assert_close(readout(end, end), end @ readout.linear.weight.T + readout.linear.bias)
    assert trained(readout) == 2 * 7


@pytest.mark.parametrize("classes", [0, 6])
def test_more_classes_than_channels_are_refused(bad_input, classes):
    with pytest.raises(ValueError, match=f"between 1 and the 5 channels; got {classes}"):
        ChannelMeanReadout((5, 3, 2), classes)
    with pytest.raises(ValueError, match=f"between 1 and the dimension 5; got {classes}"):
        AnchorReadout(5, classes, seed=0)
