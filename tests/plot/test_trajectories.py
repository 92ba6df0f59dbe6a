"""Paths, targets and streamlines: the artists' data against the flow's states and the fields' velocity."""

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection, PathCollection

import cde_nets as cn
from cde_nets import plot
from cde_nets.plot.style import figure


def lines(ax):
    return next(c for c in ax.collections if isinstance(c, LineCollection))


def markers(ax):
    return [c for c in ax.collections if isinstance(c, PathCollection)]


def places(collection):
    """Positions of markers in the plane or in space."""
    if hasattr(collection, "_offsets3d"):
        return np.ma.getdata(np.stack([np.asarray(axis) for axis in collection._offsets3d], 1))
    return np.ma.getdata(collection.get_offsets())


def test_lines_are_the_flows_paths_and_markers_its_ends(flow, starts):
    moved, x = flow(), starts()
    ax = plot.trajectories(moved, x)
    path = moved.trajectory(x).numpy()
    assert path.shape == (9, 6, 2)
    for row, line in enumerate(lines(ax).get_segments()):
        np.testing.assert_array_equal(line, path[:, row])
    first, last = markers(ax)
    np.testing.assert_array_equal(places(first), x.numpy())
    np.testing.assert_allclose(places(last), moved(x).detach().numpy(), rtol=0, atol=1e-14)
    # Hollow where it starts: white inside, the line's colour around.
    np.testing.assert_array_equal(first.get_facecolors(), [[1, 1, 1, 1]])
    np.testing.assert_array_equal(first.get_edgecolors(), lines(ax).get_colors())
    np.testing.assert_array_equal(last.get_facecolors(), lines(ax).get_colors())
    assert ax.get_aspect() == 1
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$x_{1}$", "$x_{2}$")


@pytest.mark.parametrize("points", [7, 50])
def test_each_point_has_a_colour_of_its_own(points):
    path = np.random.default_rng(0).random((3, points, 2))
    assert len(np.unique(lines(plot.trajectories(path)).get_colors(), axis=0)) == points


def test_points_of_one_label_share_a_colour_and_are_named():
    ax = plot.trajectories(np.random.default_rng(0).random((3, 4, 2)), labels=["b", "a", "b", 3])
    colours = lines(ax).get_colors()
    assert np.array_equal(colours[0], colours[2])
    assert len(np.unique(colours, axis=0)) == 3
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["b", "a", "3"]


def test_all_of_the_path_is_seen():
    path = np.array([[[0.0, 0.0]], [[10.0, 0.0]], [[0.0, 0.0]]])
    ax = plot.trajectories(path)
    assert ax.get_xlim()[0] < 0 < 10 < ax.get_xlim()[1]
    assert ax.get_ylim()[0] == -ax.get_ylim()[1]
    plot.trajectories(path - 50, ax=ax)
    assert ax.get_xlim()[0] < -50 < 10 < ax.get_xlim()[1], "what was there is still seen"


def test_paths_in_space(flow, starts):
    moved, x = flow(3), starts(dim=3)
    ax = plot.trajectories(moved, x)
    assert ax.name == "3d"
    path = moved.trajectory(x).numpy()
    np.testing.assert_array_equal(np.asarray(lines(ax)._segments3d), path.swapaxes(0, 1))
    first, last = markers(ax)
    np.testing.assert_array_equal(places(first), path[0])
    np.testing.assert_array_equal(places(last), path[-1])
    assert ax.get_zlabel() == "$x_{3}$"
    spans = np.ptp([ax.get_xlim(), ax.get_ylim(), ax.get_zlim()], axis=1)
    np.testing.assert_allclose(ax.get_box_aspect() / ax.get_box_aspect()[0], spans / spans[0], rtol=0.1)


def test_chosen_coordinates():
    path = torch.rand(5, 4, 6)
    ax = plot.trajectories(path, dims=(4, 1))
    np.testing.assert_allclose(lines(ax).get_segments()[2], path[:, 2, [4, 1]].numpy())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$x_{5}$", "$x_{2}$")
    assert plot.trajectories(path, dims=(0, 1, 5)).name == "3d"


@pytest.mark.parametrize("points", [5, 20])
def test_targets_of_the_difference_readout(flow, starts, points):
    moved, x = flow(), starts(points)
    left = torch.zeros_like(x)
    left[2] = torch.tensor([0.03, -0.04])
    y = 5 * (moved(x).detach() + left - x)
    ax = plot.targets(moved, x, y, lam=5.0)
    first, last, goals = markers(ax)
    np.testing.assert_array_equal(places(first), x.numpy())
    np.testing.assert_allclose(places(last), moved(x).detach().numpy(), rtol=0, atol=1e-14)
    np.testing.assert_allclose(places(goals), (x + y / 5).numpy(), rtol=0, atol=1e-14)
    assert ax.get_title() == f"{points} points, largest distance left 0.05"
    assert len(np.unique(goals.get_edgecolors(), axis=0)) == points
    np.testing.assert_array_equal(goals.get_edgecolors(), lines(ax).get_colors())
    shapes = {path.vertices.tobytes() for path in last.get_paths()}
    assert len(shapes) == (5 if points > 7 else 1), "colours that are alike get help from shapes"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["start", "end", "target"]


def test_targets_of_the_identity_in_space(flow, starts):
    moved, x = flow(3), starts(dim=3)
    y = moved(x).detach()
    y[1, 2] += 0.5
    ax = plot.targets(moved, x, y)
    np.testing.assert_array_equal(places(markers(ax)[2]), y.numpy())
    assert "largest distance left 0.5" in ax.get_title()
    # What is not drawn still counts.
    assert "largest distance left 0.5" in plot.targets(moved, x, y, dims=(0, 1)).get_title()


def rotation():
    """V_1 = (-y, x), V_2 = (x, y)."""
    matrices = torch.tensor([[[0.0, -1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
    return cn.LinearFields(matrices)


def test_streamlines_of_a_rotation_are_circles():
    ax = plot.streamlines(rotation(), torch.tensor([2.0, 0.0]))
    assert ax.get_xlim() == ax.get_ylim() == (-1, 1)
    outermost = 0.0
    for line in ax.collections[0].get_segments():
        radius = np.hypot(*line.T)
        np.testing.assert_allclose(radius, radius[0], atol=0.02)
        outermost = max(outermost, radius[0])
    assert outermost > 0.9
    # Anticlockwise: each arrow's head is a quarter turn ahead of its place.
    for arrow in ax.patches:
        tail, head = np.array(arrow._posA_posB)
        assert tail[0] * head[1] - tail[1] * head[0] > 0


def test_streamlines_of_a_unit_control_are_those_of_one_field():
    # Rays from the origin.
    for line in plot.streamlines(rotation(), torch.tensor([0.0, 1.0])).collections[0].get_segments():
        np.testing.assert_allclose(line[0, 0] * line[:, 1], line[0, 1] * line[:, 0], atol=2e-3)


def test_streamlines_fill_the_axes_and_lie_under_all(flow, starts):
    ax = plot.trajectories(flow(), starts())
    shown = ax.get_xlim(), ax.get_ylim()
    drawn = set(ax.collections)
    plot.streamlines(rotation(), torch.ones(2), ax)
    assert (ax.get_xlim(), ax.get_ylim()) == shown
    (under,) = set(ax.collections) - drawn
    assert under.get_zorder() < min(c.get_zorder() for c in drawn)
    assert all(arrow.get_zorder() < 1 for arrow in ax.patches)


def test_streamlines_within_limits():
    ax = plot.streamlines(rotation(), torch.ones(2), limits=((2.0, 3.0), (-1.0, 0.0)))
    assert (ax.get_xlim(), ax.get_ylim()) == ((2, 3), (-1, 0))
    corners = np.concatenate(ax.collections[0].get_segments())
    assert (corners >= [2 - 1e-9, -1 - 1e-9]).all()
    assert (corners <= [3 + 1e-9, 1e-9]).all()


def test_a_control_of_zero_has_no_streamlines():
    ax = plot.streamlines(rotation(), torch.zeros(2))
    assert not ax.collections
    assert not ax.patches


@pytest.mark.parametrize("made", [torch.tensor, np.array, list])
def test_equal_labels_share_a_colour_whatever_holds_them(flow, starts, made):
    ax = plot.trajectories(flow(), starts(), labels=made([7, 7, 3, 7, 3, 3]))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["7", "3"]
    first, second = (key.get_markeredgecolor() for key in ax.get_legend().legend_handles)
    drawn = ax.collections[-1].get_facecolors()
    np.testing.assert_allclose(drawn, np.array([first, first, second, first, second, second]))


def test_one_point_is_not_many(flow, starts):
    x = starts(1)
    assert plot.targets(flow(), x, x).get_title().startswith("1 point, ")
    assert plot.targets(flow(), starts(2), starts(2)).get_title().startswith("2 points, ")


PATH = np.zeros((3, 4, 2))


@pytest.mark.parametrize(
    ("path", "arguments", "message"),
    [
        (PATH[0], {}, r"shape \(4, 2\), expected \(times, points, dim\)"),
        (PATH[:1], {}, "two times or more"),
        (PATH[:, :, :1], {}, "1 coordinate, expected 2 or more"),
        (np.zeros((3, 4, 5)), {}, r"5 coordinates and a picture 2 or 3: choose them, as dims=\(0, 1\)"),
        (PATH, {"dims": (0, 2)}, "dims is .* from 0 to 1"),
        (PATH, {"dims": (1, 1)}, "different numbers"),
        (PATH, {"dims": 2}, "dims is 2, expected two or three"),
        (PATH, {"dims": (0.0, 1.0)}, r"dims is \(0.0, 1.0\), expected two or three"),
        (PATH, {"dims": (False, True)}, r"dims is \(False, True\), expected"),
        (PATH, {"labels": torch.zeros(4, 1)}, r"labels has shape \(4, 1\), expected \(4,\)"),
        (PATH, {"labels": [1, 2]}, "labels has 2 entries, expected 4"),
        (PATH, {"x": torch.zeros(4, 2)}, "got x as well: drop it"),
        (PATH + 1j, {}, "complex and pictures are real"),
        ([[0.0]], {}, "Expected a ControlledODE, or a path .* got a list"),
        (PATH, {"ax": "3d"}, r"2 coordinates need flat axes; got Axes3D"),
        (np.zeros((3, 4, 3)), {"ax": None}, "3 coordinates need axes with projection='3d'"),
    ],
)
def test_what_has_no_picture_is_refused(path, arguments, message, bad_input):
    if "ax" in arguments:
        arguments = {"ax": figure().add_subplot(projection=arguments["ax"])}
    with pytest.raises(ValueError, match=message):
        plot.trajectories(path, **arguments)


def test_a_path_that_is_not_finite_is_refused_with_row_and_time():
    path = PATH.copy()
    path[1, 3, 0] = np.nan
    with pytest.raises(ValueError, match=r"row 3 is not finite at t = 0.5: \[nan, 0.0\]"):
        plot.trajectories(path)


def test_flows_are_refused_without_fitting_starts(flow, bad_input):
    with pytest.raises(ValueError, match=r"points to start from: x of shape \(points, 2\)"):
        plot.trajectories(flow())
    with pytest.raises(ValueError, match=r"x must be a tensor of shape \(points, 2\), points >= 1; got shape \(4, 3\)"):
        plot.trajectories(flow(), torch.zeros(4, 3))


def test_rows_that_blow_up_are_refused():
    square = cn.PolynomialFields.random(2, 1, 3, seed=0, dtype=torch.float64)
    u = cn.PiecewiseConstantControl(5, 1, values=torch.full((5, 1), 1e3, dtype=torch.float64))
    x = torch.tensor([[0.0, 0.0], [1e3, 1e3]], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"Row \d of 2 failed on its way"):
        plot.trajectories(cn.ControlledODE(square, u, throw=False), x)
    with pytest.raises(cn.DivergedError):
        plot.trajectories(cn.ControlledODE(square, u), x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": torch.zeros(5, 2)}, r"y has shape \(5, 2\), expected \(6, 2\)"),
        ({"y": torch.full((6, 2), float("inf"))}, "y: row 0 is not finite"),
        ({"lam": 0.0}, "lam is 0.0, expected a finite number other than zero"),
    ],
)
def test_targets_that_do_not_fit_are_refused(flow, starts, change, message, bad_input):
    arguments = {"y": torch.zeros(6, 2)} | change
    with pytest.raises(ValueError, match=message):
        plot.targets(flow(), starts(), **arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fields": cn.LinearFields.random(3, 2, seed=0)}, r"fields on R\^2; got fields on R\^3"),
        ({"u": torch.ones(3)}, r"u has shape \(3,\), expected \(2,\)"),
        ({"limits": ((0.0, 0.0), (0.0, 1.0))}, "limits is .* finite and rising"),
        ({"limits": ((0.0, 1.0),)}, r"limits is .* expected \(\(left, right\), \(bottom, top\)\)"),
        ({"limits": ((0.0, 1.0),) * 3}, r"limits is .* expected \(\(left, right\), \(bottom, top\)\)"),
        ({"limits": "ab"}, "limits is ab, expected"),
        ({"density": 0.0}, "density is 0.0, expected a positive number"),
        ({"u": torch.tensor([float("nan"), 0.0])}, "is not finite"),
    ],
)
def test_what_has_no_streamlines_is_refused(change, message, bad_input):
    with pytest.raises(ValueError, match=message):
        plot.streamlines(**({"fields": rotation(), "u": torch.ones(2)} | change))
