"""What all controls promise alike."""

import copy
import inspect
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from cde_nets import controls as room
from cde_nets.controls import (
    CallableControl,
    Control,
    DataControl,
    HermiteControl,
    PiecewiseConstantControl,
    PiecewiseLinearControl,
    SpectralControl,
)

F64 = torch.float64
KNOTS = [-1.0, -0.3, 0.1, 0.7, 2.0]


class Kinked(nn.Module):
    """Smooth but for a kink at 0.3 and a jump at 0.7."""

    def __init__(self, dtype):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, -1.5], dtype=dtype))

    def forward(self, t):
        kink, jump = (t - 0.3).abs(), torch.where(t < 0.7, 0.0, 1.0).to(t)
        return torch.stack([kink + jump, torch.sin(3 * t) - 2 * jump], -1) * self.weight


def draws(*shape, seed=0, dtype=F64):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).to(dtype)


def _data(interpolation, derivative):
    return lambda dtype: DataControl(
        KNOTS, draws(3, 5, 2, seed=7, dtype=dtype), interpolation=interpolation, derivative=derivative
    )


KINDS = {
    "constant": lambda dtype: PiecewiseConstantControl(6, 2, values=draws(6, 2, dtype=dtype)),
    "linear": lambda dtype: PiecewiseLinearControl(6, 2, values=draws(7, 2, dtype=dtype)),
    "hermite": lambda dtype: HermiteControl(
        6, 2, values=draws(7, 2, dtype=dtype), slopes=5 * draws(7, 2, seed=1, dtype=dtype)
    ),
    "cosine": lambda dtype: SpectralControl(5, 2, coefficients=draws(5, 2, dtype=dtype)),
    "legendre": lambda dtype: SpectralControl(5, 2, basis="legendre", coefficients=draws(5, 2, dtype=dtype)),
    "function": lambda dtype: CallableControl(Kinked(dtype), 2, breakpoints=(0.3, 0.7)),
} | {
    f"data {interpolation} {'derivative' if derivative else 'value'}": _data(interpolation, derivative)
    for interpolation in ("linear", "hermite", "cubic")
    for derivative in (True, False)
}


@pytest.fixture(params=KINDS)
def kind(request):
    """Makes the control of one kind in the dtype asked for."""
    return KINDS[request.param]


@pytest.fixture
def control(kind):
    return kind(F64)


NODES = [0.0, 0.25, 0.5, 1.0]


def at(control, times, inside=None):
    """`Control.at` with one time for all rows."""
    times = torch.as_tensor(times, dtype=F64)
    inside = None if inside is None else torch.as_tensor(inside, dtype=F64)
    if control.rows is None:
        return control.at(times, inside)
    return control.at(times[..., None], None if inside is None else inside[..., None])


def mesh_of(control, extra):
    """The span's ends, the breakpoints and some times between."""
    start, end = control.span
    return sorted({start, end, *control.breakpoints, *(start + (end - start) * f for f in extra)})


def test_the_room_lists_every_name():
    todo, found = [Control], {"Control"}
    while todo:
        todo += [c for c in todo.pop().__subclasses__() if c.__module__.startswith("cde_nets")]
        found |= {c.__name__ for c in todo if not inspect.isabstract(c)}
    assert found == set(room.__all__)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (0,)])
def test_shapes(control, shape):
    rows = () if control.rows is None else (control.rows,)
    assert at(control, torch.rand(shape, dtype=F64)).shape == (*shape, *rows, control.count)
    if rows:
        assert control.at(torch.rand(*shape, *rows, dtype=F64)).shape == (*shape, *rows, control.count)


@pytest.mark.parametrize("name", KINDS)
@settings(derandomize=True, deadline=None, max_examples=15)
@given(extra=st.lists(st.floats(0.001, 0.999), max_size=12))
def test_on_a_mesh_are_the_limits_from_inside_the_steps(name, extra):
    control = KINDS[name](F64)
    mesh = np.array(mesh_of(control, extra))
    mesh = mesh[np.concatenate([[True], np.diff(mesh) > 1e-6])]
    got = control.on_mesh(mesh.tolist(), NODES)
    rows = () if control.rows is None else (control.rows,)
    assert got.shape == (len(mesh) - 1, 4, *rows, control.count)
    for n, (left, right) in enumerate(pairwise(mesh)):
        # Times a little inside the step need no telling where they are.
        near = left + np.clip(NODES, 1e-7, 1 - 1e-7) * (right - left)
        torch.testing.assert_close(got[n], at(control, near), rtol=1e-5, atol=3e-5)
        exact = at(control, [left + c * (right - left) for c in NODES], [(left + right) / 2])
        torch.testing.assert_close(got[n], exact, rtol=1e-12, atol=1e-12)


def test_a_mesh_that_runs_backward_has_the_same_values_in_reverse(control):
    mesh = mesh_of(control, [0.11, 0.5, 0.93])
    forward = control.on_mesh(mesh, NODES)
    backward = control.on_mesh(mesh[::-1], [1 - c for c in NODES])
    torch.testing.assert_close(backward, forward.flip(0), rtol=1e-12, atol=1e-12)


def test_a_breakpoint_has_a_value_on_each_side(control):
    points = control.breakpoints
    assert list(points) == sorted(set(points))
    assert all(control.span[0] < t < control.span[1] for t in points)
    gaps = []
    for t in points:
        left, right = at(control, t, t - 1e-3), at(control, t, t + 1e-3)
        torch.testing.assert_close(left, at(control, t - 1e-9), rtol=0, atol=1e-6)
        torch.testing.assert_close(right, at(control, t + 1e-9), rtol=0, atol=1e-6)
        # Without a side: the right one, to the last bit.
        assert torch.equal(at(control, t), right)
        gaps.append(float((left - right).detach().abs().max()))
    assert control.jumps == any(gap > 1e-3 for gap in gaps)


def test_a_step_that_overshoots_by_rounding_keeps_its_piece(control):
    for t in (*control.breakpoints, *control.span):
        for side in (-1, 1):
            over = np.nextafter(t, t - side)
            want = at(control, t, t + side * 1e-3)
            torch.testing.assert_close(at(control, over, t + side * 1e-3), want, rtol=0, atol=1e-12)


def test_the_ends_of_the_span_belong_to_the_outer_pieces(control):
    start, end = control.span
    torch.testing.assert_close(at(control, start), at(control, start + 1e-9), rtol=0, atol=1e-6)
    torch.testing.assert_close(at(control, end), at(control, end - 1e-9), rtol=0, atol=1e-6)


def test_wild_times_are_no_error(control):
    assert at(control, [float("nan"), float("inf"), -float("inf"), 1e300, -1e300]).shape[0] == 5


@pytest.mark.parametrize("name", [name for name in KINDS if name not in ("cosine", "legendre", "function")])
def test_outside_the_span_the_outer_formulas_go_on(name):
    """By fourth differences, which are zero across the end for polynomials of degree three or less."""
    control = KINDS[name](F64)
    end = control.span[1]
    values = at(control, end + torch.linspace(-0.1, 0.1, 41, dtype=F64)).detach()
    torch.testing.assert_close(values.diff(n=4, dim=0), torch.zeros_like(values[4:]), rtol=0, atol=1e-10)


def test_float32_numbers_at_float64_times(kind):
    single, double = kind(torch.float32), kind(torch.float32).double()
    times = np.linspace(*single.span, 1001)
    got = at(single, times)
    assert got.dtype == single.dtype == torch.float32
    torch.testing.assert_close(got.double(), at(double, times), rtol=0, atol=1e-5)
    mesh = mesh_of(single, [0.2])
    assert single.on_mesh(mesh, NODES).dtype == torch.float32


def test_where_a_time_is_in_its_interval_is_found_in_float64():
    # Near 1 the float32 numbers are 6e-8 apart, 6% of an interval.
    steps = 1_000_000
    control = PiecewiseLinearControl(steps, 1, values=torch.arange(steps + 1.0)[:, None] % 2)
    s = torch.rand(100, dtype=F64, generator=torch.Generator().manual_seed(0))
    got = control.at((steps - 2 + s) / steps)
    torch.testing.assert_close(got[:, 0].double(), s, rtol=0, atol=1e-6)
    times = torch.arange(1_000_000_000, 1_000_000_005)
    data = DataControl(times, torch.arange(5.0)[None, :, None] % 2, derivative=False)
    torch.testing.assert_close(data.at((times[2] + s)[:, None])[:, 0, 0].double(), s, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_breakpoint_starts_its_piece_to_the_last_bit(dtype):
    for steps in (*range(1, 130), 49 * 7, 1000):
        control = PiecewiseConstantControl(steps, 1, values=torch.arange(steps, dtype=F64)[:, None])
        times = torch.tensor([0.0, *control.breakpoints], dtype=F64).to(dtype)
        assert control.at(times)[:, 0].tolist() == list(range(steps))
        before = torch.nextafter(times, torch.tensor(-1, dtype=dtype))[1:]
        assert control.at(before)[:, 0].tolist() == list(range(steps - 1))
        knots = np.array([0.0, *control.breakpoints, 1.0])
        data = DataControl(knots, torch.arange(steps + 1.0, dtype=F64).square()[None, :, None])
        assert data.at(times[:, None])[:, 0, 0].diff().gt(0).all()


@settings(derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.integers(1, 500), t=st.floats(0, 1, exclude_max=True))
def test_the_interval_of_a_time_in_exact_arithmetic(steps, t):
    control = PiecewiseConstantControl(steps, 1, values=torch.arange(steps, dtype=F64)[:, None])
    n = int(control.at(torch.tensor(t, dtype=F64)))
    # n / steps as it rounds to float64 is where the interval starts.
    assert n == 0 or float(Fraction(n, steps)) <= t
    assert n == steps - 1 or t < float(Fraction(n + 1, steps))


def test_the_numbers_stay_where_they_are_asked_for(control):
    single = copy.deepcopy(control).float()
    assert single.dtype == torch.float32
    times = np.linspace(*control.span, 101)
    torch.testing.assert_close(at(single, times).double(), at(control, times), rtol=0, atol=1e-5)


def test_the_leaves_have_the_exact_gradient(kind):
    control = kind(F64)
    start, end = control.span
    times = torch.linspace(start, end, 9, dtype=F64)
    leaves = [leaf.requires_grad_() for leaf in control.leaves]
    assert leaves
    weights = draws(*at(control, times).shape, seed=3)
    assert torch.autograd.gradcheck(lambda *_: (at(control, times) * weights).sum(), leaves)
    mesh = mesh_of(control, [0.4])
    assert torch.autograd.gradcheck(lambda *_: control.on_mesh(mesh, NODES), leaves)
    assert torch.autograd.gradgradcheck(lambda *_: at(control, times).square(), leaves)


def test_no_leaf_is_computed_from_another(kind):
    control = kind(F64)
    leaves = [leaf.requires_grad_() for leaf in control.leaves]
    for one in leaves:
        others = [leaf for leaf in leaves if leaf is not one]
        assert not others or not any(g is not None for g in grads_of(one, others))


def grads_of(one, others):
    return torch.autograd.grad((one * 1.0).sum(), others, allow_unused=True)


def test_the_slope_in_time(control):
    start, end = control.span
    times = (start + (end - start) * (0.05 + 0.9 * torch.rand(20, dtype=F64))).requires_grad_()
    values = at(control, times).flatten(1)
    if not values.requires_grad:
        return
    for i in range(values.shape[1]):
        slope = torch.autograd.grad(values[:, i].sum(), times, retain_graph=True, allow_unused=True)[0]
        near = at(control, times.detach() + 1e-6, times.detach()) - at(control, times.detach() - 1e-6, times.detach())
        want = near.detach().flatten(1)[:, i] / 2e-6
        torch.testing.assert_close(torch.zeros_like(want) if slope is None else slope, want, rtol=1e-5, atol=1e-5)


def test_nothing_is_read_from_the_device(kind, reads):
    control = kind(F64)
    times, inside = torch.rand(4, 3, dtype=F64), torch.rand(4, 1, dtype=F64)
    mesh = mesh_of(control, [0.4])
    with reads:
        value = at(control, times, inside).sum() + at(control, times).sum() + control.on_mesh(mesh, NODES).sum()
        if value.requires_grad:
            value.backward()
    assert reads.count == 0


def test_vmap_over_times(control):
    shape = (5, 4) if control.rows is None else (5, 4, control.rows)
    start, end = control.span
    times = start + (end - start) * torch.rand(shape, dtype=F64)
    torch.testing.assert_close(torch.vmap(control.at)(times), control.at(times), rtol=1e-13, atol=1e-13)
    both = torch.vmap(control.at)(times, times.flip(0))
    torch.testing.assert_close(both, control.at(times, times.flip(0)), rtol=1e-13, atol=1e-13)


def test_forward_mode_and_jacobians_see_through(control):
    leaves = [leaf.detach() for leaf in control.leaves]
    names = [name for name, _ in (*control.named_parameters(), *control.named_buffers()) if "_place" not in name]
    times = torch.linspace(0.05, 0.95, 3, dtype=F64)

    def call(*values):
        times_ = times if control.rows is None else times[:, None]
        return torch.func.functional_call(control, dict(zip(names, values, strict=True)), (times_,))

    control.forward = control.at
    tangents = tuple(torch.ones_like(leaf) for leaf in leaves)
    _, out = torch.func.jvp(call, tuple(leaves), tangents)
    jacobians = torch.func.jacrev(call, argnums=tuple(range(len(leaves))))(*leaves)
    torch.testing.assert_close(out, sum(j.flatten(out.ndim).sum(-1) for j in jacobians))


def test_the_state_comes_back(kind):
    control, other = kind(F64), kind(F64)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(control.state_dict())
    times = np.linspace(*control.span, 13)
    assert torch.equal(at(other, times), at(control, times))
    # Data and what tells the device is no state.
    assert set(control.state_dict()) == {name for name, _ in control.named_parameters()}


def test_print_names_the_numbers_of_components(control):
    assert f"count={control.count}" in repr(control)


def test_times_that_are_no_times(bad_input, control):
    with pytest.raises(ValueError, match=r"times must be a floating point tensor; got torch.int64"):
        control.at(torch.arange(3))
    with pytest.raises(ValueError, match=r"times must be a floating point tensor; got a float"):
        control.at(0.5)
    shape = (2, 1) if control.rows is None else (2, control.rows)
    with pytest.raises(ValueError, match=r"broadcasts to that of times, \(2, \d\); got \(5, 1\)"):
        control.at(torch.rand(shape), torch.rand(5, 1))
    with pytest.raises(ValueError, match=r"got \(1, 2, 1\)"):
        control.at(torch.rand(shape), torch.rand(1, 2, 1))
    with pytest.raises(ValueError, match=r"times is on meta"):
        control.at(torch.rand(shape, device="meta"))
    if control.rows is not None:
        for wrong in ((), (2,), (3, 2)):
            with pytest.raises(ValueError, match=r"a control for each of 3 rows .*times\[..., None\]"):
                control.at(torch.rand(wrong))


def test_half_precision_times_are_placed_in_float32():
    control = PiecewiseConstantControl(4, 1, values=torch.arange(4.0)[:, None])
    got = control.at(torch.tensor([0.0, 0.25, 0.5, 0.75], dtype=torch.bfloat16))
    assert got[:, 0].tolist() == [0, 1, 2, 3]


class Ramp(Control):
    """A control of a user's own, with no more than what must be said."""

    count = 1

    @property
    def breakpoints(self):
        return (0.5,)

    def at(self, times, inside=None):
        times, moments = self._moments(times, inside)
        return torch.where(moments < 0.5, times, -times)[..., None]


def test_a_control_of_ones_own_gets_the_rest():
    control = Ramp()
    assert (control.rows, control.span, control.jumps, control.leaves) == (None, (0.0, 1.0), True, ())
    got = control.on_mesh([1.0, 0.5, 0.0], [0.0, 1.0])[..., 0]
    assert got.tolist() == [[-1, -0.5], [0.5, 0]]
