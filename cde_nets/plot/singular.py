"""Singular values on a logarithmic axis, and the ranks that one may read off them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from cde_nets.certify import ControlRank
from cde_nets.plot.numbers import Numbers, Values, numbers
from cde_nets.plot.style import axes, look, styled


def singular_values(
    values: ControlRank | Mapping[str, Values],
    ax: Axes | None = None,
    *,
    tolerance: float | None = None,
    exact_rank: int | None = None,
    legend: bool = True,
) -> Axes:
    """Singular values over the largest, by their index, beside the tolerance and the rank.

    The dashed line is the tolerance: what stands above it is the rank in floating point. The upright line is a rank:
    of a `ControlRank` its own, of other matrices the exact one, where it is known. A value of 0 has no place on a
    logarithmic axis and is left out.

    Args:
        values: of `cde_nets.control_rank`, the outputs' Jacobian in the trained numbers; or of matrices of one's own,
            by the names of the curves: not negative, in any order.
        ax: where; a new figure's where None.
        tolerance: over the largest singular value; numpy's matrix_rank takes max(shape) eps. A `ControlRank` has its
            own.
        exact_rank: what exact arithmetic has found, as the last of `Growth.ranks`.
        legend: the names of the curves, where there are several.

    Raises:
        ValueError: no values, values that are negative, not finite or all 0, a tolerance or a rank that is no such
            thing, a tolerance beside a `ControlRank`.
    """
    curves, tolerance, rank, said = _read(values, tolerance, exact_rank)
    with styled():
        ax = axes(ax)
        for number, (name, sigma) in enumerate(curves.items()):
            # What has underflown has no place on a logarithmic axis.
            shown = np.where(sigma > 0, sigma, np.nan)
            style = {**look(number), "marker": "o", "markersize": 3, "linewidth": 1}
            ax.semilogy(np.arange(1, len(shown) + 1), shown, label=name, **style)
        most = max(map(len, curves.values()))
        # Words go where the values leave room: these fall along the diagonal, or early.
        late = rank is not None and 2 * rank > most
        kept: Any = {"textcoords": "offset points", "fontsize": 8}
        if tolerance is not None:
            ax.axhline(tolerance, color="#666666", linestyle="--", linewidth=1)
            at, shift, side, up = (0, (4, -4), "left", "top") if late else (1, (-4, 4), "right", "bottom")
            along = ("axes fraction", "data")
            ax.annotate("tolerance", (at, tolerance), shift, ha=side, va=up, xycoords=along, **kept)
        if rank is not None:
            ax.axvline(rank + 0.5, color="black", linewidth=1)
            at, shift, side, up = (1, (-4, 0), "right", "top") if late else (0, (4, 0), "left", "bottom")
            along = ("data", "axes fraction")
            ax.annotate(said, (rank + 0.5, at), shift, ha=side, va=up, xycoords=along, **kept)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set(xlabel="index", ylabel="singular value / the largest")
        if legend and len(curves) > 1:
            ax.legend()
    return ax


def _read(
    values: ControlRank | Mapping[str, Values], tolerance: float | None, exact_rank: int | None
) -> tuple[dict[str, Numbers], float | None, int | None, str]:
    """Curves over their largest values, largest first; the tolerance; the rank to mark, and what to call it."""
    if exact_rank is not None and exact_rank < 0:
        raise ValueError(f"exact_rank is {exact_rank}, expected a rank: 0 or more.")
    if isinstance(values, ControlRank):
        if tolerance is not None:
            raise ValueError(f"This ControlRank has its own tolerance, {values.tolerance:.3g}; leave tolerance out.")
        curves = {"": _checked("singular_values", values.singular_values)}
        tolerance = values.tolerance / float(numbers("singular_values", values.singular_values).max())
        if exact_rank is None:
            return curves, tolerance, values.rank, f"rank {values.rank} of {values.outputs}, in floats"
    else:
        if not values:
            raise ValueError("values is empty, expected the singular values of one matrix or more, by names.")
        curves = {name: _checked(name, one) for name, one in values.items()}
    if tolerance is not None and not 0 < tolerance < 1:
        raise ValueError(f"tolerance is {tolerance}, expected a share of the largest singular value, between 0 and 1.")
    return curves, tolerance, exact_rank, f"exact rank {exact_rank}"


def _checked(name: str, values: Values) -> Numbers:
    sigma = numbers(name, values)
    if not (np.isfinite(sigma).all() and (sigma >= 0).all() and (sigma > 0).any()):
        raise ValueError(f"{name}: singular values are finite, not negative and not all 0; got {sigma}.")
    shares: Numbers = np.sort(sigma)[::-1] / sigma.max()
    return shares
