"""Images moved at random, against scipy's interpolation."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from cde_nets.train import TrainConfig
from cde_nets.train.batches import Batches
from cde_nets.train.moves import Moves

F64 = torch.float64


def images(count=4, height=11, width=14, seed=0):
    return torch.rand(count, height, width, dtype=F64, generator=torch.Generator().manual_seed(seed))


def rng(seed=0):
    return np.random.default_rng(seed)


def matrices(moves, count, seed=0):
    """Of each image: output places, from the middle, times the matrix, plus the shift, are where it is read."""
    turn, down, across, shear, shift_down, shift_across = rng(seed).uniform(-1, 1, (6, count))
    for k in range(count):
        angle = np.radians(turn[k] * moves.turn)
        rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        slant = np.array([[1.0, 0.0], [shear[k] * moves.shear, 1.0]])
        scale = np.diag(np.exp([down[k] * moves.scale, across[k] * moves.scale]))
        yield rotation @ slant @ scale, moves.shift * np.array([shift_down[k], shift_across[k]])


@pytest.mark.parametrize(
    "moves",
    [
        Moves(turn=30.0),
        Moves(scale=0.3),
        Moves(shear=0.4),
        Moves(shift=2.5),
        Moves(turn=20.0, scale=0.2, shear=0.3, shift=1.5),
    ],
)
def test_what_is_read_where_is_a_turn_of_a_shear_of_a_scaling_then_a_shift(moves):
    given = images()
    got = moves(given, rng())
    middle = (np.array(given.shape[1:]) - 1) / 2
    for image, moved, (matrix, shift) in zip(given, got, matrices(moves, len(given)), strict=True):
        # Rows before columns, as scipy has them.
        offset = middle + shift - matrix @ middle
        want = ndimage.affine_transform(image.numpy(), matrix, offset, order=1, mode="grid-constant")
        np.testing.assert_allclose(moved.numpy(), want, atol=1e-12)


def test_no_move_is_none():
    torch.testing.assert_close(Moves()(images(), rng()), images())


def test_bends_are_smooth_and_of_the_size_that_was_asked_for():
    height = width = 33
    ramp = torch.arange(float(width), dtype=F64).expand(400, height, width)
    moved = Moves(bend=1.5)(ramp, rng()) - ramp
    inside = moved[:, 6:-6, 6:-6]
    # At the given points the displacement is normal; between them bicubic interpolation makes it smaller.
    at_points = moved[:, [8, 16, 24]][:, :, [8, 16, 24]]
    assert 1.4 < float(at_points.std()) < 1.6
    assert float(inside.diff(dim=2).abs().mean()) < 0.3
    assert float(inside.mean().abs()) < 0.1


def test_moves_other_than_whole_pixels_go_through_the_batches_and_follow_the_seed():
    labels = torch.arange(4)
    moves = Moves(turn=30.0, shift=1.0)
    first, again, other = (
        next(iter(Batches(images(), labels, 4, moves, seed=seed).epoch(epoch)))
        for seed, epoch in ((1, 0), (1, 0), (1, 1))
    )
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0].sum((1, 2)).sort()[0], other[0].sum((1, 2)).sort()[0])
    seen = Batches(images(), labels, 4, Moves(shift=1.0), seed=1)
    (whole, order), *_ = seen.epoch(0)
    for image, k in zip(whole, order, strict=True):
        assert set(image.flatten().tolist()) <= {0.0, *images()[k].flatten().tolist()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"turn": 181.0}, "turn must be between 0 and 180; got 181.0"),
        ({"shift": -1.0}, "shift must be finite and at least 0; got -1.0"),
        ({"bend": float("inf")}, "bend must be finite and at least 0"),
        ({"scale": float("nan")}, "scale must be between 0 and 2"),
        ({"shear": "a"}, "shear must be between 0 and 2; got 'a'"),
        ({"smoothing": 1.0}, r"smoothing must lie in \[0, 1\); got 1.0"),
        ({"optimizer": "sgd"}, "optimizer must be one of eigenbasis, adam; got 'sgd'"),
    ],
)
def test_moves_out_of_range_are_refused(bad_input, change, words):
    with pytest.raises(ValueError, match=words):
        TrainConfig(**change)


def test_the_configuration_s_moves():
    config = TrainConfig(turn=3.0, scale=0.1, shear=0.2, shift=2.0, bend=0.5)
    assert config.moves == Moves(turn=3.0, scale=0.1, shear=0.2, shift=2.0, bend=0.5)
