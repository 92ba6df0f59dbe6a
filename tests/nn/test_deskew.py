"""Upright and in the middle: against moments summed pixel by pixel, and against scipy's interpolation."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from cde_nets.nn import Deskew

F64 = torch.float64


def moments(image):
    """Means of rows and columns, variance of rows, covariance, each a plain sum."""
    total = sum(image[r, c] for r in range(image.shape[0]) for c in range(image.shape[1]))
    places = [(r, c, image[r, c] / total) for r in range(image.shape[0]) for c in range(image.shape[1])]
    row, column = sum(r * p for r, _, p in places), sum(c * p for _, c, p in places)
    return (
        row,
        column,
        sum((r - row) ** 2 * p for r, _, p in places),
        sum((r - row) * (c - column) * p for r, c, p in places),
    )


def blob(height=28, width=28, slant=0.4, down=2.3, right=-1.7):
    """A slanted ellipse of ink, far from the border."""
    r, c = np.mgrid[:height, :width]
    r, c = r - (height - 1) / 2 - down, c - (width - 1) / 2 - right
    return np.exp(-((r / 4.0) ** 2) - ((c - slant * r) / 2.0) ** 2)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (24, 31)])
@pytest.mark.parametrize("slant", [-0.8, 0.0, 0.4])
def test_the_pixels_are_those_scipy_interpolates(height, width, slant):
    image = blob(height, width, slant)
    ink = image - image.min()
    row, column, spread, together = moments(ink)
    slope = together / spread
    # Output pixel o is read at matrix @ o + offset.
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    matrix = np.array([[1.0, 0.0], [slope, 1.0]])
    want = ndimage.affine_transform(
        ink, matrix, np.array([row, column]) - matrix @ middle, order=1, mode="grid-constant"
    )
    got = Deskew()(torch.tensor(image, dtype=F64)[None])[0].numpy()
    np.testing.assert_allclose(got, want, atol=1e-12)


def test_what_comes_out_has_its_ink_in_the_middle_and_no_slant():
    got = Deskew()(torch.tensor(np.stack([blob(), blob(slant=-0.6, down=-3.0)]), dtype=F64)).numpy()
    for image in got:
        row, column, spread, together = moments(image)
        assert abs(row - 13.5) < 0.02
        assert abs(column - 13.5) < 0.02
        assert abs(together / spread) < 0.02


def test_brightness_and_background_do_not_matter():
    image = torch.tensor(blob(), dtype=F64)[None]
    image = image - image.min()
    torch.testing.assert_close(Deskew()(3 * image + 5), 3 * Deskew()(image))


def test_each_image_is_treated_alone():
    images = torch.tensor(np.stack([blob(), blob(slant=-0.6)]), dtype=F64)
    torch.testing.assert_close(Deskew()(images), torch.cat([Deskew()(images[:1]), Deskew()(images[1:])]))


def test_slopes_beyond_45_degrees_are_undone_to_45_degrees_only():
    flat = torch.zeros(1, 28, 28, dtype=F64)
    flat[0, 13, 5:10], flat[0, 14, 15:25] = 1.0, 1.0
    row, column, spread, together = moments(flat[0].numpy())
    assert together / spread > 5
    matrix = np.array([[1.0, 0.0], [1.0, 1.0]])
    offset = np.array([row, column]) - matrix @ np.array([13.5, 13.5])
    want = ndimage.affine_transform(flat[0].numpy(), matrix, offset, order=1, mode="grid-constant")
    np.testing.assert_allclose(Deskew()(flat)[0].numpy(), want, atol=1e-12)


@pytest.mark.parametrize(("slant", "spread"), [(0.4, (5.0, 2.0)), (-0.6, (3.0, 3.0)), (0.0, (20.0, 0.1))])
def test_the_spread_is_what_was_asked_for_within_its_limits(slant, spread):
    image = torch.tensor(blob(40, 40, slant), dtype=F64)[None]
    _, _, before, _ = moments(Deskew()(image)[0].numpy())
    got = Deskew(spread)(image)[0].numpy()
    _, _, tall, together = moments(got)
    _, _, wide, _ = moments(got.T)
    # Of the ink as it was: the ellipse's own spread is 4 / sqrt(2) down and 2 / sqrt(2) across.
    for found, wanted, own in ((tall, spread[0], 4 / 2**0.5), (wide, spread[1], 2 / 2**0.5)):
        assert abs(found**0.5 / np.clip(wanted, own / 1.6, own / 0.6) - 1) < 0.08
    assert abs(together / tall) < 0.02
    assert abs(before**0.5 / (4 / 2**0.5) - 1) < 0.05


@pytest.mark.parametrize("spread", [(0.0, 1.0), (1.0, -1.0), (1.0, float("nan"))])
def test_a_spread_that_is_none_is_refused(spread):
    with pytest.raises(ValueError, match="spread must be two positive numbers of pixels; got"):
        Deskew(spread)


def test_images_without_ink_become_zero_and_a_single_row_stays_finite():
    images = torch.zeros(2, 28, 28, dtype=F64)
    images[0] += 0.7
    images[1, 4, 3:9] = 1.0
    assert torch.isfinite(Deskew((5.0, 3.0))(images)).all()
    got = Deskew()(images)
    assert torch.equal(got[0], torch.zeros(28, 28, dtype=F64))
    assert torch.isfinite(got[1]).all()
    assert abs(float(got[1].sum()) - 6) < 1e-9
