"""Equal intervals of [0, 1]."""

from bisect import bisect

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cde_nets.controls import equal


@settings(derandomize=True, deadline=None, max_examples=60)
@given(steps=st.integers(1, 2000), others=st.lists(st.floats(-2, 3), max_size=10))
def test_the_interval_of_a_moment_by_bisection(steps, others):
    points = [n / steps for n in range(1, steps)]
    near = [float(np.nextafter(t, side)) for t in points for side in (0, 1)]
    moments = [*points, *near, *others, 0.0, 1.0]
    want = [bisect(points, t) for t in moments]
    assert [equal.interval_of(t, steps) for t in moments] == want
    assert equal.interval(torch.tensor(moments, dtype=torch.float64), steps).tolist() == want


def test_the_local_coordinate_is_exact_at_both_ends():
    for steps in range(1, 200):
        n = torch.arange(steps)
        ends = torch.arange(steps + 1, dtype=torch.float64) / steps
        assert torch.equal(equal.local(ends[:-1], n, steps), torch.zeros(steps, dtype=torch.float64))
        assert torch.equal(equal.local(ends[1:], n, steps), torch.ones(steps, dtype=torch.float64))
