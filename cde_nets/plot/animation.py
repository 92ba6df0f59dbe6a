"""Flows that move: points with fading trails, written as a GIF or as one HTML file."""

from __future__ import annotations

import errno
import io
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.animation import FuncAnimation
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from cde_nets.atomic import write_atomically
from cde_nets.nn.flow import ControlledODE
from cde_nets.plot.paths import Paths, Points, Trajectory, as_floats, coordinates, extent, paths
from cde_nets.plot.space import Labels, draw_points, labelled, line_width, show, space
from cde_nets.plot.streamlines import draw_strokes
from cde_nets.plot.style import styled
from cde_nets.plot.trajectories import check_labels, draw_crosses, draw_lines, goals_of

# Pieces of a trail, each paler than the one before it.
_PIECES = 12
# With fewer pixels an inch nothing can be read.
_LEAST_DPI = 20
# Seconds for which a GIF stands at its end before it starts again.
_REST = 1.0


@torch.no_grad()
def animate(
    flow: ControlledODE | Trajectory,
    path: str | Path,
    x: Points | None = None,
    *,
    y: Points | None = None,
    lam: float | None = None,
    dims: Sequence[int] | None = None,
    times: Sequence[float] | None = None,
    labels: Labels | None = None,
    streamlines: bool | None = None,
    trail: float = 0.15,
    fps: int = 20,
    seconds: float = 4.0,
    dpi: float = 80.0,
) -> None:
    """Write a flow as a moving picture: points with trails that fade, hollow starts, crosses at targets, the time.

    The file's ending chooses: .gif, or .html, a page that needs nothing else and has buttons to play, stop and step.

    Args:
        flow: as `trajectories`.
        path: of the file.
        x: where the points start, shape (points, dim); with a flow only.
        y: targets, shape (points, dim); none are drawn where None.
        lam: as `targets`.
        dims: as `trajectories`.
        times: of the states of a path that is given as an array; equally spaced over [0, 1] where None.
        labels: as `trajectories`, without a legend.
        streamlines: draw under the points those of the velocity, as it is at the time that is shown. Only a flow in
            the plane has them, with one control for all its points and without a manifold; None draws them there.
        trail: how far back trails reach, as a share of the whole time.
        fps: frames a second, at most 50.
        seconds: how long it plays.
        dpi: pixels an inch, 20 or more; the picture is about 5.6 by 4.8 inches.

    Raises:
        ValueError: another ending, numbers out of range, streamlines of what has none; all that `targets` refuses.
        FileNotFoundError: there is no such folder.
        OSError: the file cannot be written.
        DivergedError: the flow raises it.
    """
    path = Path(path)
    write = _writer(path)
    frames = _frames(fps, seconds, trail, dpi)
    points, dim = extent(flow, x)
    drawn = coordinates(dim, dims)
    check_labels(labels, points)
    _check_targets(y, lam)
    under = _has_streamlines(flow) if streamlines is None else streamlines
    if under and not _has_streamlines(flow):
        raise ValueError(
            "streamlines=True, expected a ControlledODE in the plane, with one control for all points and no manifold: "
            "nothing else has streamlines at a time. Leave streamlines out."
        )
    goals = None
    if y is not None:
        first = x if isinstance(flow, ControlledODE) else flow[0]
        assert first is not None
        goals = goals_of(as_floats("x", first), y, lam)[:, list(drawn)]
    found = paths(flow, x, drawn, times)
    with styled(), rc_context({"savefig.dpi": dpi, "animation.embed_limit": math.inf}):
        ax = space(None, drawn)
        _figure_of(ax).set_dpi(dpi)
        colours = labelled(range(points) if labels is None else labels)[2]
        seen = found.points.reshape(-1, len(drawn))
        show(ax, seen if goals is None else np.concatenate([seen, goals]), more=False)
        draw_points(ax, found.points[0], colours, filled=False, scale=0.6)
        if goals is not None:
            draw_crosses(ax, goals, colours)
        moments = np.linspace(found.times[0], found.times[-1], frames)
        reach = trail * (moments[-1] - moments[0])
        scene = _Scene(ax, found, colours, reach, flow if under and isinstance(flow, ControlledODE) else None)
        write_atomically(path, write(scene, moments, fps))


class _Scene:
    """Axes on which all that moves is drawn anew at each time."""

    def __init__(
        self, ax: Axes, found: Paths, colours: NDArray[np.float64], reach: float, flow: ControlledODE | None
    ) -> None:
        self._ax, self._paths, self._reach, self._flow = ax, found, reach, flow
        self.colours = colours
        self._moving: list[Artist] = []
        self.figure = _figure_of(ax)
        self._show(found.times[0])
        # Laid out once: a frame that moved would be seen, and laying out takes longer than drawing.
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")

    def show(self, time: float) -> list[Artist]:
        """Draw a time in the place of the one before; what was drawn."""
        for artist in self._moving:
            artist.remove()
        self._show(time)
        return self._moving

    def _show(self, time: float) -> None:
        ax, start = self._ax, self._paths.times[0]
        corners = self._paths.at(np.linspace(max(start, time - self._reach), time, _PIECES + 1))
        pieces = np.stack([corners[:-1], corners[1:]], 2).reshape(-1, 2, corners.shape[2])
        shades = np.repeat(np.linspace(0.05, 0.9, _PIECES), len(self.colours))
        colours = np.tile(self.colours, (_PIECES, 1))
        colours[:, 3] *= shades
        trails = draw_lines(ax, pieces, colours, 1.4 * line_width(len(self.colours)))
        self._moving = [trails, draw_points(ax, corners[-1], self.colours, filled=True)]
        if self._flow is not None:
            self._moving.append(draw_strokes(ax, self._flow, time, self._paths.drawn))
            ax.grid(False)
        ax.set_title(f"t = {time:.2f}")


def _figure_of(ax: Axes) -> Figure:
    made = ax.get_figure(root=True)
    assert made is not None
    return made


def _has_streamlines(flow: ControlledODE | Trajectory) -> bool:
    if not isinstance(flow, ControlledODE):
        return False
    return flow.dim == 2 and flow.control.rows is None and flow.manifold is None


def _as_gif(scene: _Scene, moments: NDArray[np.float64], fps: int) -> bytes:
    """Frames in colours common to all of them, so that what stays is not stored again."""
    canvas: Any = scene.figure.canvas
    images: list[Image.Image] = []
    for time in moments:
        scene.show(time)
        canvas.draw()
        images.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    palette = Image.new("P", (1, 1))
    palette.putpalette(_palette(scene.colours))
    flat = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    # A GIF counts hundredths of a second: rounded one by one they would add up to another time.
    ends = np.round(np.arange(len(flat)) * 100 / fps)
    durations = [*(10 * np.diff(ends)).astype(int).tolist(), round(1000 * _REST)]
    written = io.BytesIO()
    flat[0].save(
        written, format="GIF", save_all=True, append_images=flat[1:], duration=durations, loop=0, optimize=False
    )
    return written.getvalue()


def _palette(colours: NDArray[np.float64]) -> list[int]:
    """256 colours at most: greys, and those of the points, or of some of many, from pale to full."""
    greys = np.linspace(0, 1, 32)[:, None].repeat(3, 1)
    full = np.unique(colours[:, :3], axis=0)
    full = full[np.linspace(0, len(full) - 1, min(len(full), 56)).round().astype(int)]
    shades = np.linspace(0, 1, min(16, 224 // len(full)) + 1)[1:, None, None]
    table = np.concatenate([greys, (1 - shades + shades * full).reshape(-1, 3)])
    return [int(value) for value in (255 * table).round().ravel()]


# matplotlib's page fetches its buttons' pictures from the network; these are characters.
_ICONS = {
    "minus": "2212",
    "plus": "002B",
    "fast-backward": "23EE",
    "step-backward": "25C2",
    "play": "25B6",
    "pause": "23F8",
    "step-forward": "25B8",
    "fast-forward": "23ED",
}
_STYLE = (
    "<style>body { font-family: sans-serif } .fa { font-style: normal } "
    ".fa-flip-horizontal { display: inline-block; transform: scaleX(-1) } "
    + " ".join(f'.fa-{name}::before {{ content: "\\{code}\\FE0E" }}' for name, code in _ICONS.items())
    + "</style>"
)


def _as_page(scene: _Scene, moments: NDArray[np.float64], fps: int) -> bytes:
    """The player of matplotlib with all frames inside, and its links to the network taken out."""
    moving = FuncAnimation(
        scene.figure, lambda time: scene.show(time), frames=list(moments), init_func=lambda: [], cache_frame_data=False
    )
    player = re.sub(r"<link\b[^>]*>", "", moving.to_jshtml(fps=fps, embed_frames=True, default_mode="loop"))
    head = f'<head><meta charset="utf-8"><title>A flow</title>{_STYLE}</head>'
    return f'<!DOCTYPE html>\n<html lang="en">{head}<body>{player}</body></html>\n'.encode()


_WRITERS = {".gif": _as_gif, ".html": _as_page}


def _writer(path: Path) -> Callable[[_Scene, NDArray[np.float64], int], bytes]:
    if path.suffix not in _WRITERS:
        raise ValueError(f"The file is {path.name!r}, expected a name that ends in {' or '.join(_WRITERS)}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
    return _WRITERS[path.suffix]


def _frames(fps: int, seconds: float, trail: float, dpi: float) -> int:
    if not 1 <= fps <= 50:
        raise ValueError(f"fps is {fps}, expected 1 to 50, the most that browsers show.")
    if not (0 < seconds < math.inf) or round(fps * seconds) < 2:
        raise ValueError(f"seconds is {seconds}, expected enough for two frames or more at {fps} a second.")
    if not 0 < trail <= 1:
        raise ValueError(f"trail is {trail}, expected a share of the time above 0 and up to 1.")
    if not _LEAST_DPI <= dpi < math.inf:
        raise ValueError(f"dpi is {dpi}, expected at least {_LEAST_DPI}: with fewer there is no room for the axes.")
    return round(fps * seconds)


def _check_targets(y: Points | None, lam: float | None) -> None:
    if y is None and lam is not None:
        raise ValueError(f"lam is {lam}, but there are no targets y for it: give them, or drop lam.")
