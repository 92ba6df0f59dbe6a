import numpy as np
import pytest
import torch

from cde_nets.train.batches import Batches, as_intensity
from cde_nets.train.moves import Moves


def ramp(count: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (count, 5, 6), dtype=np.uint8))
    return as_intensity(images), torch.arange(count)


def test_without_moves_an_epoch_is_a_permutation():
    images, labels = ramp()
    seen = torch.cat([batch for _, batch in Batches(images, labels, 4, Moves(shift=0.0), seed=1).epoch(0)])
    assert sorted(seen.tolist()) == list(range(12))
    for moved, batch in Batches(images, labels, 4, Moves(shift=0.0), seed=1).epoch(0):
        torch.testing.assert_close(moved, images[batch], rtol=0, atol=0)


def test_moves_are_shifts_with_background_coming_in():
    images, labels = ramp()
    found = set()
    for moved, batch in Batches(images, labels, 6, Moves(shift=2.0), seed=3).epoch(0):
        for image, label in zip(moved, batch.tolist(), strict=True):
            matches = []
            for down in range(-2, 3):
                for right in range(-2, 3):
                    shifted = np.zeros((5, 6), dtype=np.float32)
                    source = images[label].numpy()
                    for i in range(5):
                        for j in range(6):
                            if 0 <= i + down < 5 and 0 <= j + right < 6:
                                shifted[i, j] = source[i + down, j + right]
                    if np.array_equal(shifted, image.numpy()):
                        matches.append((down, right))
            assert len(matches) == 1
            found.update(matches)
    assert len(found) > 5, "images are not all moved alike"


def test_an_epoch_can_begin_in_the_middle():
    images, labels = ramp()
    batches = Batches(images, labels, 3, Moves(shift=1.0), seed=5)
    whole, rest = list(batches.epoch(2)), list(batches.epoch(2, first=2))
    assert len(whole) == 4
    for (a, b), (c, d) in zip(whole[2:], rest, strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, d)


def test_epochs_differ():
    batches = Batches(*ramp(), 12, Moves(shift=0.0), seed=5)
    (first,), (second,) = batches.epoch(0), batches.epoch(1)
    assert not torch.equal(first[1], second[1])


def test_a_short_last_batch_is_left_out():
    assert len(Batches(*ramp(11), 4, Moves(shift=0.0), seed=0)) == 2
    assert len(list(Batches(*ramp(11), 4, Moves(shift=0.0), seed=0).epoch(0))) == 2


def test_intensities():
    assert as_intensity(torch.tensor([[[0, 255]]], dtype=torch.uint8)).tolist() == [[[0.0, 1.0]]]


def test_too_large_a_batch():
    with pytest.raises(ValueError, match="12 training images"):
        Batches(*ramp(), 13, Moves(shift=0.0), seed=0)
