"""u(t) = values[n] on the n-th of equal intervals."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cde_nets.controls import PiecewiseConstantControl


@settings(derandomize=True, deadline=None, max_examples=30)
@given(steps=st.integers(1, 12), finer=st.integers(1, 7), stages=st.integers(1, 4), seed=st.integers(0, 99))
def test_values_on_a_finer_mesh_are_those_of_the_interval_around(steps, finer, stages, seed):
    values = np.random.default_rng(seed).standard_normal((steps, 3))
    control = PiecewiseConstantControl(steps, 3, values=torch.tensor(values))
    mesh = [n / (steps * finer) for n in range(steps * finer + 1)]
    got = control.on_mesh(mesh, [0.5] * stages)
    assert got.shape == (steps * finer, stages, 3)
    np.testing.assert_array_equal(got.detach().numpy(), values.repeat(finer, axis=0)[:, None].repeat(stages, axis=1))


def test_uneven_meshes_and_parts_of_the_interval_are_read_at_their_own_times():
    values = torch.arange(8.0).reshape(4, 2)
    control = PiecewiseConstantControl(4, 2, values=values)
    got = control.on_mesh([0.25, 0.3, 0.5, 0.75, 0.8], [0.0, 1.0])
    # At a breakpoint the value is the limit from inside the step, at both of its ends.
    assert torch.equal(got, values[[1, 1, 2, 3]][:, None].expand(4, 2, 2))


def test_a_backward_mesh_reads_the_same_intervals_in_reverse():
    values = torch.arange(8.0).reshape(4, 2)
    control = PiecewiseConstantControl(4, 2, values=values)
    got = control.on_mesh([1.0, 0.75, 0.6, 0.5, 0.25, 0.1], [0.0, 1.0])
    assert torch.equal(got, values[[3, 2, 2, 1, 0]][:, None].expand(5, 2, 2))
    whole = control.on_mesh([1.0, 0.75, 0.5, 0.25, 0.0], [0.5])
    assert torch.equal(whole[:, 0], values.flip(0))


def test_steps_of_one_rounding_error_are_in_the_right_interval():
    for steps in range(2, 60):
        control = PiecewiseConstantControl(steps, 1, values=torch.arange(float(steps))[:, None])
        for n, t in enumerate(control.breakpoints):
            # The midpoint of neighbouring floats is one of them: two apart there is one between.
            before, after = np.nextafter(np.nextafter(t, 0), 0), np.nextafter(np.nextafter(t, 1), 1)
            got = control.on_mesh([float(before), t, float(after)], [0.0, 1.0])
            assert got[..., 0].tolist() == [[n, n], [n + 1, n + 1]]


@pytest.mark.parametrize("control", [PiecewiseConstantControl.random(5, 2, scale=1.0, seed=0)])
def test_at_reads_the_interval_that_the_moment_inside_is_in(control):
    times = torch.linspace(0, 1, 6, dtype=torch.float64)
    assert torch.equal(control.at(times), control.values[[0, 1, 2, 3, 4, 4]])
    assert torch.equal(control.at(times, times - 0.1), control.values[[0, 0, 1, 2, 3, 4]])
    assert torch.equal(control.at(times, times + 0.1), control.values[[0, 1, 2, 3, 4, 4]])
    assert torch.equal(control.at(torch.tensor([-5.0, 5.0])), control.values[[0, 4]])
    assert control.jumps
    assert not PiecewiseConstantControl(1, 2).jumps


@settings(derandomize=True, deadline=None, max_examples=20)
@given(steps=st.integers(1, 60))
def test_breakpoints_are_the_inner_ends_of_the_intervals(steps):
    points = PiecewiseConstantControl(steps, 1).breakpoints
    assert [Fraction(t).limit_denominator(100) for t in points] == [Fraction(n, steps) for n in range(1, steps)]


def test_the_gradient_of_a_value_counts_the_nodes_of_its_interval():
    control = PiecewiseConstantControl(3, 2)
    weights = torch.randn(6, 4, 2, generator=torch.Generator().manual_seed(0))
    (control.on_mesh([n / 6 for n in range(7)], [0.0, 0.5, 0.5, 1.0]) * weights).sum().backward()
    torch.testing.assert_close(control.values.grad, weights.reshape(3, 8, 2).sum(1))


def test_a_control_starts_at_zero_and_trains_every_number():
    control = PiecewiseConstantControl(3, 5)
    assert not control.values.any()
    assert [p.numel() for p in control.parameters()] == [15]


def test_random_values_have_the_scale_and_follow_the_seed():
    one, again, other = (PiecewiseConstantControl.random(400, 50, scale=0.3, seed=s).values.detach() for s in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert abs(float(one.std()) - 0.3) < 0.01
    assert abs(float(one.mean())) < 0.01
    double = PiecewiseConstantControl.random(400, 50, scale=0.3, seed=1, dtype=torch.float64).values
    assert torch.equal(double.float(), one)


def test_the_users_values_are_copied():
    values = torch.ones(2, 2)
    control = PiecewiseConstantControl(2, 2, values=values)
    values.zero_()
    assert bool((control.values == 1).all())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps >= 1; got steps=0"),
        ({"count": -1}, "count >= 1; got count=-1"),
        ({"steps": True}, "got steps=True"),
        ({"count": 1.5}, "got count=1.5"),
        ({"values": torch.zeros(3, 2)}, r"values must have shape \(2, 3\); got \(3, 2\)"),
        ({"values": torch.zeros(2, 3, dtype=torch.int64)}, "values must be floating point; got torch.int64"),
        ({"values": torch.full((2, 3), torch.nan)}, "values holds NaN"),
    ],
)
def test_bad_arguments_are_refused(bad_input, arguments, message):
    with pytest.raises(ValueError, match=message):
        PiecewiseConstantControl(**{"steps": 2, "count": 3} | arguments)
