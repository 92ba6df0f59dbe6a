"""Axes of the plane and of space, in which a unit is as long one way as the other; and points in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba_array
from matplotlib.markers import MarkerStyle
from numpy.typing import NDArray
from torch import Tensor

from cde_nets.plot.style import COLOURS, axes, figure, styled

# Yellow is left out: on white it is hardly seen.
_FEW = tuple(colour for colour in COLOURS if colour != "#F0E442")
# One a point; equal ones share a colour.
Labels = Sequence[object] | Tensor | NDArray[Any]
_SHAPES = ("o", "s", "^", "D", "v")


def space(ax: Axes | None, drawn: tuple[int, ...]) -> Axes:
    """Axes for the coordinates that are drawn, in the plane or in space; a new figure's where None.

    Raises:
        ValueError: axes of the other kind.
    """
    flat = len(drawn) == 2
    if ax is None and flat:
        ax = axes(None, 5.6, 4.8)
    elif ax is None:
        with styled():
            ax = figure(6.0, 5.4).add_subplot(projection="3d")
        ax.locator_params(nbins=5)
    elif ax.name != ("rectilinear" if flat else "3d"):
        kind, other = ("flat axes", "dims=(0, 1, 2)") if flat else ("axes with projection='3d'", "dims=(0, 1)")
        raise ValueError(
            f"{len(drawn)} coordinates need {kind}; got {type(ax).__name__} of projection {ax.name!r}. Leave ax out, "
            f"or choose other coordinates, as {other}."
        )
    names = {f"{axis}label": f"$x_{{{k + 1}}}$" for axis, k in zip("xyz", drawn, strict=False)}
    ax.set(**names)
    return ax


def show(ax: Axes, points: NDArray[np.float64], *, more: bool, margin: float = 0.06) -> None:
    """Limits that hold all points, shape (points, 2) or (points, 3), at one scale for all coordinates.

    Args:
        ax: where.
        points: what must be seen.
        more: keep in sight what the axes showed before.
        margin: beside the points, a share of their longest spread.
    """
    low, high = points.min(0), points.max(0)
    longest = float((high - low).max()) or 1.0
    middle, half = (low + high) / 2, (high - low) / 2 + margin * longest
    if margin:
        # A path along an axis would make a picture that is a strip.
        half = np.maximum(half, 0.6 * half.max())
    low, high = middle - half, middle + half
    names = "xyz"[: len(low)]
    if more:
        before = np.array([getattr(ax, f"get_{name}lim")() for name in names])
        low, high = np.minimum(low, before[:, 0]), np.maximum(high, before[:, 1])
    ax.set(**{f"{name}lim": limits for name, limits in zip(names, zip(low, high, strict=True), strict=True)})
    if len(low) == 2:
        ax.set_aspect("equal")
    else:
        ax.set_box_aspect(high - low, zoom=0.9)  # type: ignore[call-arg]


def colours_of(count: int) -> NDArray[np.float64]:
    """One colour a point, shape (count, 4): Okabe and Ito's where they suffice, else viridis from dark to light."""
    if count <= len(_FEW):
        return to_rgba_array(_FEW[:count])
    # As safe as cividis, with more hues to tell points by. The light end is hardly seen on white.
    return np.asarray(colormaps["viridis"](np.linspace(0, 0.9, count)))


def draw_points(
    ax: Axes,
    points: NDArray[np.float64],
    colours: NDArray[np.float64],
    *,
    filled: bool,
    scale: float = 1.0,
    shapes: bool = False,
) -> PathCollection:
    """Round markers over the lines, hollow or filled, smaller where there are many; one artist.

    Args:
        ax: where.
        points: shape (points, 2) or (points, 3).
        colours: one a point.
        filled: with the colour, or white inside.
        scale: of the markers' area.
        shapes: in the plane and for more points than there are plain colours, five shapes in turn, to help colours
            that are alike.
    """
    drawn = scatter(
        ax,
        points,
        s=scale * marker_area(len(points)),
        facecolors=colours if filled else "white",
        edgecolors=colours,
        linewidths=1.0,
        zorder=4 if filled else 3,
    )
    # In space matplotlib sorts markers by depth, but not their shapes.
    if shapes and points.shape[1] == 2 and len(points) > len(_FEW):
        styles = [MarkerStyle(_SHAPES[n % len(_SHAPES)]) for n in range(len(points))]
        drawn.set_paths([style.get_path().transformed(style.get_transform()) for style in styles])
    return drawn


def scatter(ax: Axes, points: NDArray[np.float64], **style: Any) -> PathCollection:
    """Axes.scatter of points of shape (points, 2) or (points, 3), in space without paling what is far."""
    if points.shape[1] == 3:
        style["depthshade"] = False
    made: PathCollection = ax.scatter(*points.T, **style)
    return made


def marker_area(count: int) -> float:
    """In square points: 30 for a few points, 5 for very many."""
    return float(np.clip(30 * (25 / count) ** 0.6, 5, 30))


def line_width(count: int) -> float:
    """In points: 1.4 for a few paths, 0.4 for very many."""
    return float(np.clip(1.4 * (25 / count) ** 0.4, 0.4, 1.4))


def labelled(labels: Labels) -> tuple[list[object], NDArray[np.float64], NDArray[np.float64]]:
    """The labels that occur, in order, the colour of each, and the colour of every point."""
    if isinstance(labels, Tensor | np.ndarray):
        # Numbers of a tensor are tensors, of which no two are equal as keys.
        labels = labels.tolist()
    names = list(dict.fromkeys(labels))
    palette = colours_of(len(names))
    return names, palette, palette[[names.index(label) for label in labels]]
