"""Growth vectors: curves and bars carry the ranks, and say which of them are lower bounds alone."""

from dataclasses import replace

import numpy as np
import pytest
import sympy

import theory
from cde_nets import plot
from cde_nets.plot.style import figure
from theory.bounds import Limit

X, Y = sympy.symbols("x y")
# The rotation and the dilation of the plane commute; with a shear they span all 4 linear fields.
LINEAR = [[Y, -X], [X, Y], [Y, 0]]


def vectors(*counts):
    points = np.arange(12.0).reshape(-1, 2) ** 2 + 1
    return [theory.growth_vector(LINEAR, points[:n], 4, symbols=(X, Y), seed=0) for n in counts]


def open_one():
    """Ranks 3, 4 of which the second might be larger."""
    (found,) = vectors(4)
    return replace(found, ranks=(3, 4), bounds=(found.bounds[0], replace(found.bounds[1], rank=5)))


def test_a_growth_vector_knows_its_dimension_and_points():
    assert [(found.dim, found.points) for found in vectors(1, 3)] == [(2, 1), (2, 3)]


def test_curves_are_the_ranks_with_bounds_behind_and_full_ranks_above():
    one, four = vectors(1, 4)
    # By hand: two of three fields span the plane at one point, so depth 1 is full; gl(2) has dimension 4 and 8 is full.
    assert (one.ranks, four.ranks) == ((2,), (3, 4, 4, 4))
    ax = plot.growth([one, four])
    named = {line.get_label(): line.get_xydata().tolist() for line in ax.lines if not line.get_label().startswith("_")}
    assert named == {"N = 1: 2 of 2": [[1, 2]], "N = 4: 4 of 8": [[1, 3], [2, 4], [3, 4], [4, 4]]}
    broad = [line.get_ydata().tolist() for line in ax.lines if line.get_linewidth() > 5]
    assert broad == [[2], [3, 4, 4, 4]]
    dashed = [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "--"]
    assert dashed == [2, 8]
    assert ax.get_ylim()[1] > 8
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(named)


def test_a_rank_that_is_a_lower_bound_alone_is_hollow():
    ax = plot.growth([open_one()], legend=False)
    (hollow,) = [line for line in ax.lines if line.get_markerfacecolor() == "white"]
    assert hollow.get_xydata().tolist() == [[2, 4]]
    assert ax.get_legend() is None


def test_m_is_said_where_it_is_not_the_same():
    (plane,) = vectors(1)
    (line,) = (theory.growth_vector([[1]], [[0.0], [1.0]], 1, symbols=(X,), seed=0),)
    labels = [text.get_text() for text in plot.growth([plane, line]).get_legend().get_texts()]
    assert labels == ["m = 2, N = 1: 2 of 2", "m = 1, N = 2: 1 of 2"]


def test_bars_have_the_colour_of_what_stops_them():
    (found,) = vectors(4)
    ax = figure().subplots()
    assert plot.growth_bars(found, ax) is ax
    assert [bar.get_height() for bar in ax.patches] == [3, 4, 4, 4]
    colours = [bar.get_facecolor() for bar in ax.patches]
    assert colours[1] == colours[2] == colours[3] != colours[0]
    keys = {key.get_label(): key.get_facecolor() for key in ax.get_legend().legend_handles}
    assert keys == {Limit.LETTERS.value: colours[0], Limit.LINEAR.value: colours[1]}
    assert [text.get_text() for text in ax.texts] == ["3", "4", "4", "4", "mN = 8"]


def test_bars_of_lower_bounds_are_grey_and_say_so():
    ax = plot.growth_bars(open_one())
    assert [text.get_text() for text in ax.texts][:2] == ["3", "≥4"]
    assert ax.patches[1].get_facecolor()[:3] == pytest.approx([0xBB / 0xFF] * 3)
    assert [text.get_text() for text in ax.get_legend().get_texts()][-1] == "a lower bound only"


def test_every_limit_of_ranks_by_depth_has_a_colour_of_its_own():
    from cde_nets.plot.growth import _COLOURS

    assert set(Limit) - set(_COLOURS) == {Limit.ZEROS, Limit.DRIFT}, "which by_depth does not give"
    assert len(set(_COLOURS.values())) == len(_COLOURS)


def test_no_vectors_are_refused():
    with pytest.raises(ValueError, match="vectors is empty"):
        plot.growth([])
