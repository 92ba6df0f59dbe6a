"""One look for every picture: headless, quiet, safe for colour-blind readers."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from cde_nets.atomic import write_atomically

# Okabe and Ito's palette ("Color universal design", 2008), black last.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
# Colours of curves in turn, the pale ones last, and their markers.
_TURNS, _MARKERS = (0, 1, 2, 3, 5, 4, 7, 6), "os^Dv<>P"
SEQUENTIAL = "cividis"
DIVERGING = "RdBu_r"

_STYLE: Any = {
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "image.cmap": SEQUENTIAL,
    "image.interpolation": "nearest",
    "lines.linewidth": 1.6,
}


def styled() -> AbstractContextManager[None]:
    """Draw in the package's look; outside of this the user's own settings hold."""
    return rc_context(_STYLE)


def figure(width: float = 6.4, height: float = 4.0) -> Figure:
    """A figure that no window and no global state knows of; size in inches."""
    with styled():
        made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def axes(ax: Axes | None, width: float = 6.4, height: float = 4.0) -> Axes:
    """The axes given, or those of a new figure."""
    if ax is not None:
        return ax
    with styled():
        return figure(width, height).subplots()


def look(number: int) -> dict[str, Any]:
    """Colour and marker of one of several curves; the first 64 are all different."""
    again, place = divmod(number, len(_TURNS))
    return {"color": COLOURS[_TURNS[place]], "marker": _MARKERS[(place + again) % len(_MARKERS)]}


def plain_log_ticks(ax: Axes) -> None:
    """1, 2, 3, 5, 10, .. on a logarithmic y axis, as plain numbers."""
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())


def save(drawn: Axes | Figure, path: str | Path) -> None:
    """Write a picture; the ending chooses the format.

    Raises:
        ValueError: no ending, or one of no format.
        OSError: the file cannot be written.
    """
    path = Path(path)
    known = FigureCanvasAgg.get_supported_filetypes()
    if path.suffix.removeprefix(".") not in known:
        raise ValueError(
            f"The file is {path.name!r}, expected a name that ends in one of .{', .'.join(sorted(known))}."
        )
    whole = drawn if isinstance(drawn, Figure) else drawn.get_figure(root=True)
    assert whole is not None
    with styled():
        drawing = io.BytesIO()
        whole.savefig(drawing, format=path.suffix.removeprefix("."))
    write_atomically(path, drawing.getvalue())
