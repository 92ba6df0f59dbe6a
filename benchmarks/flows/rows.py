"""What is timed: families of fields, sizes, and the numbers they are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

import cde_nets as cn

FAMILIES = ("ridge", "polynomial")
DEGREE = 2


@dataclass(frozen=True)
class Row:
    """One size of one family, solved by Euler with one step for each interval of the control.

    Attributes:
        family: "ridge", sigma_i(C_i x + b_i) with sigma_i of degree 2, or "polynomial", all monomials of degree <= 2.
        dim: m.
        count: d.
        steps: M.
        batch: B.
        apart: peers are shown both with d fields evaluated and with the fields collapsed to one before they meet a
            state; else only with what is faster.
    """

    family: str
    dim: int
    count: int
    steps: int
    batch: int
    apart: bool = False

    @property
    def name(self) -> str:
        """As after --rows: family-m-d-M-B."""
        return f"{self.family}-{self.dim}-{self.count}-{self.steps}-{self.batch}"


ROWS = (
    Row("ridge", 8, 7, 50, 64),
    Row("ridge", 2, 6, 50, 1024),
    Row("ridge", 32, 20, 20, 256),
    Row("ridge", 64, 7, 20, 256),
    Row("ridge", 784, 7, 20, 256),
    Row("polynomial", 2, 5, 50, 1000),
    Row("polynomial", 10, 5, 20, 1000),
    Row("polynomial", 32, 100, 20, 256, apart=True),
)


@dataclass(frozen=True)
class Given:
    """The numbers of a row, float32: the same for all sides.

    Attributes:
        row: its sizes.
        fields: the frozen family.
        values: of the control, shape (steps, count).
        x: initial states, shape (batch, dim).
    """

    row: Row
    fields: cn.RidgeFields | cn.PolynomialFields
    values: Tensor
    x: Tensor

    def control(self) -> cn.PiecewiseConstantControl:
        """A control of its own with these values."""
        return cn.PiecewiseConstantControl(self.row.steps, self.row.count, values=self.values.clone())


def draw(row: Row, *, dtype: torch.dtype = torch.float32) -> Given:
    """Draw a row's numbers; sizes at which no flow of these families leaves the bounded states within [0, 1].

    Raises:
        ValueError: an unknown family.
    """
    fields: cn.RidgeFields | cn.PolynomialFields
    if row.family == "ridge":
        fields = cn.RidgeFields.random(row.dim, row.count, DEGREE, seed=0, dtype=dtype)
    elif row.family == "polynomial":
        fields = cn.PolynomialFields.random(row.dim, row.count, DEGREE, seed=0, dtype=dtype)
    else:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}; got {row.family!r}.")
    generator = torch.Generator().manual_seed(1)
    values = 0.5 * row.count**-0.5 * torch.randn(row.steps, row.count, generator=generator, dtype=torch.float64)
    x = 0.5 * torch.randn(row.batch, row.dim, generator=generator, dtype=torch.float64)
    return Given(row, fields, values.to(dtype), x.to(dtype))


def chosen(names: Sequence[str], available: Sequence[str]) -> list[str]:
    """The available names that contain one of the given parts; all where none is given.

    Raises:
        ValueError: a part that no name contains.
    """
    for part in names:
        if not any(part in name for name in available):
            raise ValueError(f"No row's name contains {part!r}. There are: {', '.join(available)}.")
    return [name for name in available if not names or any(part in name for part in names)]
