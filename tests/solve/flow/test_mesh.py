"""Fixed meshes on which breakpoints are step ends."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cde_nets.solve import uniform_mesh


@settings(derandomize=True, deadline=None, max_examples=60)
@given(intervals=st.integers(1, 400), finer=st.integers(1, 9))
def test_breakpoints_of_a_divisor_are_step_ends(intervals, finer):
    breakpoints = [n / intervals for n in range(1, intervals)]
    mesh = uniform_mesh(intervals * finer, breakpoints)
    assert len(mesh) == intervals * finer + 1
    assert (mesh[0], mesh[-1]) == (0.0, 1.0)
    assert set(breakpoints) <= set(mesh)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(intervals=st.integers(2, 60), steps=st.integers(1, 120))
def test_steps_that_straddle_a_breakpoint_are_refused(intervals, steps):
    breakpoints = [n / intervals for n in range(1, intervals)]
    if steps % intervals == 0:
        assert len(uniform_mesh(steps, breakpoints)) == steps + 1
        return
    with pytest.raises(ValueError, match=f"steps={steps} leaves .* breakpoint t=.* a multiple of {intervals}, such as"):
        uniform_mesh(steps, breakpoints)


@pytest.mark.parametrize(("steps", "near"), [(7, 5), (3, 5), (13, 5), (8, 3)])
def test_the_number_of_steps_that_is_suggested_is_accepted(steps, near):
    breakpoints = [n / near for n in range(1, near)]
    with pytest.raises(ValueError, match="such as") as error:
        uniform_mesh(steps, breakpoints)
    suggested = int(str(error.value).rstrip(".").rsplit(" ", 1)[1])
    assert abs(suggested - steps) <= near
    assert set(breakpoints) <= set(uniform_mesh(suggested, breakpoints))


def test_a_breakpoint_that_was_rounded_otherwise_is_still_a_step_end():
    assert uniform_mesh(10, [3 * 0.1]) == tuple(n / 10 for n in range(11))  # 3 * 0.1 > 0.3
