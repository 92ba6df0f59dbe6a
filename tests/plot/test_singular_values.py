"""Singular values: curves fall from 1, and the lines stand where numpy's matrix_rank counts."""

import numpy as np
import pytest
import torch

import cde_nets as cn
from cde_nets import plot
from cde_nets.plot.style import figure

HILBERT = 1 / (np.arange(1, 13)[:, None] + np.arange(12))


def uprights(ax):
    return [line.get_xdata()[0] for line in ax.lines if len(set(line.get_xdata())) == 1]


def level(ax):
    (dashed,) = [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "--"]
    return dashed


def test_hilberts_matrix_has_full_rank_and_floats_see_less():
    sigma = np.linalg.svd(HILBERT, compute_uv=False)
    tolerance = 12 * np.finfo(np.float64).eps
    ax = figure().subplots()
    made = plot.singular_values({"Hilbert": sigma[::-1].copy()}, ax, tolerance=tolerance, exact_rank=12)
    assert made is ax
    shown = ax.lines[0].get_xydata()
    np.testing.assert_array_equal(shown[:, 0], np.arange(1, 13))
    np.testing.assert_allclose(shown[:, 1], sigma / sigma[0])
    assert ax.get_yscale() == "log"
    assert int((shown[:, 1] > level(ax)).sum()) == np.linalg.matrix_rank(HILBERT) < 12
    assert uprights(ax) == [12.5]
    assert [text.get_text() for text in ax.texts] == ["tolerance", "exact rank 12"]
    assert ax.get_legend() is None, "one curve needs no name"


def test_several_matrices_share_the_axes_and_zeros_are_left_out():
    ax = plot.singular_values({"a": [2.0, 1.0, 0.0], "b": torch.tensor([3, 6])})
    first, second = (line.get_ydata() for line in ax.lines)
    np.testing.assert_array_equal(first, [1, 0.5, np.nan])
    np.testing.assert_array_equal(second, [1, 0.5])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert not ax.texts, "neither a tolerance nor a rank was named"


@pytest.fixture(scope="module")
def reached():
    fields = cn.PolynomialFields.random(2, 2, 2, seed=0)
    flow = cn.ControlledODE(fields, cn.PiecewiseConstantControl.random(2, 2, scale=0.3, seed=0), "rk4")
    x = torch.rand(5, 2, generator=torch.Generator().manual_seed(0))
    return cn.control_rank(cn.Network(None, [cn.Stage(flow)], cn.DifferenceReadout()), x)


def test_of_a_control_rank_all_is_known(reached):
    ax = plot.singular_values(reached)
    assert int((ax.lines[0].get_ydata() > level(ax)).sum()) == reached.rank
    assert uprights(ax) == [reached.rank + 0.5]
    assert ax.texts[-1].get_text() == f"rank {reached.rank} of {reached.outputs}, in floats"
    exact = plot.singular_values(reached, exact_rank=3)
    assert uprights(exact) == [3.5]
    assert exact.texts[-1].get_text() == "exact rank 3"


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ({}, {}, "values is empty"),
        ({"a": []}, {}, r"a has shape \(0,\)"),
        ({"a": np.eye(2)}, {}, r"a has shape \(2, 2\), expected \(numbers,\)"),
        ({"a": [1.0, -1.0]}, {}, "a: singular values are finite, not negative"),
        ({"a": [1.0, float("nan")]}, {}, "a: singular values are finite"),
        ({"a": [0.0]}, {}, "not all 0"),
        ({"a": [1.0]}, {"tolerance": 2.0}, "tolerance is 2.0, expected a share"),
        ({"a": [1.0]}, {"exact_rank": -1}, "exact_rank is -1"),
    ],
)
def test_what_has_no_picture_is_refused(values, options, message):
    with pytest.raises(ValueError, match=message):
        plot.singular_values(values, **options)


def test_a_tolerance_beside_a_control_rank_is_refused(reached):
    with pytest.raises(ValueError, match="has its own tolerance"):
        plot.singular_values(reached, tolerance=1e-3)
