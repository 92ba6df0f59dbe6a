"""Growth vectors: rank against bracket depth, and what stops it."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from cde_nets.plot.style import COLOURS, axes, look, styled
from theory.bounds import Limit
from theory.growth import Growth

# Of what stops ranks of brackets by depth: those of `theory.bounds.by_depth`.
_COLOURS = {
    Limit.SPACE: COLOURS[2],
    Limit.LETTERS: COLOURS[4],
    Limit.POLYNOMIALS: COLOURS[0],
    Limit.LINEAR: COLOURS[1],
    Limit.AFFINE: COLOURS[6],
    Limit.SPHERES: COLOURS[5],
    Limit.ONE: COLOURS[3],
}
# Of a rank that is a lower bound alone.
_OPEN = "#bbbbbb"
_OPEN_WORDS = "a lower bound only"


def growth(vectors: Sequence[Growth], ax: Axes | None = None, *, legend: bool = True) -> Axes:
    """Rank against bracket depth, a curve for each growth vector, as of several N.

    A marker is filled where the rank is known and hollow where it is a lower bound alone; the broad pale line is what
    the rank cannot exceed (`theory.bounds`), and the dashed line the full rank. Vectors end where they are full.

    Args:
        vectors: of `theory.growth_vector`, one or more.
        ax: where; a new figure's where None.
        legend: N of each curve, and m where it is not the same for all.

    Raises:
        ValueError: no vectors.
    """
    if not vectors:
        raise ValueError("vectors is empty, expected one growth vector or more, of theory.growth_vector.")
    with styled():
        ax = axes(ax)
        one_dim = len({found.dim for found in vectors}) == 1
        for number, found in enumerate(vectors):
            style, depths = look(number), range(1, len(found.ranks) + 1)
            colour = style["color"]
            bounds = [bound.rank for bound in found.bounds]
            ax.plot(depths, bounds, color=colour, alpha=0.25, linewidth=7, solid_capstyle="round")
            ax.axhline(found.full_rank, color=colour, linestyle="--", linewidth=0.9)
            name = f"N = {found.points}" if one_dim else f"m = {found.dim}, N = {found.points}"
            ax.plot(depths, found.ranks, **style, markersize=5, label=f"{name}: {found.ranks[-1]} of {found.full_rank}")
            # Over the filled markers.
            open_ones = [
                (n, rank) for n, rank, known in zip(depths, found.ranks, found.known, strict=True) if not known
            ]
            if open_ones:
                ax.plot(*zip(*open_ones, strict=True), **style, linestyle="none", markersize=5, markerfacecolor="white")
        ax.set(xlabel="bracket depth", ylabel="rank", ylim=(0, 1.08 * max(found.full_rank for found in vectors)))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if legend:
            ax.legend()
    return ax


def growth_bars(found: Growth, ax: Axes | None = None, *, legend: bool = True) -> Axes:
    """The ranks of one growth vector as bars, coloured by the upper bound that each is equal to.

    Grey bars, with their numbers as "≥", are lower bounds alone. The dashed line is m N, which fields tangent to
    spheres do not reach.

    Args:
        found: of `theory.growth_vector`.
        ax: where; a new figure's where None.
        legend: what the colours say; `growth_legend` makes one for several pictures.
    """
    with styled():
        ax = axes(ax)
        depths, whole = range(1, len(found.ranks) + 1), found.dim * found.points
        colours = [
            _COLOURS[bound.limit] if known else _OPEN for bound, known in zip(found.bounds, found.known, strict=True)
        ]
        bars = ax.bar(depths, found.ranks, 0.72, color=colours)
        said = [f"{rank}" if known else f"≥{rank}" for rank, known in zip(found.ranks, found.known, strict=True)]
        for label in ax.bar_label(bars, said, padding=2):
            # Over the dashed line where it comes too near.
            label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})
            label.set_zorder(3)
        ax.axhline(whole, color="black", linestyle="--", linewidth=1)
        at, shift = (0, whole), (3, 3)
        along = ("axes fraction", "data")
        ax.annotate(f"mN = {whole}", at, shift, xycoords=along, textcoords="offset points", fontsize=8)
        ax.set(xlabel="bracket depth", ylabel="rank", xticks=depths, ylim=(0, 1.18 * whole))
        ax.grid(axis="x", visible=False)
        if legend:
            ax.legend(handles=growth_legend([found]), title="what the rank is equal to")
    return ax


def growth_legend(vectors: Sequence[Growth]) -> list[Patch]:
    """Keys to the colours that `growth_bars` gives these vectors, for a legend of one's own."""
    pairs = [pair for found in vectors for pair in zip(found.bounds, found.known, strict=True)]
    reached = {bound.limit for bound, known in pairs if known}
    keys = [Patch(color=colour, label=limit.value) for limit, colour in _COLOURS.items() if limit in reached]
    if not all(known for _, known in pairs):
        keys.append(Patch(color=_OPEN, label=_OPEN_WORDS))
    return keys
