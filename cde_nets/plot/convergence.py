"""How solvers converge: residuals of iterations by step, errors of flows by step width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from cde_nets.plot.numbers import Numbers, Values, numbers
from cde_nets.plot.style import axes, look, styled
from cde_nets.solver.solution import Solution

_REFERENCE = "#888888"
# How many markers a curve of many points has.
_MARKED = 8


def convergence(
    solved: Mapping[str, Solution | tuple[Values, Values]],
    ax: Axes | None = None,
    *,
    tolerance: float | None = None,
    among: Sequence[str] = (),
    legend: bool = True,
) -> Axes:
    """The largest residual of a row by step, before the first and after each: of methods for rest and linear ones.

    The y axis is logarithmic: a residual of 0 has no place on it, and one that is not finite is a gap.

    Args:
        solved: solutions with a trace (`save_at=cn.SaveAt(steps=True)`), by the names of the curves; or pairs of what
            takes the place of steps (work, seconds) and the residuals there.
        ax: where; a new figure's where None.
        tolerance: drawn as a dotted line.
        among: all names of a series of pictures, so that each looks the same in all; those of this one where empty.
        legend: the names of the curves.

    Raises:
        ValueError: nothing solved; a solution without a trace of residuals, as of a flow; residuals that are negative,
            of another number than the steps, or none of which is positive and finite; a tolerance that is not positive;
            a name that is not among those of the series.
    """
    places = _places("solved", solved, among)
    curves = {name: _residuals(name, one) for name, one in solved.items()}
    if tolerance is not None and not 0 < tolerance < np.inf:
        raise ValueError(f"tolerance is {tolerance}, expected a positive number.")
    with styled():
        ax = axes(ax)
        for name, (steps, left) in curves.items():
            spaced = max(1, len(left) // _MARKED)
            ax.semilogy(steps, left, **look(places[name]), markersize=4, markevery=spaced, label=name)
        if tolerance is not None:
            ax.axhline(tolerance, color="black", linestyle=":", linewidth=1.0)
        ax.set(xlabel="step", ylabel="largest residual of a row")
        if legend:
            ax.legend()
    return ax


def orders(
    measured: Mapping[str, tuple[Values, Values]],
    expected: Mapping[str, int],
    ax: Axes | None = None,
    *,
    among: Sequence[str] = (),
    floor: float = 1e-12,
) -> Axes:
    """Errors against step widths, on logarithmic axes: a method of order p has slope p.

    The legend has each method's order and its measured slope (`slope`). Dotted, above the curves: a line of each order.

    Args:
        measured: step widths and the errors there, by the names of the methods.
        expected: their orders.
        ax: where; a new figure's where None.
        among: as of `convergence`.
        floor: errors that are not above it are rounding's, and no part of the slope.

    Raises:
        ValueError: nothing measured; step widths or errors that are not finite and positive, or not equally many; fewer
            than two errors above the floor; a method without an order, or not among those of the series.
    """
    places = _places("measured", measured, among)
    missing = [name for name in measured if name not in expected]
    if missing:
        raise ValueError(f"expected has no order for {', '.join(missing)}; give one for each of {', '.join(measured)}.")
    curves = {name: _errors(name, *pair) for name, pair in measured.items()}
    slopes = {name: slope(*pair, floor=floor, name=name) for name, pair in curves.items()}
    with styled():
        ax = axes(ax)
        for name, (widths, errors) in curves.items():
            label = f"{name} ({expected[name]}): {slopes[name]:.2f}"
            ax.loglog(widths, errors, **look(places[name]), markersize=3.5, label=label)
        for order in sorted({expected[name] for name in curves}):
            _reference(ax, order, [pair for name, pair in curves.items() if expected[name] == order])
        ax.set(xlabel="step width", ylabel="error")
        ax.legend(fontsize=7, title="method (order): slope", title_fontsize=7)
    return ax


def slope(widths: Values, errors: Values, *, floor: float = 1e-12, name: str = "errors") -> float:
    """Of the logarithms of errors in those of step widths, by least squares over the three finest that are above floor.

    Args:
        widths: of steps.
        errors: there.
        floor: below, rounding speaks.
        name: what an error message calls them.

    Raises:
        ValueError: fewer than two errors above the floor.
    """
    h, e = numbers(name, widths), numbers(name, errors)
    kept = np.flatnonzero(e > floor)
    kept = kept[np.argsort(h[kept])][:3]
    if len(kept) < 2:
        raise ValueError(f"{name}: {len(kept)} of {len(e)} errors above {floor:g}, expected two or more: widen steps.")
    return float(np.polyfit(np.log(h[kept]), np.log(e[kept]), 1)[0])


def _reference(ax: Axes, order: int, pairs: list[tuple[Numbers, Numbers]]) -> None:
    """A line of slope `order` over the widths of these curves, twice as high as the highest point of any."""
    widths = np.concatenate([h for h, _ in pairs])
    ends = np.array([widths.min(), widths.max()])
    height = 2 * max(float((e / h**order).max()) for h, e in pairs)
    ax.plot(ends, height * ends**order, ":", color=_REFERENCE, linewidth=1)
    words = "$h$" if order == 1 else f"$h^{{{order}}}$"
    # Left of the line's middle, where it leaves room.
    middle = float(np.sqrt(ends.prod()))
    ax.annotate(
        words,
        (middle, height * middle**order),
        (-4, 3),
        textcoords="offset points",
        ha="right",
        fontsize=7,
        color="#555555",
    )


def _residuals(name: str, one: Solution | tuple[Values, Values]) -> tuple[Numbers, Numbers]:
    if isinstance(one, Solution):
        if one.trace is None or one.trace.residuals is None:
            raise ValueError(
                f"{name}: the solution has no trace of residuals. Solve with save_at=cn.SaveAt(steps=True); flows and "
                "OneStep() have none, and for flows plot.orders draws errors against step widths."
            )
        left = numbers(name, one.trace.residuals.max(1).values)
        steps = np.arange(len(left), dtype=np.float64)
    else:
        steps, left = (numbers(name, part) for part in one)
    if len(steps) != len(left):
        raise ValueError(f"{name}: {len(left)} residuals at {len(steps)} steps, expected equally many.")
    if (left < 0).any():
        raise ValueError(f"{name}: residuals are norms; got {left.min():g}.")
    seen = np.isfinite(left) & (left > 0)
    if not seen.any():
        raise ValueError(f"{name}: no residual is positive and finite; got {left}.")
    return steps, np.where(seen, left, np.nan)


def _errors(name: str, widths: Values, errors: Values) -> tuple[Numbers, Numbers]:
    h, e = numbers(name, widths), numbers(name, errors)
    if len(h) != len(e):
        raise ValueError(f"{name}: {len(e)} errors at {len(h)} step widths, expected equally many.")
    for words, values in (("step widths", h), ("errors", e)):
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise ValueError(f"{name}: {words} must be finite and positive; got {values}.")
    return h, e


def _places(argument: str, drawn: Mapping[str, object], among: Sequence[str]) -> dict[str, int]:
    """Which look each name has."""
    if not drawn:
        raise ValueError(f"{argument} is empty, expected one curve or more, by names.")
    series = list(among) or list(drawn)
    unknown = [name for name in drawn if name not in series]
    if unknown:
        raise ValueError(f"among has {', '.join(series)}, and not {', '.join(unknown)}.")
    return {name: number for number, name in enumerate(series)}
