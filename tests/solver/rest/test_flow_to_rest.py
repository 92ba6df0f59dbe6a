"""The flow to rest: Picard where it should be, and stable where Picard is not."""

import math

import pytest
import torch

from cde_nets.solver.flow.controller import PIController
from cde_nets.solver.flow.tableau import TABLEAUS
from cde_nets.solver.rest import FlowToRest, Picard

F64 = torch.float64


class Record:
    def __init__(self):
        self.values, self.widths = [], []

    def observe(self, before, after, signals):
        self.values.append(after.value)
        self.widths.append(getattr(after.memory.own, "h", None))


@pytest.mark.parametrize("damping", [1.0, 0.3])
def test_euler_is_picard(find, maps, damping):
    W, b = maps.layer()

    def f(z):
        return torch.tanh(z @ W.T + b)

    picard, flow = Record(), Record()
    theirs = find(f, torch.zeros(3, 8, dtype=F64), Picard(damping=damping), observers=(picard,))
    ours = find(f, torch.zeros(3, 8, dtype=F64), FlowToRest("euler", step=damping), observers=(flow,))
    assert torch.equal(torch.stack(picard.values), torch.stack(flow.values))
    assert torch.equal(theirs.state.accepted, ours.state.accepted)
    assert theirs.evaluations == ours.evaluations


@pytest.mark.parametrize("name", TABLEAUS)
def test_fixed_steps_are_those_of_the_tableau(find, maps, name):
    """On z' = A z + b - z a step multiplies the distance to rest with the stability function of h (A - I)."""
    f, rest = maps.rotation(0.9, rows=2)
    record = Record()
    find(f, torch.zeros(2, 6, dtype=F64), FlowToRest(name, step=0.5), max_steps=3, observers=(record,))
    A = torch.func.jacfwd(lambda z: f(z[None])[0])(torch.zeros(6, dtype=F64))
    M = 0.5 * (A - torch.eye(6, dtype=F64))
    table = TABLEAUS[name]
    slopes = []
    for row in table.a:
        slopes.append(M @ (torch.eye(6, dtype=F64) + sum((w * k for w, k in zip(row, slopes, strict=True)), 0 * M)))
    R = torch.eye(6, dtype=F64) + sum(w * k for w, k in zip(table.b, slopes, strict=True))
    distance = -rest
    for value in record.values:
        distance = distance @ R.T
        torch.testing.assert_close(value, rest + distance, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["heun", "bosh3", "dopri5", "tsit5"])
def test_a_spiral_that_picard_leaves_attracts_the_flow(find, name):
    """Turned by 90 degrees and stretched by 3: the flow's eigenvalues are -1 +- 3i."""
    A = torch.tensor([[0.0, -3.0], [3.0, 0.0]], dtype=F64)
    b = torch.tensor([[1.0, 2.0]], dtype=F64)
    found = find(lambda z: z @ A.T + b, torch.zeros(1, 2, dtype=F64), FlowToRest(name))
    assert found.words == ["CONVERGED"]
    torch.testing.assert_close(found.value, torch.linalg.solve(torch.eye(2, dtype=F64) - A, b.T).T, rtol=0, atol=1e-9)
    assert find(lambda z: z @ A.T + b, torch.zeros(1, 2, dtype=F64), Picard()).words == ["DIVERGED"]


def test_every_row_has_its_own_width(find):
    """z' = (k - 1) z: near rest h settles under the stability bound of each row's own k."""
    k = torch.tensor([[0.5], [-9.0], [-99.0]], dtype=F64)
    record = Record()
    found = find(lambda z: k * z + 1, torch.ones(3, 1, dtype=F64), FlowToRest("bosh3"), observers=(record,))
    assert found.words == ["CONVERGED"] * 3
    torch.testing.assert_close(found.value, 1 / (1 - k), rtol=1e-9, atol=0)
    last = record.widths[-1] * (1 - k)
    assert (last > 1).all()
    assert (last < 2.6).all()


def test_blow_up_fails(find):
    """z' = exp(z) leaves in finite time."""
    found = find(lambda z: z + torch.exp(z), torch.zeros(1, 1, dtype=F64), FlowToRest("bosh3"))
    assert found.words[0] in ("DIVERGED", "STEP_TOO_SMALL")
    assert torch.isfinite(found.value).all()


def test_refused_trials_are_rejected(find):
    """A first step that is far too long."""
    found = find(lambda z: -50 * z, torch.ones(2, 1, dtype=F64), FlowToRest("bosh3", first_step=10.0))
    assert found.words == ["CONVERGED"] * 2
    assert min(found.state.rejected.tolist()) >= 2


def test_options_reach_the_steps(find):
    def steps(**options):
        found = find(lambda z: torch.cos(3 * z), torch.ones(1, 2, dtype=F64), FlowToRest("bosh3", **options))
        assert found.words == ["CONVERGED"]
        return int(found.state.accepted)

    assert steps(accuracy=1e-3) > 1.5 * steps(accuracy=0.1)
    assert steps(controller=PIController(grow=1.01, shrink=0.99), first_step=0.01) > steps(first_step=0.01)


def test_the_flow_is_followed(find):
    """A tight accuracy ends in the basin that the flow itself ends in: z' = z - z^3, by the sign of z0."""
    z0 = torch.tensor([[-2.0], [-0.1], [0.1], [3.0]], dtype=F64)
    found = find(lambda z: 2 * z - z**3, z0, FlowToRest("dopri5", accuracy=1e-3))
    torch.testing.assert_close(found.value, z0.sign(), rtol=0, atol=1e-9)
    assert math.isclose(float(found.state.residual.max()), 0, abs_tol=1e-10)
