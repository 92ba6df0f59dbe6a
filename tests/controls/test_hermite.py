"""u(t) a cubic between knots, by value and slope."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicHermiteSpline

from cde_nets.controls import HermiteControl

F64 = torch.float64


@settings(derandomize=True, deadline=None, max_examples=40)
@given(steps=st.integers(1, 30), count=st.integers(1, 4), seed=st.integers(0, 99))
def test_it_is_the_spline_of_its_values_and_slopes(steps, count, seed):
    rng = np.random.default_rng(seed)
    values, slopes = rng.standard_normal((2, steps + 1, count))
    knots = np.arange(steps + 1) / steps
    control = HermiteControl(steps, count, values=torch.tensor(values), slopes=torch.tensor(slopes))
    times = np.concatenate([rng.random(50), knots, [-0.01, 1.01]])
    want = CubicHermiteSpline(knots, values, slopes)(times)
    np.testing.assert_allclose(control.at(torch.tensor(times)).detach(), want, rtol=1e-9, atol=1e-11)
    at_knots = torch.tensor(knots)
    assert torch.equal(control.at(at_knots), control.values)
    assert torch.equal(control.at(at_knots, at_knots - 0.5 / steps), control.values)


@pytest.mark.parametrize("side", [-0.1, 0.1])
def test_the_slope_at_a_knot_is_the_trained_one_from_both_sides(side):
    control = HermiteControl.random(4, 1, scale=1.0, seed=0, dtype=F64)
    with torch.no_grad():
        control.slopes.copy_(torch.arange(5.0)[:, None] - 2)
    knots = torch.arange(5, dtype=F64).div(4).requires_grad_()
    slope = torch.autograd.grad(control.at(knots, knots.detach() + side).sum(), knots)[0]
    torch.testing.assert_close(slope, control.slopes[:, 0].detach(), rtol=0, atol=1e-12)


def test_breakpoints_are_the_inner_knots_and_u_does_not_jump():
    control = HermiteControl(4, 1)
    assert control.breakpoints == (0.25, 0.5, 0.75)
    assert not control.jumps


def test_value_and_slope_train_at_every_knot():
    control = HermiteControl(3, 2)
    assert {name: tuple(p.shape) for name, p in control.named_parameters()} == {"values": (4, 2), "slopes": (4, 2)}
    assert not any(p.any() for p in control.parameters())
    control.at(torch.rand(100, dtype=F64)).sum().backward()
    assert all(bool((p.grad != 0).all()) for p in control.parameters())


def test_what_is_not_given_starts_at_zero_in_the_dtype_of_what_is():
    control = HermiteControl(1, 1, slopes=torch.ones(2, 1, dtype=F64))
    assert control.values.dtype == F64
    # h s (1 - s)^2 + h s^2 (s - 1) = s (1 - s)(1 - 2s)
    assert float(control.at(torch.tensor(0.25, dtype=F64)).detach()) == pytest.approx(0.25 * 0.75 * 0.5)


def test_random_values_follow_the_seed_and_slopes_start_at_zero():
    one, again = (HermiteControl.random(400, 50, scale=0.3, seed=1) for _ in range(2))
    assert torch.equal(one.values, again.values)
    assert abs(float(one.values.detach().std()) - 0.3) < 0.01
    assert not one.slopes.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps >= 1; got steps=0"),
        ({"count": 2.0}, "count >= 1; got count=2.0"),
        ({"values": torch.zeros(2, 3)}, r"values must have shape \(3, 3\); got \(2, 3\)"),
        ({"slopes": torch.zeros(3, 1)}, r"slopes must have shape \(3, 3\); got \(3, 1\)"),
        ({"slopes": torch.full((3, 3), torch.nan)}, "slopes holds NaN"),
        (
            {"values": torch.zeros(3, 3), "slopes": torch.zeros(3, 3, dtype=F64)},
            "one dtype and device; values is torch.float32 on cpu, slopes is torch.float64",
        ),
    ],
)
def test_bad_arguments_are_refused(bad_input, arguments, message):
    with pytest.raises(ValueError, match=message):
        HermiteControl(**{"steps": 2, "count": 3} | arguments)
