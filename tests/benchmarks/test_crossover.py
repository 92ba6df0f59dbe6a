"""Both sides of the kernels' limits compute the same, and limits are put back."""

import pytest
import torch

from benchmarks import crossover
from cde_nets.kernels import cpu, native


@pytest.mark.skipif(native().library is None, reason="there are no CPU kernels")
def test_limits_hold_within_and_are_put_back():
    before = cpu.MOST_NUMBERS, cpu.MOST_HELD
    with crossover._set(cpu, MOST_NUMBERS=3, MOST_HELD=0)():
        assert (cpu.MOST_NUMBERS, cpu.MOST_HELD) == (3, 0)
        assert cpu.by_products(0, [torch.zeros(2, 2, 2)])
    assert before == (cpu.MOST_NUMBERS, cpu.MOST_HELD)
    ways = [crossover._set(cpu, MOST_NUMBERS=0), crossover._set(cpu, MOST_NUMBERS=crossover.ALL)]
    assert all(0 < milliseconds < 1e4 for milliseconds in crossover._best(crossover._ridge(3, 2, 4, 5), ways, 1))
    assert all(0 < milliseconds < 1e4 for milliseconds in crossover._best(crossover._pictures(2, 4, 3), ways, 1))
