"""The reckoning of many GPUs, by hand."""

import pytest

from benchmarks.scale import Assumed, Measured, allreduce, reckon

ASSUMED = Assumed(speed=10.0, latency=1e-5, bandwidth=1e9, price=3.6)


def test_an_allreduce_is_latency_by_doubling_and_bandwidth_by_bytes():
    # Eight processes: three doublings there and three back; seven eighths of the bytes there and back.
    assert allreduce(8, 0, ASSUMED) == pytest.approx(6e-5)
    assert allreduce(8, 8_000_000, ASSUMED) - allreduce(8, 0, ASSUMED) == pytest.approx(14e-3)


def test_a_step_is_its_images_the_optimiser_and_the_allreduce():
    measured = Measured(numbers=250, image=1e-3, optimizer=2e-3, allreduce=0.0)
    found = reckon(4, 42, measured, ASSUMED)
    # Eleven images on the fullest GPU at 1e-4 s; 1,000 bytes, three quarters of them there and back.
    assert found.step == pytest.approx(11e-4 + 2e-3 + 4e-5 + 1.5e-6)
    assert found.sent == 1500
    assert found.efficiency == pytest.approx(11e-4 / found.step)
    # 1e9 / 42 steps of four GPUs at a thousandth of a dollar a second.
    assert found.dollars == pytest.approx(1e9 / 42 * found.step * 4e-3)
    # Of 400 MB: 0.6 s at a GB a second, whatever the latency.
    assert found.other == pytest.approx(0.6, rel=1e-3)
