"""Moving pictures are read back: frames that differ, pages that need nothing else; and the scene's own artists."""

import base64
import io
import itertools
import re

import numpy as np
import pytest
import torch
from PIL import Image

import cde_nets as cn
from cde_nets import plot
from cde_nets.plot.streamlines import draw_strokes
from cde_nets.plot.style import figure

FAST = {"fps": 5, "seconds": 0.8, "dpi": 50.0}


def frames(content):
    moving = Image.open(io.BytesIO(content))
    found = []
    for n in range(moving.n_frames):
        moving.seek(n)
        found.append(np.asarray(moving.convert("RGB"), dtype=int))
    return found


def embedded(page):
    found = re.findall(r'frames\[\d+\] = "data:image/png;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(image.replace("\\\n", "")))) for image in found]


def moves(images):
    return all((one != other).any() for one, other in itertools.pairwise(images))


def test_a_gif_moves_and_rests_at_its_end(tmp_path, flow, starts):
    moved, x = flow(), starts()
    plot.animate(moved, tmp_path / "a.gif", x, y=moved(x).detach(), **FAST)
    content = (tmp_path / "a.gif").read_bytes()
    found = frames(content)
    assert len(found) == 4
    assert moves(found)
    assert (found[0][0, 0] == 255).all(), "white stays white"
    moving = Image.open(io.BytesIO(content))
    durations = []
    for n in range(4):
        moving.seek(n)
        durations.append(moving.info["duration"])
    assert durations == [200] * 3 + [1000]
    assert moving.info["loop"] == 0
    assert [file.name for file in tmp_path.iterdir()] == ["a.gif"]


@pytest.mark.parametrize("fps", [24, 30, 35, 45])
def test_a_gif_takes_the_time_that_was_asked_for(tmp_path, flow, starts, fps):
    plot.animate(flow(), tmp_path / "a.gif", starts(), fps=fps, seconds=1.0, dpi=20.0)
    durations = []
    with Image.open(tmp_path / "a.gif") as moving:
        for n in range(moving.n_frames - 1):
            moving.seek(n)
            durations.append(moving.info["duration"])
    assert sum(durations) == pytest.approx(1000 * (fps - 1) / fps, abs=10)


def test_a_page_holds_its_frames_and_links_nowhere(tmp_path, flow, starts):
    plot.animate(flow(), tmp_path / "a.html", starts(), **FAST)
    page = (tmp_path / "a.html").read_text()
    found = embedded(page)
    assert len(found) == 4
    assert moves([np.asarray(image) for image in found])
    assert not re.search(r"https?://|<link|src=\"(?!data:)[^\"]|@import", page)
    for icon in set(re.findall(r'class="fa fa-([a-z-]+)', page)):
        assert f".fa-{icon}::before" in page


def test_points_are_where_the_path_is_at_the_time_shown(tmp_path):
    """One point that goes to the right at even speed: the edge of the coloured pixels does so too."""
    path = np.stack([np.linspace(-1, 1, 9), np.zeros(9)], 1)[:, None]
    plot.animate(path, tmp_path / "a.gif", trail=1e-9, fps=5, seconds=1.0)
    edges = []
    for image in frames((tmp_path / "a.gif").read_bytes()):
        # The ring at the start has the same colour, but lies to the left of the point.
        blue = (image[:, :, 2] - image[:, :, 0] > 100).nonzero()[1]
        edges.append(blue.max())
    steps = np.diff(edges)
    assert steps.min() > 20
    assert np.ptp(steps) <= 2


def test_times_of_a_path_are_kept(tmp_path):
    path = np.array([[[-1.0, 0.0]], [[1.0, 0.0]], [[1.0, 0.0]]])

    def last_place(**times):
        plot.animate(path, tmp_path / "a.gif", trail=1e-9, fps=4, seconds=0.75, **times)
        return [(image[:, :, 2] - image[:, :, 0] > 100).nonzero()[1].max() for image in frames_of()]

    def frames_of():
        return frames((tmp_path / "a.gif").read_bytes())[:2]

    start, middle = last_place()
    assert middle > start + 20
    late = last_place(times=[0.0, 2.0, 3.0])
    assert start < late[1] < middle, "three quarters of the way at half of the time"


def test_space_is_animated(tmp_path, flow, starts):
    moved, x = flow(3), starts(dim=3)
    plot.animate(moved, tmp_path / "a.gif", x, y=moved(x).detach(), **FAST)
    found = frames((tmp_path / "a.gif").read_bytes())
    assert len(found) == 4
    assert moves(found)


def test_strokes_follow_the_velocity_drift_and_fresh_fields_included():
    families = [cn.LinearFields(torch.tensor([[[0.0, -1.0], [1.0, 0.0]]])) for _ in range(2)]
    families[1] = cn.LinearFields(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]))
    u = cn.PiecewiseConstantControl(2, 1, values=torch.tensor([[1.0], [3.0]]))

    def ends(time, **drift):
        ax = figure().subplots()
        ax.set(xlim=(-1, 1), ylim=(-1, 1))
        strokes = np.array(draw_strokes(ax, cn.ControlledODE(families, u, **drift), time).get_segments())
        return strokes[:, 0], strokes[:, -1]

    for time in (0.0, 0.49):
        start, end = ends(time)
        np.testing.assert_allclose(np.hypot(*start.T), np.hypot(*end.T), atol=2e-3)
        assert (start[:, 0] * end[:, 1] - start[:, 1] * end[:, 0] > 0).mean() > 0.99
    for time in (0.5, 1.0):
        start, end = ends(time)
        np.testing.assert_allclose(start[:, 0] * end[:, 1], start[:, 1] * end[:, 0], atol=1e-6)
        # Where a stroke begins at the source itself it goes back through it.
        assert (np.hypot(*end.T) > np.hypot(*start.T)).mean() > 0.99
    start, end = ends(0.2, drift=lambda t, x: torch.tensor([1e4, 0.0]).expand_as(x))
    np.testing.assert_allclose(start[:, 1], end[:, 1], atol=1e-3)
    assert (end[:, 0] > start[:, 0]).all()


def test_streamlines_can_be_left_out(tmp_path, flow, starts):
    for name, wanted in (("with", True), ("without", False)):
        plot.animate(flow(), tmp_path / f"{name}.gif", starts(), streamlines=wanted, **FAST)
    many, few = (frames((tmp_path / f"{name}.gif").read_bytes())[3] for name in ("with", "without"))
    assert (many < 250).any(2).sum() > (few < 250).any(2).sum() + 500


def test_a_control_of_zero_stands_still(tmp_path, starts):
    fields = cn.LinearFields.random(2, 2, seed=0, dtype=torch.float64)
    still = cn.ControlledODE(fields, cn.PiecewiseConstantControl(4, 2, values=torch.zeros(4, 2, dtype=torch.float64)))
    plot.animate(still, tmp_path / "a.gif", starts(), **FAST)
    first, *_, last = frames((tmp_path / "a.gif").read_bytes())
    assert (first[40:] == last[40:]).all(), "below the time nothing changes"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("a.mp4", {}, r"'a.mp4', expected a name that ends in .gif or .html"),
        ("a.gif", {"fps": 0}, "fps is 0, expected 1 to 50"),
        ("a.gif", {"fps": 60}, "fps is 60, expected 1 to 50"),
        ("a.gif", {"seconds": 0.01}, "enough for two frames"),
        ("a.gif", {"trail": 0.0}, "trail is 0.0, expected a share"),
        ("a.gif", {"dpi": 0.0}, "dpi is 0.0"),
        ("a.gif", {"dpi": 1}, "dpi is 1, expected at least 20"),
        ("a.gif", {"labels": torch.zeros(4, 2)}, r"labels has shape \(4, 2\)"),
        ("a.gif", {"lam": 2.0}, "no targets y for it"),
        ("a.gif", {"labels": ["a"]}, "labels has 1 entries, expected 4"),
        ("a.gif", {"streamlines": True}, "streamlines=True, expected a ControlledODE in the plane"),
        ("a.gif", {"times": [0.0, 1.0]}, "times must be 3 finite numbers that rise"),
        ("a.gif", {"times": [0.0, 1.0, 1.0]}, "times must be 3 finite numbers that rise"),
        ("a.gif", {"y": np.zeros((3, 2))}, r"y has shape \(3, 2\), expected \(4, 2\)"),
        ("a.gif", {"dims": (0, 3)}, "dims is"),
    ],
)
def test_what_cannot_be_animated_is_refused_and_nothing_is_written(tmp_path, name, change, message, bad_input):
    with pytest.raises(ValueError, match=message):
        plot.animate(np.zeros((3, 4, 2)), tmp_path / name, **change)
    assert not list(tmp_path.iterdir())


def test_a_path_may_be_text(tmp_path):
    plot.animate(np.zeros((3, 4, 2)), str(tmp_path / "a.gif"), **(FAST | {"dpi": 20.0}))
    assert (tmp_path / "a.gif").read_bytes()[:4] == b"GIF8"


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        plot.animate(np.zeros((3, 4, 2)), tmp_path / "nowhere" / "a.gif")


def test_streamlines_of_a_control_a_row_are_refused(tmp_path, starts):
    data = cn.DataControl([0.0, 1.0], torch.rand(1, 2, 2, dtype=torch.float64))
    own = cn.ControlledODE(cn.LinearFields.random(2, 2, seed=0, dtype=torch.float64), data)
    with pytest.raises(ValueError, match="one control for all points"):
        plot.animate(own, tmp_path / "a.gif", starts(1), streamlines=True)
    plot.animate(own, tmp_path / "a.gif", starts(1), **FAST)
    assert moves(frames((tmp_path / "a.gif").read_bytes()))
