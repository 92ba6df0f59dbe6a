"""Cobwebs: corners on the graph and on the diagonal, a graph without a line through its pole."""

import numpy as np
import pytest
import torch

import cde_nets as cn
from cde_nets import plot
from cde_nets.plot.style import figure


def orbit(f, x, steps):
    found = [x]
    for _ in range(steps):
        found.append(f(found[-1]))
    return np.array(found)


def lines(ax):
    return {line.get_label(): line.get_xydata() for line in ax.lines}


def test_corners_lie_on_the_graph_and_on_the_diagonal():
    x = orbit(np.cos, 0.2, 7)
    ax = plot.cobweb(torch.cos, x)
    stairs = lines(ax)["iterates"]
    assert stairs.shape == (15, 2)
    np.testing.assert_array_equal(stairs[0::2], np.stack([x, x], 1))
    np.testing.assert_array_equal(stairs[1::2], np.stack([x[:-1], x[1:]], 1))
    # Every leg is vertical or horizontal, and the vertical ones end on the graph.
    legs = np.diff(stairs, axis=0)
    assert (legs[0::2, 0] == 0).all()
    assert (legs[1::2, 1] == 0).all()
    np.testing.assert_allclose(stairs[1::2, 1], np.cos(stairs[1::2, 0]), rtol=0, atol=1e-15)
    graph = lines(ax)["f(x)"]
    np.testing.assert_allclose(graph[:, 1], np.cos(graph[:, 0]), rtol=0, atol=1e-15)
    first, last = ax.lines[-2:]
    np.testing.assert_array_equal(first.get_xydata(), [[x[0], x[0]]])
    np.testing.assert_array_equal(last.get_xydata(), [[x[-1], x[-1]]])
    assert first.get_markerfacecolor() == "white"
    assert last.get_markerfacecolor() == last.get_color()
    assert ax.get_xlim() == ax.get_ylim()
    assert ax.get_xlim()[0] < x.min() < x.max() < ax.get_xlim()[1]
    assert ax.get_aspect() == 1


def test_a_solvers_trace_is_drawn_in_given_axes():
    start = torch.tensor([[1.0]], dtype=torch.float64)
    halves = cn.FixedPointProblem(lambda x: (x + 3) / 2, start)
    found = cn.solve(halves, cn.Picard(), save_at=cn.SaveAt(steps=True))
    ax = figure().subplots()
    assert plot.cobweb(lambda x: (x + 3) / 2, found.trace.values[:, 0, 0], ax, limits=(0.0, 4.0)) is ax
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 4), (0, 4))
    np.testing.assert_allclose(lines(ax)["iterates"][::2, 0], 3 - 2.0 ** (1 - np.arange(len(found.trace.values))))


def test_no_line_joins_the_two_sides_of_a_pole():
    ax = plot.cobweb(lambda x: 1 / (x - 1), orbit(lambda x: 1 / (x - 1), 3.0, 4), limits=(-2.0, 4.0))
    graph = lines(ax)["f(x)"]
    left, right = graph[graph[:, 0] < 1], graph[graph[:, 0] > 1]
    assert np.isnan(left[-1, 1])
    assert np.isnan(right[0, 1])
    # It leaves the picture all the same.
    assert np.nanmin(left[:, 1]) < -2
    assert np.nanmax(right[:, 1]) > 4


def test_iterates_that_stand_still_have_a_picture():
    ax = plot.cobweb(lambda x: x, np.zeros(3))
    assert ax.get_xlim()[0] < 0 < ax.get_xlim()[1]


def test_damped_iterates_belong_to_the_damped_map():
    x = orbit(lambda x: x + 0.5 * (np.cos(x) - x), 0.2, 5)
    plot.cobweb(lambda x: x + 0.5 * (torch.cos(x) - x), x)
    with pytest.raises(ValueError, match=r"not those of f: x_1 is 0.59.*, and f\(x_0\) is 0.98.*damped map"):
        plot.cobweb(torch.cos, x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"iterates": np.zeros(1)}, r"shape \(1,\), expected \(steps \+ 1,\)"),
        ({"iterates": np.zeros((3, 1))}, r"shape \(3, 1\)"),
        ({"iterates": np.array([0.0, np.inf])}, "x_1 is not finite: inf"),
        ({"limits": (1.0, 1.0)}, "two finite and rising"),
        ({"limits": (0.0, np.inf)}, "two finite and rising"),
        ({"f": lambda x: x.sum()}, r"shape \(\) of shape \(2, 1\)"),
        ({"ax": "3d"}, "flat axes; got Axes3D"),
    ],
)
def test_what_has_no_cobweb_is_refused(arguments, message, bad_input):
    if "ax" in arguments:
        arguments = {"ax": figure().add_subplot(projection=arguments["ax"])}
    with pytest.raises(ValueError, match=message):
        plot.cobweb(**({"f": lambda x: 0 * x, "iterates": np.zeros(3)} | arguments))
