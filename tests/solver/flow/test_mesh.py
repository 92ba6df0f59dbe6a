"""Fixed meshes on which breakpoints are step ends."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cde_nets.solver import aligned_mesh


@settings(derandomize=True, deadline=None, max_examples=60)
@given(intervals=st.integers(1, 400), finer=st.integers(1, 9))
def test_where_the_breakpoints_allow_it_all_steps_are_equal(intervals, finer):
    breakpoints = [n / intervals for n in range(1, intervals)]
    mesh = aligned_mesh(0.0, 1.0, intervals * finer, breakpoints)
    assert len(mesh) == intervals * finer + 1
    assert (mesh[0], mesh[-1]) == (0.0, 1.0)
    assert set(breakpoints) <= set(mesh)
    widths = [t - s for s, t in itertools.pairwise(mesh)]
    assert max(widths) - min(widths) < 1e-12


@settings(derandomize=True, deadline=None, max_examples=200)
@given(data=st.data(), backward=st.booleans())
def test_any_breakpoints_are_step_ends_and_steps_are_shared_out_by_length(data, backward):
    # Apart in both directions: two neighbouring floats of [0, 1] may be one number of [1, 3].
    apart = st.lists(st.floats(0.01, 0.99), max_size=12, unique_by=lambda t: 3 - 2 * t)
    inner = sorted(data.draw(apart))
    steps = data.draw(st.integers(len(inner) + 1, 60))
    times = [3.0, *(3 - 2 * t for t in inner), 1.0] if backward else [0.0, *inner, 1.0]
    mesh = aligned_mesh(times[0], times[-1], steps, times[1:-1])
    assert len(mesh) == steps + 1
    assert set(times) <= set(mesh)
    sign = -1 if backward else 1
    assert all(sign * s < sign * t for s, t in itertools.pairwise(mesh))
    whole = abs(times[-1] - times[0])
    for start, end in itertools.pairwise(times):
        share = mesh.index(end) - mesh.index(start)
        widths = [abs(t - s) for s, t in itertools.pairwise(mesh) if mesh.index(start) <= mesh.index(s)]
        widths = widths[:share]
        assert max(widths) - min(widths) < 1e-12
        # Never fewer than its part, but for those that tiny pieces need.
        assert share >= max(1, int(steps * abs(end - start) / whole) - len(inner))


@pytest.mark.parametrize(("steps", "pieces"), [(1, 2), (3, 5), (4, 5)])
def test_fewer_steps_than_pieces_are_refused(steps, pieces):
    breakpoints = [n / pieces for n in range(1, pieces)]
    with pytest.raises(ValueError, match=f"steps={steps} cannot reach each of the {pieces - 1} .* at least {pieces}"):
        aligned_mesh(0.0, 1.0, steps, breakpoints)


def test_a_breakpoint_that_was_rounded_otherwise_is_a_step_end_to_the_bit():
    mesh = aligned_mesh(0.0, 1.0, 10, [3 * 0.1])  # 3 * 0.1 > 0.3
    assert mesh[3] == 3 * 0.1
    assert mesh[:3] + mesh[4:] == tuple(n / 10 for n in range(11) if n != 3)
