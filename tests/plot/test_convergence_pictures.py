"""Convergence: residuals that are those of the map, slopes that are those of the orders."""

import numpy as np
import pytest
import torch

import cde_nets as cn
from cde_nets import plot
from cde_nets.plot.convergence import slope
from cde_nets.plot.style import figure, look

TRACE = cn.SaveAt(steps=True)


def halving(method=None, **options):
    """Two rows of x = x/2, from 1 and from 8: residuals x/2."""
    start = torch.tensor([[1.0], [8.0]], dtype=torch.float64)
    return cn.solve(cn.FixedPointProblem(lambda x: x / 2, start), method or cn.Picard(steps=5), **options)


def curves(ax):
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def test_picard_on_a_halving_falls_by_halves():
    ax = figure().subplots()
    solved = {"Picard": halving(save_at=TRACE), "Newton": halving(cn.Newton(), save_at=TRACE)}
    assert plot.convergence(solved, ax, tolerance=1e-3) is ax
    # The largest of the two rows: 4, 2, 1, ..
    np.testing.assert_allclose(curves(ax)["Picard"].get_xydata(), [[k, 4 * 0.5**k] for k in range(6)])
    # Newton is there at once: what is left is 0, which has no place here.
    assert curves(ax)["Newton"].get_ydata()[0] == 4
    assert np.isnan(curves(ax)["Newton"].get_ydata()[-1])
    assert ax.get_yscale() == "log"
    assert [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == ":"] == [1e-3]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["Picard", "Newton"]


def test_linear_methods_have_residuals_too():
    problem = cn.LinearProblem(lambda w: w / 4, torch.tensor([[1.0]], dtype=torch.float64))
    ax = plot.convergence({"Neumann": cn.solve(problem, cn.Neumann(3), save_at=TRACE)}, legend=False)
    # Neumann's residual is the last term of sum 4**-k that it has added.
    np.testing.assert_allclose(ax.lines[0].get_ydata(), 0.25 ** np.arange(4))
    assert ax.get_legend() is None


def test_pairs_may_be_of_work_or_time_and_names_keep_their_look():
    series = ["Picard", "Anderson", "Newton"]
    ax = plot.convergence({"Newton": ([1, 9, 17], [1.0, float("inf"), 1e-4])}, among=series)
    line = curves(ax)["Newton"]
    np.testing.assert_array_equal(line.get_xydata(), [[1, 1], [9, np.nan], [17, 1e-4]])
    assert (line.get_color(), line.get_marker()) == tuple(look(2).values())


def test_curves_are_told_apart():
    assert len({tuple(look(n).values()) for n in range(64)}) == 64


def test_slopes_are_the_orders_of_eulers_and_heuns_methods():
    """Of x' = x the methods' errors are known: (1 + h)^n and (1 + h + h^2/2)^n against e."""
    n = np.array([16, 32, 64, 128, 256])
    h = 1 / n
    measured = {
        "euler": (h, np.e - (1 + h) ** n),
        "heun": (torch.tensor(h), torch.tensor(np.e - (1 + h + h**2 / 2) ** n)),
    }
    ax = plot.orders(measured, {"euler": 1, "heun": 2})
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    for (name, order), line in zip({"euler": 1, "heun": 2}.items(), curves(ax).values(), strict=True):
        fine = np.log(line.get_xydata()[-3:])
        by_hand = np.polyfit(*fine.T, 1)[0]
        assert line.get_label() == f"{name} ({order}): {by_hand:.2f}"
        assert by_hand == pytest.approx(order, abs=0.02)
    dotted = [np.log(line.get_xydata()) for line in ax.lines if line.get_linestyle() == ":"]
    assert [float(np.diff(line[:, 1])[0] / np.diff(line[:, 0])[0]) for line in dotted] == pytest.approx([1, 2])
    assert [text.get_text() for text in ax.texts] == ["$h$", "$h^{2}$"]
    for (widths, errors), line in zip(measured.values(), dotted, strict=True):
        above = np.interp(np.log(np.asarray(widths))[::-1], *line.T)
        assert (above > np.log(np.asarray(errors))[::-1]).all()


def test_slopes_leave_out_what_rounding_has_made():
    widths = np.array([1.0, 0.5, 0.25, 0.125, 0.0625])
    errors = [1.0, 1 / 8, 1 / 64, 1e-13, 2e-13]
    assert slope(widths, errors) == pytest.approx(3)
    with pytest.raises(ValueError, match="rk4: 0 of 5 errors above 2, expected two or more"):
        slope(widths, errors, floor=2.0, name="rk4")


@pytest.mark.parametrize(
    ("solved", "options", "message"),
    [
        ({}, {}, "solved is empty"),
        ({"a": halving()}, {}, r"a: the solution has no trace of residuals.*save_at=cn.SaveAt\(steps=True\)"),
        ({"a": ([0, 1], [1.0])}, {}, "a: 1 residuals at 2 steps"),
        ({"a": ([0], [-1.0])}, {}, "a: residuals are norms; got -1"),
        ({"a": ([0], [0.0])}, {}, "a: no residual is positive and finite"),
        ({"a": ([0], [1.0])}, {"tolerance": 0.0}, "tolerance is 0.0"),
        ({"a": ([0], [1.0])}, {"among": ["b", "c"]}, "among has b, c, and not a"),
    ],
)
def test_what_has_no_residuals_is_refused(solved, options, message):
    with pytest.raises(ValueError, match=message):
        plot.convergence(solved, **options)


def test_a_flow_is_shown_the_way():
    flow = cn.InitialValueProblem(lambda t, x: -x, torch.ones(1, 1))
    solution = cn.solve(flow, cn.RungeKutta("rk4", steps=2), save_at=TRACE)
    with pytest.raises(ValueError, match=r"plot\.orders"):
        plot.convergence({"flow": solution})


@pytest.mark.parametrize(
    ("measured", "expected", "message"),
    [
        ({}, {}, "measured is empty"),
        ({"a": ([1.0, 0.5], [1.0, 0.5])}, {"b": 1}, "expected has no order for a"),
        ({"a": ([1.0, 0.5], [1.0])}, {"a": 1}, "a: 1 errors at 2 step widths"),
        ({"a": ([1.0, 0.5], [1.0, 0.0])}, {"a": 1}, "a: errors must be finite and positive"),
        ({"a": ([1.0, -0.5], [1.0, 0.5])}, {"a": 1}, "a: step widths must be finite and positive"),
        ({"a": ([1.0, 0.5], [1.0, 1e-13])}, {"a": 1}, "a: 1 of 2 errors above 1e-12"),
    ],
)
def test_what_has_no_order_is_refused(measured, expected, message):
    with pytest.raises(ValueError, match=message):
        plot.orders(measured, expected)
