"""A fixed map that sets writing upright and into the middle."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from cde_nets.door import floats

# Steepest slope that is undone, in columns a row: 45 degrees. A bar that lies flat has none to speak of.
STEEPEST = 1.0
# Least and largest factor by which ink is shrunk to a given spread.
FACTORS = (0.6, 1.6)


class Deskew(nn.Module):
    """Each image sheared along its rows and shifted, so that its ink has its centre in the middle and no slant.

    The ink of a pixel is what it has more than the image's faintest. Of its distribution over rows r and columns c the
    map undoes the mean and the slope cov(r, c) / var(r) (at most `STEEPEST` either way), by bilinear interpolation;
    what comes in from outside has no ink. Slant is the first thing that normalisation takes from handwriting: LeCun,
    Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition" (1998), section III.

    An image without ink stays as it is, apart from the faintest value, which becomes 0.

    Args:
        spread: standard deviations of the ink along the rows' axis and, once the slant is gone, along the columns', in
            pixels, to which each image is scaled as far as `FACTORS` allow; None leaves its size.

    Raises:
        ValueError: a spread that is not positive.
    """

    def __init__(self, spread: tuple[float, float] | None = None) -> None:
        super().__init__()
        if spread is not None and not all(pixels > 0 for pixels in spread):
            raise ValueError(f"spread must be two positive numbers of pixels; got {spread}.")
        self.spread = spread

    def extra_repr(self) -> str:
        """Shown by print(map)."""
        return "" if self.spread is None else f"spread={self.spread}"

    def forward(self, images: Float[Tensor, "batch height width"]) -> Float[Tensor, "batch height width"]:
        """Shape (batch, height, width) to the same.

        Raises:
            ValueError: no floating tensor of such a shape.
        """
        floats("images", images, (None, None, None))
        ink = images - images.amin((1, 2), keepdim=True)
        height, width = ink.shape[1:]
        down, across = _places(height, ink), _places(width, ink)
        rows, columns = ink.sum(2), ink.sum(1)
        total = rows.sum(1)
        blank = total <= 0
        total = torch.where(blank, 1.0, total)
        row, column = (rows @ down) / total, (columns @ across) / total
        down = down - row[:, None]
        spread = (rows * down.square()).sum(1)
        lean = torch.einsum("nrc,nr,c->n", ink, down, across)
        # As the rows' means are taken off already, the columns' need not be.
        slope = torch.where(spread > 0, lean / torch.where(spread > 0, spread, 1.0), 0.0).clamp(-STEEPEST, STEEPEST)
        if self.spread is None:
            one = torch.ones_like(row)
            return _sheared(ink, row, column, slope, one, one)
        tall = spread / total
        wide = (columns @ across.square()) / total - column.square() - slope.square() * tall
        high, broad = (
            (v.clamp_min(0).sqrt() / s).clamp(*FACTORS) for v, s in zip((tall, wide), self.spread, strict=True)
        )
        one = torch.ones_like(row)
        return _sheared(ink, row, column, slope, torch.where(blank, one, high), torch.where(blank, one, broad))


def _places(length: int, like: Tensor) -> Tensor:
    """Of pixels, in pixels from the middle."""
    return torch.arange(length, dtype=like.dtype, device=like.device) - (length - 1) / 2


def _sheared(ink: Tensor, row: Tensor, column: Tensor, slope: Tensor, high: Tensor, broad: Tensor) -> Tensor:
    """The image whose pixel (r, c), from the middle, was at (row + high r, column + broad c + slope high r)."""
    height, width = ink.shape[1:]
    # affine_grid counts from -1 to 1 over each side, x before y.
    across = torch.stack([broad, slope * high * height / width, 2 * column / width], 1)
    down = torch.stack([torch.zeros_like(row), high, 2 * row / height], 1)
    grid = functional.affine_grid(torch.stack([across, down], 1), [len(ink), 1, height, width], align_corners=False)
    return functional.grid_sample(ink[:, None], grid, align_corners=False)[:, 0]
