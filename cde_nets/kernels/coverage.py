"""Which flows go through a kernel as a whole, and what it is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from cde_nets.autocast import without_autocast
from cde_nets.fields import Fields
from cde_nets.kernels import cpu, cuda, operators
from cde_nets.kernels.families import Packed, packed
from cde_nets.kernels.images import Images, images
from cde_nets.kernels.native import available
from cde_nets.remembered import remembered
from cde_nets.solver.flow.tableau import Tableau


class Whole(NamedTuple):
    """A flow on a fixed grid as the operator takes it, but for its states and controls.

    Attributes:
        fields: the family.
        widths: of the steps, float64, on the CPU.
        tableau: a, and b as its last row, float64, on the CPU.
    """

    fields: Packed | Images
    widths: Tensor
    tableau: Tensor

    @without_autocast
    def forward(self, x: Tensor, values: Tensor, every: int, *, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
        """As the operator `cde_nets::flow`; values are the control at every stage, shape (steps, stages, count)."""
        run = cpu.forward if _plain(x) else operators.flow
        fields = self.fields
        found: tuple[Tensor, Tensor, Tensor] = run(
            x, fields.drive(values), fields.coefficients, fields.family, self.widths, self.tableau, every, keep
        )
        return found

    @without_autocast
    def backward(
        self, cotangent: Tensor, values: Tensor, every: int, kept: Tensor, accepted: Tensor, *, start_wanted: bool
    ) -> tuple[Tensor | None, Tensor]:
        """The cotangents of x, where it is wanted, and of the control's values."""
        run = cpu.backward if _plain(cotangent) else operators.flow_backward
        fields = self.fields
        start, found = run(
            cotangent,
            fields.drive(values),
            fields.coefficients,
            fields.family,
            self.widths,
            self.tableau,
            every,
            kept,
            accepted,
            start_wanted,
        )
        return start if start_wanted else None, fields.moments(found)


def _plain(x: Tensor) -> bool:
    """A tensor with numbers, on the CPU: it need not go through the dispatcher, which takes as long as a small flow."""
    return type(x) is Tensor and x.device.type == "cpu" and not torch.compiler.is_compiling()


class _Switch:
    """Whether kernels run, in this process."""

    on = True


@contextmanager
def plain_steps() -> Iterator[None]:
    """Within it no kernel runs, and every step is made of plain torch operations: to compare, and to look inside."""
    before, _Switch.on = _Switch.on, False
    try:
        yield
    finally:
        _Switch.on = before


def enabled() -> bool:
    """Whether kernels may run: not within `plain_steps`."""
    return _Switch.on


def whole(
    families: Sequence[Fields],
    values: Tensor,
    tableau: Tableau,
    mesh: tuple[float, ...],
    x: Tensor,
    *,
    sphere: bool = False,
) -> Whole | None:
    """The flow, driven by a control that all rows share, where there is a kernel for it; else None.

    Args:
        families: one a step.
        values: the control at every stage, shape (steps, stages, count) where all rows share it.
        tableau: the method.
        mesh: the step ends.
        x: initial states, shape (rows, dim).
        sphere: whether every step's end is put back on the sphere through its start.
    """
    first = families[0]
    if not _Switch.on or values.ndim != 3 or not _fits(first, values, x):
        return None
    pictures = images(families, x, sphere=sphere)
    if pictures is not None:
        return Whole(pictures, _widths(mesh), _weights(tableau))
    fields = packed(first)
    if fields is None or sphere or any(family is not first for family in families):
        return None
    if x.device.type == "cuda":
        terms = fields.coefficients[2].shape[1] if fields.shared is None else fields.shared.shape[2]
        if not cuda.covers(fields.family, x.shape[1], terms, x.dtype, tableau.stages):
            return None
    return Whole(fields, _widths(mesh), _weights(tableau))


def _fits(fields: Fields, values: Tensor, x: Tensor) -> bool:
    """Kernels exist for this dtype and device, and it is the same of all three."""
    if x.dtype not in (torch.float32, torch.float64) or not x.dtype == values.dtype == fields.dtype:
        return False
    if x.device.type == "cuda":
        return cuda.available() and torch.cuda.get_device_capability(x.device) >= (8, 0)
    return x.device.type == "cpu" and available()


@remembered
def _widths(mesh: tuple[float, ...]) -> Tensor:
    return torch.tensor([end - start for start, end in pairwise(mesh)], dtype=torch.float64, device="cpu")


@remembered
def _weights(tableau: Tableau) -> Tensor:
    s = tableau.stages
    rows = [[float(w) for w in row] + [0.0] * (s - len(row)) for row in (*tableau.a, tableau.b)]
    return torch.tensor(rows, dtype=torch.float64, device="cpu").reshape(s + 1, s)
