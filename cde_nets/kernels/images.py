"""Fields on images as the kernels take them: one family, or a fresh one at every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cde_nets.fields import ConvFields, Fields
from cde_nets.kernels.codes import IMAGES
from cde_nets.solver import opaque

# Beyond so many channels a stage's kernel and its cotangent, lane by lane, leave the caches, and the library's
# convolutions are faster: measured by `python -m benchmarks.crossover`.
MOST_CHANNELS = 24
# Of the table of all kernels, in which rows that are one channel's are spread over all.
MOST_NUMBERS = 2**24


class Images(NamedTuple):
    """Families of `ConvFields` with shared features, a step each.

    Attributes:
        coefficients: phi; and its terms, channels, height, width, the kernels' size and whether states stay on spheres.
        basis: what every field adds to a step's kernel and offset, shape (steps, count, channels * features): a row of
            the kernel is in the order (row, column, channel), and the offset stands behind it.
        channels: of the states.
    """

    coefficients: list[Tensor]
    basis: Tensor
    channels: int
    family: int = IMAGES

    @property
    def tensors(self) -> list[Tensor]:
        """All numbers."""
        return [*self.coefficients, self.basis]

    def drive(self, u: Tensor) -> Tensor:
        """Kernel and offset at every stage, shape (steps, stages, channels, features)."""
        return torch.bmm(u, self.basis).view(*u.shape[:2], self.channels, -1)

    def moments(self, found: Tensor) -> Tensor:
        """The transpose of `drive`."""
        return torch.bmm(found.flatten(2), self.basis.mT)


def images(families: Sequence[Fields], x: Tensor, *, sphere: bool) -> Images | None:
    """The families of all steps, where there is a kernel for them; None for others.

    Args:
        families: one a step.
        x: states.
        sphere: whether every step's end is put back on the sphere through its start.
    """
    first = families[0]
    if type(first) is not ConvFields or not opaque.readable(x) or first.shape[0] > MOST_CHANNELS:
        return None
    alike = [one for one in families if type(one) is ConvFields and _shape(one) == _shape(first)]
    if len(alike) < len(families) or not first._identity:
        return None
    channels, size = first.shape[0], first.kernels.shape[-1]
    tied = all(one is first for one in families)
    numbers = (1 if tied else len(families)) * first.count * channels * (size**2 * channels + 1)
    if numbers > MOST_NUMBERS:
        return None
    basis = torch.stack([_basis(one) for one in (alike[:1] if tied else alike)])
    shape = torch.tensor([len(first.inner), *first.shape, size, sphere], device="cpu")
    return Images([first.inner, shape], basis.expand(len(families), -1, -1), channels)


def _shape(fields: ConvFields) -> tuple[object, ...]:
    return fields.shape, fields.count, fields.kernels.shape[-1], fields._inner, fields._identity, fields.dtype


def _basis(fields: ConvFields) -> Tensor:
    """What every field adds to the kernel and the offset, shape (count, channels * features)."""
    channels, size = fields.shape[0], fields.kernels.shape[-1]
    table = fields.kernels.new_zeros(fields.count, channels, size, size, channels)
    place, rows = (fields._field, fields._output), fields._rows()
    if fields.kernel == "stencil":
        table.permute(0, 1, 4, 2, 3).index_put_((*place, fields._input), rows, accumulate=True)
    else:
        table.index_put_(place, rows.permute(0, 2, 3, 1), accumulate=True)
    offsets = fields.kernels.new_zeros(fields.count, channels)
    offsets.index_put_(place, fields.offsets.flatten(), accumulate=True)
    return torch.cat([table.flatten(2), offsets[..., None]], 2).flatten(1)
