"""Controls as numbers to draw: what they hold where they are constant, samples elsewhere."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from cde_nets.controls import Control, PiecewiseConstantControl

# Samples of a control that is not piecewise constant: more than a picture has room for.
_CELLS = 384

Numbers = NDArray[np.float64]


def cells(control: Control, row: int | None) -> Numbers:
    """U on equal parts of the span, shape (parts, count): the intervals of a piecewise constant control, else samples.

    Args:
        control: u.
        row: which row's, of a control that has one for each.

    Raises:
        ValueError: a row where all share the control, or none, or one too many, where each has its own.
    """
    check_row(control, row)
    if isinstance(control, PiecewiseConstantControl):
        return _numbers(control.values)
    start, end = control.span
    return _at(control, start + (end - start) * (np.arange(_CELLS) + 0.5) / _CELLS, None, row)


def curve(control: Control, row: int | None) -> tuple[Numbers, Numbers]:
    """Times, shape (samples,), and u there, shape (samples, count); breakpoints come twice, with both limits.

    Args:
        control: as `cells`.
        row: as `cells`.

    Raises:
        ValueError: as `cells`.
    """
    check_row(control, row)
    ends = (control.span[0], *control.breakpoints, control.span[1])
    each = max(2, _CELLS // (len(ends) - 1))
    pieces = [np.linspace(*piece, each) for piece in pairwise(ends)]
    values = [_at(control, times, float(times.mean()), row) for times in pieces]
    return np.concatenate(pieces), np.concatenate(values)


def check_row(control: Control, row: int | None) -> None:
    """Refuse what is no control; a row of one that all rows share, and none or one too many of another (ValueError)."""
    if not isinstance(control, Control):
        raise ValueError(f"control must be a Control, such as flow.control; got a {type(control).__name__}.")
    if control.rows is None and row is not None:
        raise ValueError(f"row is {row}, but all rows share this {type(control).__name__}: leave it out.")
    if control.rows is not None and (row is None or not 0 <= row < control.rows):
        raise ValueError(
            f"This {type(control).__name__} has a control for each of {control.rows} rows; row is {row}, expected one "
            f"of 0 to {control.rows - 1}."
        )


@torch.no_grad()
def _at(control: Control, times: Numbers, inside: float | None, row: int | None) -> Numbers:
    t = torch.from_numpy(times).to(control.device)
    t = t if row is None else t[:, None]
    u = control.at(t) if inside is None else control.at(t, torch.full_like(t, inside))
    return _numbers(u if row is None else u[:, row])


def _numbers(values: torch.Tensor) -> Numbers:
    found: Numbers = values.detach().cpu().double().numpy()
    return found
