"""Every side computes the same flow and the same control gradient: that of float64 and autograd."""

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from benchmarks.flows import adaptive, torch_sides, uneven
from benchmarks.flows.rows import Row, draw
from benchmarks.flows.sides import off
from benchmarks.flows.velocities import ways

TINY = (Row("ridge", 3, 4, 6, 5), Row("polynomial", 3, 4, 6, 5))
needs_torchode = pytest.mark.skipif(find_spec("torchode") is None, reason="torchode is not installed")
needs_jax = pytest.mark.skipif(find_spec("diffrax") is None, reason="jax and diffrax are not installed")
ids = {"ids": lambda row: row.family}


def _truth(row):
    """By evaluating every field in float64 and summing, and by autograd."""
    given = draw(row)
    fields = draw(row).fields.double()
    values = given.values.double().requires_grad_()
    x = given.x.double()
    for u in values:
        x = x + torch.einsum("i,bim->bm", u, fields.evaluate(x)) / row.steps
    x.square().sum().backward()
    return x.detach().numpy(), values.grad.numpy()


@pytest.mark.parametrize("row", TINY, **ids)
def test_velocities_are_sums_over_the_fields(row):
    given = draw(row, dtype=torch.float64)
    expected = torch.einsum("i,bim->bm", given.values[0], given.fields.evaluate(given.x))
    found = ways(given.fields, torch, torch.nn.functional.linear)
    for way in found:
        constants = [torch.from_numpy(array) for array in way.constants]
        torch.testing.assert_close(way.velocity(constants, given.x, given.values[0]), expected)
    assert {way.collapsed for way in found} == ({False} if row.family == "ridge" else {True, False})


def _agrees(side, row, allowed=1e-6):
    end, gradient = _truth(row)
    assert off(side.forward(), end) < allowed
    assert off(side.both(), gradient) < (0.5 if side.inexact else 10 * allowed)


@pytest.mark.parametrize("row", TINY, **ids)
def test_ours_and_torchdiffeq(row):
    given = draw(row)
    for side in [torch_sides.ours(given), *torch_sides.torchdiffeq(given), *torch_sides.torchdiffeq_adjoint(given)]:
        _agrees(side, row)


@needs_torchode
@pytest.mark.parametrize("row", TINY, **ids)
def test_torchode(row):
    for side in torch_sides.torchode(draw(row)):
        _agrees(side, row)


@needs_jax
@pytest.mark.parametrize("row", TINY, **ids)
def test_jax(row):
    from benchmarks.flows import jax_sides

    given = draw(row)
    # One way of each is enough here: the velocities' ways are compared above, and compiling takes time.
    _agrees(jax_sides.scan(given)[0], row)
    if row.family == "ridge":
        _agrees(jax_sides.diffrax(given)[0], row)


def _intervals(monkeypatch, build, steps, run):
    """In which intervals of the control the velocity is evaluated."""
    seen = []
    forward = torch_sides.Velocity.forward

    def noted(self, t, x):
        seen.append(min(int(t.item() * self.steps), self.steps - 1))
        return forward(self, t, x)

    monkeypatch.setattr(torch_sides.Velocity, "forward", noted)
    side = build(draw(Row("ridge", 2, 3, steps, 4)))[0]
    getattr(side, run)()
    return seen


@pytest.mark.parametrize("steps", [7, 20, 49, 50])
def test_torchdiffeq_steps_in_every_interval_once(monkeypatch, steps):
    forward = list(range(steps))
    assert _intervals(monkeypatch, torch_sides.torchdiffeq, steps, "forward") == forward
    seen = _intervals(monkeypatch, torch_sides.torchdiffeq_adjoint, steps, "both")
    # Its adjoint evaluates once more at the end to begin; then backward through the intervals.
    assert seen[:steps] == forward
    assert seen[-steps:] == forward[::-1]


@needs_torchode
@pytest.mark.parametrize("steps", [7, 20, 49, 50])
def test_torchode_steps_in_every_interval_once(monkeypatch, steps):
    assert _intervals(monkeypatch, torch_sides.torchode, steps, "forward") == list(range(steps))


def test_adaptive_sides_find_the_truth():
    problem = uneven.cubic(3, largest=0.5)
    result = adaptive.measure(problem, ["torchdiffeq"], 1, tick=lambda: None)
    ours, peer = result.sides
    assert adaptive.right(ours)
    assert adaptive.right(peer)
    # Seven stages a step of which one is shared with the next, and at least a step.
    assert min(ours.evaluations, peer.evaluations) > 7


@needs_torchode
def test_torchode_is_right_with_both_controllers():
    problem = uneven.cubic(4)
    end, gradient = problem.reference()
    for solver in adaptive.torchode(problem):
        np.testing.assert_allclose(solver.forward()[0], end, rtol=1e-4)
        np.testing.assert_allclose(solver.both(), gradient, rtol=1e-4, atol=1e-3)


@needs_jax
@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_xla_keeps_to_its_threads():
    code = """
import os
from benchmarks.flows.jax_sides import limit_threads
limit_threads(1)
import jax, jax.numpy as jnp
x = jnp.ones((900, 900))
f = jax.jit(lambda x: jnp.tanh(x @ x / 900) @ x)
def ticks():
    found = {}
    for task in os.listdir("/proc/self/task"):
        numbers = open(f"/proc/self/task/{task}/stat").read().rsplit(")", 1)[1].split()
        found[task] = int(numbers[11]) + int(numbers[12])
    return found
f(x).block_until_ready()
before = ticks()
for _ in range(20):
    f(x).block_until_ready()
# Hundredths of a second; a thread that works takes far more than five.
print(sum(after - before.get(task, 0) > 5 for task, after in ticks().items()))
"""
    environment = {name: value for name, value in os.environ.items() if name not in ("NPROC", "PJRT_NPROC")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert int(done.stdout) == 1


@needs_jax
def test_threads_are_set_before_jax_is_imported(monkeypatch):
    from benchmarks.flows import jax_sides

    monkeypatch.setitem(sys.modules, "jax", object())
    with pytest.raises(RuntimeError, match="imported already"):
        jax_sides.limit_threads(1)
