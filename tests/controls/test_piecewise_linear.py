"""u(t) linear between knots."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import interp1d

from cde_nets.controls import PiecewiseLinearControl

F64 = torch.float64


@settings(derandomize=True, deadline=None, max_examples=40)
@given(steps=st.integers(1, 30), count=st.integers(1, 4), seed=st.integers(0, 99))
def test_it_is_the_interpolant_of_its_knots(steps, count, seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((steps + 1, count))
    knots = np.arange(steps + 1) / steps
    control = PiecewiseLinearControl(steps, count, values=torch.tensor(values))
    times = np.concatenate([rng.random(50), knots])
    want = interp1d(knots, values, axis=0)(times)
    np.testing.assert_allclose(control.at(torch.tensor(times)).detach(), want, rtol=0, atol=1e-12)
    # At the knots to the last bit, from both sides.
    at_knots = torch.tensor(knots)
    assert torch.equal(control.at(at_knots), control.values)
    assert torch.equal(control.at(at_knots, at_knots - 0.5 / steps), control.values)


def test_outside_the_span_the_outer_lines_go_on():
    control = PiecewiseLinearControl(2, 1, values=torch.tensor([[0.0], [1.0], [3.0]]))
    assert control.at(torch.tensor([-0.5, 1.5], dtype=F64))[:, 0].tolist() == [-1, 5]


def test_the_steps_of_a_backward_mesh_read_the_same_line():
    control = PiecewiseLinearControl(2, 1, values=torch.tensor([[0.0], [1.0], [3.0]], dtype=F64))
    got = control.on_mesh([1.0, 0.75, 0.5, 0.0], [0.0, 0.5, 1.0])[..., 0]
    assert got.tolist() == [[3, 2.5, 2], [2, 1.5, 1], [1, 0.5, 0]]


def test_breakpoints_are_the_inner_knots_and_u_does_not_jump():
    control = PiecewiseLinearControl(4, 1)
    assert control.breakpoints == (0.25, 0.5, 0.75)
    assert not control.jumps


def test_a_gradient_is_shared_between_the_ends_by_the_distances():
    control = PiecewiseLinearControl(2, 1).double()
    control.at(torch.tensor(0.6, dtype=F64)).sum().backward()
    np.testing.assert_allclose(control.values.grad[:, 0], [0, 0.8, 0.2], atol=1e-15)


def test_random_values_have_the_scale_and_follow_the_seed():
    one, again, other = (PiecewiseLinearControl.random(400, 50, scale=0.3, seed=s).values.detach() for s in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert abs(float(one.std()) - 0.3) < 0.01
    assert PiecewiseLinearControl.random(2, 3, scale=0.0, seed=1, dtype=F64).values.dtype == F64


def test_the_users_values_are_copied_and_every_number_trains():
    values = torch.ones(3, 2)
    control = PiecewiseLinearControl(2, 2, values=values)
    values.zero_()
    assert bool((control.values == 1).all())
    assert [p.numel() for p in control.parameters()] == [6]
    assert not PiecewiseLinearControl(2, 2).values.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps >= 1; got steps=0"),
        ({"count": True}, "count >= 1; got count=True"),
        ({"values": torch.zeros(2, 3)}, r"values must have shape \(3, 3\); got \(2, 3\)"),
        ({"values": torch.zeros(3, 3, dtype=torch.int64)}, "values must be floating point; got torch.int64"),
        ({"values": torch.full((3, 3), torch.inf)}, "values holds NaN or infinity"),
    ],
)
def test_bad_arguments_are_refused(bad_input, arguments, message):
    with pytest.raises(ValueError, match=message):
        PiecewiseLinearControl(**{"steps": 2, "count": 3} | arguments)


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf"), "wide", True])
def test_a_scale_that_is_none(bad_input, scale):
    with pytest.raises(ValueError, match="scale must be finite and at least 0"):
        PiecewiseLinearControl.random(2, 3, scale=scale, seed=0)
    with pytest.raises(ValueError, match="steps >= 1; got steps=-3"):
        PiecewiseLinearControl.random(-3, 3, scale=1.0, seed=0)
