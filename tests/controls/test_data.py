"""u(t) from data, a control a row."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicHermiteSpline, CubicSpline, interp1d

from cde_nets.controls import DataControl

F64 = torch.float64
INTERPOLATIONS = ("linear", "hermite", "cubic")


def interpolant(name, knots, path, derivative):
    """SciPy's; path of shape (batch, knots, count), values of shape (times, batch, count)."""
    values = np.moveaxis(path, 1, 0)
    change = np.diff(values, axis=0) / np.diff(knots)[:, None, None]
    if name == "cubic":
        return CubicSpline(knots, values, bc_type="natural").derivative(int(derivative))
    if name == "linear":
        if not derivative:
            return interp1d(knots, values, axis=0, fill_value="extrapolate")
        return lambda t: change[np.clip(np.searchsorted(knots, t, side="right") - 1, 0, len(knots) - 2)]
    # Backward differences do not give one slope a knot but one a piece's end: each piece is a spline of its own.
    starts = np.concatenate([change[:1], change[:-1]])
    pieces = [
        CubicHermiteSpline(knots[n : n + 2], values[n : n + 2], np.stack([starts[n], change[n]])).derivative(
            int(derivative)
        )
        for n in range(len(knots) - 1)
    ]

    def call(times):
        n = np.clip(np.searchsorted(knots, times, side="right") - 1, 0, len(knots) - 2)
        return np.stack([pieces[i](t) for i, t in zip(n, times, strict=True)])

    return call


def knots_of(rng, size):
    return np.cumsum(0.05 + rng.exponential(size=size)) - 3


@pytest.mark.parametrize("name", INTERPOLATIONS)
@pytest.mark.parametrize("derivative", [True, False])
@settings(derandomize=True, deadline=None, max_examples=25)
@given(size=st.integers(2, 25), batch=st.integers(1, 4), count=st.integers(1, 3), seed=st.integers(0, 999))
def test_against_scipy(name, derivative, size, batch, count, seed):
    rng = np.random.default_rng(seed)
    knots, path = knots_of(rng, size), rng.standard_normal((batch, size, count))
    control = DataControl(knots, torch.tensor(path), interpolation=name, derivative=derivative)
    assert (control.rows, control.count, control.span) == (batch, count, (knots[0], knots[-1]))
    assert control.breakpoints == tuple(knots[1:-1])
    times = np.concatenate([rng.uniform(knots[0], knots[-1], 30), knots])
    want = interpolant(name, knots, path, derivative)(times)
    got = control.at(torch.tensor(times)[:, None])
    np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-9)
    if name == "hermite":
        # So does the piece on the left end where it should.
        left = control.at(torch.tensor(knots[1:, None]), torch.tensor((knots[1:] + knots[:-1])[:, None] / 2))
        np.testing.assert_allclose(left, control.at(torch.tensor(knots[1:, None])), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_each_row_at_its_own_times(name):
    rng = np.random.default_rng(0)
    knots, path = knots_of(rng, 6), rng.standard_normal((4, 6, 2))
    control = DataControl(knots, torch.tensor(path), interpolation=name)
    times = torch.tensor(rng.uniform(knots[0], knots[-1], (7, 4)))
    got = control.at(times)
    for b in range(4):
        one = DataControl(knots, torch.tensor(path[b : b + 1]), interpolation=name)
        torch.testing.assert_close(got[:, b], one.at(times[:, b : b + 1])[:, 0])


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_the_integral_of_the_derivative_is_the_change_of_the_path(name):
    rng = np.random.default_rng(1)
    knots, path = knots_of(rng, 9), rng.standard_normal((3, 9, 2))
    nodes, weights = np.polynomial.legendre.leggauss(3)
    for mesh in (knots, knots[::-1]):
        u = DataControl(knots, torch.tensor(path), interpolation=name).on_mesh(
            mesh.tolist(), ((nodes + 1) / 2).tolist()
        )
        change = np.einsum("sjbc,j,s->bc", u.numpy(), weights / 2, np.diff(mesh))
        np.testing.assert_allclose(change, (path[:, -1] - path[:, 0]) * (1 if mesh is knots else -1), atol=1e-12)


@pytest.mark.parametrize("name", INTERPOLATIONS)
@pytest.mark.parametrize("derivative", [True, False])
@pytest.mark.parametrize("size", [2, 3, 6])
def test_gradients_flow_to_the_path(name, derivative, size):
    rng = np.random.default_rng(2)
    knots = knots_of(rng, size)
    path = torch.tensor(rng.standard_normal((2, size, 2)), requires_grad=True)
    times = torch.tensor(np.concatenate([rng.uniform(knots[0], knots[-1], 5), knots]))[:, None]

    def u(path):
        return DataControl(knots, path, interpolation=name, derivative=derivative).at(times)

    assert torch.autograd.gradcheck(u, path)


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_a_solver_may_take_the_gradient_of_the_leaves_piece_by_piece(name):
    """As a backward pass with no graph of its own does: many small products, then one walk back to the path."""
    rng = np.random.default_rng(3)
    knots = knots_of(rng, 6)
    path = torch.tensor(rng.standard_normal((2, 6, 2)), requires_grad=True)
    scaled = path * 2
    times = torch.tensor(rng.uniform(knots[0], knots[-1], 8))
    control = DataControl(knots, scaled, interpolation=name)
    total = [torch.zeros_like(leaf) for leaf in control.leaves]
    for t in times:
        found = torch.autograd.grad(control.at(t[None]).square().sum(), control.leaves)
        total = [a + b for a, b in zip(total, found, strict=True)]
    torch.autograd.backward(control.leaves, total)
    fresh = DataControl(knots, path * 2, interpolation=name).at(times[:, None]).square().sum()
    torch.testing.assert_close(path.grad, torch.autograd.grad(fresh, path)[0])


def test_hermite_pieces_do_not_look_ahead():
    rng = np.random.default_rng(4)
    knots, path = np.arange(6.0), rng.standard_normal((1, 6, 1))
    other = path.copy()
    other[:, 4:] += 1
    times = torch.linspace(0, 3, 50, dtype=F64)[:, None]
    inside = times.clamp(max=2.9)
    for name, same in (("linear", True), ("hermite", True), ("cubic", False)):
        one, two = (DataControl(knots, torch.tensor(p), interpolation=name).at(times, inside) for p in (path, other))
        assert torch.equal(one, two) == same


@pytest.mark.parametrize("name", INTERPOLATIONS)
@pytest.mark.parametrize("derivative", [True, False])
def test_straight_data_is_met_exactly(name, derivative):
    knots = np.array([0.0, 0.1, 0.5, 2.0])
    slope = np.array([1.5, -2.0])
    path = torch.tensor(knots[:, None] * slope)[None]
    control = DataControl(knots, path, interpolation=name, derivative=derivative)
    times = torch.linspace(-0.1, 2.1, 30, dtype=F64)
    want = torch.tensor(slope).expand(30, 2) if derivative else times[:, None] * torch.tensor(slope)
    torch.testing.assert_close(control.at(times[:, None])[:, 0], want, rtol=0, atol=1e-13)


def test_which_controls_jump():
    knots, path = [0.0, 1.0, 2.0], torch.rand(1, 3, 1)
    jumps = {
        (n, d): DataControl(knots, path, interpolation=n, derivative=d).jumps
        for n in INTERPOLATIONS
        for d in (True, False)
    }
    assert [key for key, value in jumps.items() if value] == [("linear", True)]
    assert not DataControl(knots[:2], path[:, :2]).jumps


def test_a_long_spline_of_wildly_uneven_knots():
    rng = np.random.default_rng(5)
    knots = np.cumsum(10.0 ** rng.uniform(-5, 2, 400))
    path = rng.standard_normal((2, 400, 1))
    control = DataControl(knots, torch.tensor(path), interpolation="cubic", derivative=False)
    times = rng.uniform(knots[0], knots[-1], 200)
    want = CubicSpline(knots, np.moveaxis(path, 1, 0), bc_type="natural")(times)
    np.testing.assert_allclose(control.at(torch.tensor(times)[:, None]), want, rtol=1e-7, atol=1e-7 * abs(want).max())


@pytest.mark.parametrize(
    "times", [[0.0, 1.0, 3.0], torch.tensor([0, 1, 3]), np.array([0, 1, 3]), torch.tensor([0.0, 1, 3])]
)
def test_times_come_in_any_form(times):
    control = DataControl(times, torch.tensor([[[0.0], [1.0], [5.0]]]))
    assert control.times == (0.0, 1.0, 3.0)
    assert control.at(torch.tensor([[0.5], [2.0]], dtype=F64)).flatten().tolist() == [1, 2]


def test_casting_keeps_the_knots():
    knots = np.cumsum(np.full(20, 0.1))
    path = torch.rand(1, 20, 1, dtype=F64)
    control = DataControl(knots, path, interpolation="hermite").float().double()
    got = control.at(torch.tensor(knots)[:, None])
    torch.testing.assert_close(
        got, DataControl(knots, path, interpolation="hermite").at(torch.tensor(knots)[:, None]), rtol=1e-5, atol=1e-5
    )
    assert control._knots.tolist() == knots.tolist()


def test_moving_keeps_the_way_back_to_the_path():
    path = torch.rand(1, 4, 1, requires_grad=True)
    control = DataControl([0.0, 1.0, 2.0, 3.0], path, interpolation="cubic").double()
    control.at(torch.tensor([0.5], dtype=F64)).sum().backward()
    assert bool(path.grad.any())


def test_nothing_trains_and_no_data_is_saved():
    control = DataControl([0.0, 1.0], torch.rand(2, 2, 1))
    assert list(control.parameters()) == []
    assert control.state_dict() == {}


def test_the_path_is_not_watched():
    path = torch.zeros(1, 2, 1)
    control = DataControl([0.0, 1.0], path, derivative=False)
    path.fill_(7)
    assert not control.at(torch.tensor([0.5], dtype=F64)).any()


def missing(*rows):
    path = torch.zeros(9, 4, 2)
    for n, row in enumerate(rows):
        path[row, n % 4, n % 2] = torch.nan if n % 2 == 0 else torch.inf
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"times": [0.0, 1.0, 1.0, 2.0]}, r"strictly increase; times\[1\] = 1 is followed by 1\. Sort"),
        ({"times": [0.0, 3.0, 1.0, 2.0]}, r"times\[1\] = 3 is followed by 1"),
        ({"times": [0.0, 1.0, float("nan"), 2.0]}, r"times must be finite; times\[2\] is not"),
        ({"times": [0.0], "path": torch.zeros(1, 1, 1)}, r"at least 2 knots; got shape \(1,\)"),
        ({"times": torch.zeros(2, 4)}, r"shape \(knots,\) .*got shape \(2, 4\)"),
        ({"times": ["a", "b"]}, "times must be numbers"),
        ({"path": torch.zeros(9, 3, 2)}, r"shape \(batch, 4, count\), as there are 4 times; got shape \(9, 3, 2\)"),
        ({"path": torch.zeros(4, 2)}, r"got shape \(4, 2\)\. One path is a batch of one: path\[None\]"),
        ({"path": torch.zeros(0, 4, 2)}, r"got shape \(0, 4, 2\)"),
        ({"path": torch.zeros(9, 4, 0)}, r"got shape \(9, 4, 0\)"),
        ({"path": np.zeros((9, 4, 2))}, "got a ndarray"),
        ({"path": torch.zeros(9, 4, 2, dtype=torch.int64)}, "path must be floating point; got torch.int64"),
        ({"path": missing(1)}, "in 1 of 9 rows: 1. Fill in missing values first"),
        ({"path": missing(1, 2, 5, 6, 7, 8)}, r"in 6 of 9 rows: 1, 2, 5, 6, 7, \.\."),
        ({"interpolation": "cubik"}, "Unknown interpolation 'cubik'; did you mean 'cubic'"),
        ({"interpolation": "spline"}, "Known are linear, hermite, cubic"),
        ({"derivative": "yes"}, "derivative must be True"),
    ],
)
def test_bad_arguments_are_refused(bad_input, arguments, message):
    with pytest.raises(ValueError, match=message):
        DataControl(**{"times": [0.0, 1.0, 2.0, 3.0], "path": torch.zeros(9, 4, 2)} | arguments)
