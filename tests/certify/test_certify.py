"""Certificates of networks: the very coefficients and points, stage by stage, and what given numbers can do."""

import pytest
import torch

import theory
from cde_nets.certify import check_flow, check_stages, control_rank, exact_flow
from cde_nets.controls import PiecewiseConstantControl
from cde_nets.fields import LinearFields, PolynomialFields
from cde_nets.nn import (
    ControlledODE,
    DifferenceReadout,
    ImageNetworkConfig,
    Network,
    Stage,
    image_network,
)
from cde_nets.solver import RungeKutta


def points(n, m, dtype=torch.float32):
    return torch.randn(n, m, dtype=dtype, generator=torch.Generator().manual_seed(5))


def flow(families, **options):
    steps = max(2, len(families))
    control = PiecewiseConstantControl.random(steps, families[0].count, scale=0.3, seed=1, dtype=families[0].dtype)
    return ControlledODE(families if len(families) > 1 else families[0], control, "euler", **options)


def test_a_flow_is_certified_by_its_own_numbers():
    fields, x = PolynomialFields.random(3, 4, 2, seed=0), points(5, 3)
    found = check_flow(flow([fields]), x, seed=0)
    assert (found.proved, found.scope, found.rank, found.dtype) == (True, "points", 15, "float32")
    direct = theory.check_points(fields.exact(), x.numpy(), seed=0)
    assert (found.digest, found.points_digest) == (direct.digest, direct.points_digest)
    # Half precision states are other points.
    assert check_flow(flow([fields]), x.half(), seed=0).points_digest != found.points_digest


def test_fresh_families_count_together_without_brackets():
    # Two linear families of one field each: alone neither does anything, one after the other they reach the plane.
    one, two = (LinearFields(torch.tensor([m])) for m in ([[0.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]]))
    both = check_flow(flow([one, two]), torch.tensor([[1.0, 2.0]]), seed=0)
    assert (both.proved, both.count, both.depth) == (True, 2, 1)
    alone = check_flow(flow([one, one]), torch.tensor([[1.0, 2.0]]), seed=0)
    assert not alone.proved


def test_brackets_between_fields_of_two_intervals_do_not_count():
    # Fields (0, x) on the first intervals and (1, 0) after them: from the origin no control leaves the axis y = 0,
    # though their bracket is (0, 1).
    late = [PolynomialFields(torch.tensor([rows]), 1) for rows in ([[0.0, 0, 0], [0, 1, 0]], [[1.0, 0, 0], [0, 0, 0]])]
    assert late[0].exponents.tolist()[:2] == [[0, 0], [1, 0]]
    moved = flow([late[0]] * 3 + [late[1]] * 3)
    x = torch.zeros(1, 2)
    for seed in range(20):
        with torch.no_grad():
            moved.control.values.copy_(torch.randn(6, 1, generator=torch.Generator().manual_seed(seed)))
            assert moved(x)[0, 1] == 0
    assert theory.check_points(exact_flow(moved), x.numpy(), seed=0).proved
    found = check_flow(moved, x, seed=0)
    assert (found.proved, found.rank, found.full_rank, found.impossible) == (False, 1, 2, "")
    assert "within families that act in turn. A deficient rank" in str(found)
    # Nor where the fields are as many as the full rank, and are asked together first.
    more = flow([PolynomialFields(family.coefficients.repeat(2, 1, 1), 1) for family in late])
    assert not check_flow(more, x, seed=0).proved


def test_the_time_limit_is_for_all_families():
    several = flow([PolynomialFields.random(3, 4, 2, seed=s) for s in range(3)])
    found = check_flow(several, points(40, 3), seed=0, time_limit=0.0)
    assert (found.proved, found.note, found.impossible) == (False, "stopped after 0 s", "")
    with pytest.raises(ValueError, match="time_limit is -1"):
        check_flow(several, points(4, 3), seed=0, time_limit=-1.0)


def test_algebras_of_several_families_add_up():
    # (1, 0) and (0, x) in the first plane of R^4, and the same in the second: at 0 each family needs a bracket, neither
    # has more than its plane, and no brackets between them are needed.
    planes = []
    for first in (0, 2):
        coefficients = torch.zeros(2, 4, 5)
        coefficients[0, first, 0] = coefficients[1, first + 1, first + 1] = 1.0
        planes.append(PolynomialFields(coefficients, 1))
    assert planes[0].exponents.tolist()[:2] == [[0, 0, 0, 0], [1, 0, 0, 0]]
    moved, x = flow([planes[0]] * 8 + [planes[1]] * 8), torch.zeros(1, 4)
    found = check_flow(moved, x, seed=0)
    assert (found.claim, found.proved, found.rank, found.count) == ("points in turn", True, 4, 4)
    assert found.depth > 1
    assert [theory.check_points(plane.exact(), x.numpy(), seed=0).rank for plane in planes] == [2, 2]
    # By the flow's own derivative in its controls, at some that bring 0 back to 0: there and back in each family.
    loop = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    u = torch.cat([loop, -loop.flip(0), loop, -loop.flip(0)])

    def end(u):
        y = x.double()
        for k, values in enumerate(u):
            # Exact steps: x' = a, y' = b x along one plane.
            a, b = values / 16
            p, q = (y[:, 0], y[:, 1]) if k < 8 else (y[:, 2], y[:, 3])
            p, q = p + a, q + b * (p + a / 2)
            y = torch.stack([p, q, y[:, 2], y[:, 3]] if k < 8 else [y[:, 0], y[:, 1], p, q], 1)
        return y[0]

    torch.testing.assert_close(end(u), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-15)
    jacobian = torch.func.jacrev(end)(u).reshape(4, -1)
    assert torch.linalg.matrix_rank(jacobian) == 4


def test_a_family_that_comes_back_is_one():
    one, two = (PolynomialFields.random(3, 4, 2, seed=s) for s in (0, 1))
    x = points(5, 3)
    found = check_flow(flow([one, two, one]), x, seed=0)
    assert (found.proved, found.count) == (True, 8)
    assert check_flow(flow([one, one]), x, seed=0).digest == theory.check_points(one.exact(), x.numpy(), seed=0).digest


def test_on_the_sphere_the_scope_says_so():
    on_sphere = flow([PolynomialFields.random(3, 4, 2, seed=s) for s in (0, 1)], manifold="sphere")
    assert exact_flow(on_sphere).manifold == "sphere"
    found = check_flow(on_sphere, points(4, 3), seed=0)
    assert (found.proved, found.scope, found.rank, found.full_rank) == (True, "sphere", 8, 8)


def test_every_stage_is_certified_at_the_points_that_reach_it():
    stages = [Stage(flow([PolynomialFields.random(3, 4, 2, seed=s)])) for s in (0, 1)]
    network, x = Network(None, stages, DifferenceReadout()), points(4, 3)
    first, second = check_stages(network, x, seed=0)
    assert first.proved
    assert second.proved
    assert second.points_digest == check_flow(stages[1].flow, stages[0](x), seed=0).points_digest
    assert second.points_digest != first.points_digest


def test_points_that_a_fixed_map_has_brought_together_are_named():
    class Forget(torch.nn.Module):
        def forward(self, x):
            return 0 * x

    fields = PolynomialFields.random(2, 3, 2, seed=0)
    network = Network(None, [Stage(flow([fields]), Forget()), Stage(flow([fields]))], DifferenceReadout())
    with pytest.raises(ValueError, match="rows 0 and 1 are the same point"):
        check_stages(network, points(2, 2), seed=0)


def test_the_image_network_s_last_stage():
    config = ImageNetworkConfig(channels=10, count=60, intervals=(1, 1, 1), seed=0)
    network, images = image_network(config), torch.rand(2, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        state = network.start(images)
        for stage in network.flow_stages()[:-1]:
            state = stage(state)
    found = check_flow(network.flows()[-1], state, seed=0)
    assert (found.proved, found.scope, found.full_rank, found.dim) == (True, "sphere", 2 * 89, 90)


def test_a_drift_is_refused():
    fields = PolynomialFields.random(2, 3, 2, seed=0)
    with pytest.raises(ValueError, match="has a drift"):
        exact_flow(flow([fields], drift=lambda t, x: -x))


def test_the_rank_of_the_outputs_in_the_trained_numbers():
    fields = PolynomialFields.random(2, 3, 2, seed=0)
    network = Network(None, [Stage(flow([fields]))], DifferenceReadout())
    few, many = control_rank(network, points(2, 2)), control_rank(network, points(20, 2))
    # 6 controls and the readout's factor; four numbers come out for two points.
    assert (few.rank, few.outputs, few.numbers) == (4, 4, 7)
    assert (many.rank, many.outputs) == (7, 40)
    # By central differences.
    x, twin = points(20, 2, torch.float64), network.double()
    parameters = list(twin.parameters())
    columns = []
    for p in parameters:
        for k in range(p.numel()):
            ends = []
            for step in (1e-6, -2e-6):
                with torch.no_grad():
                    p.view(-1)[k] += step
                ends.append(twin(x).detach().flatten())
            with torch.no_grad():
                p.view(-1)[k] += 1e-6
            columns.append((ends[0] - ends[1]) / 2e-6)
    values = torch.linalg.svdvals(torch.stack(columns, 1))
    torch.testing.assert_close(control_rank(twin, x).singular_values, values, rtol=1e-5, atol=1e-7)
    assert str(few) == "rank 4 of 4 outputs by 7 trained numbers (floating point)"


def test_data_that_fail_in_a_flow_are_named_and_not_counted():
    fields = PolynomialFields.random(2, 3, 2, seed=0)
    control = PiecewiseConstantControl.random(8, 3, scale=3.0, seed=1)
    stages = [Stage(ControlledODE(fields, control, RungeKutta("rk4", steps=8), throw=False)) for _ in range(2)]
    network = Network(None, stages, DifferenceReadout())
    data = torch.tensor([[0.1, 0.2], [1e3, -1e3], [0.2, -0.4], [-5.0, 2.0]])
    # Where all arrive, both say something.
    assert control_rank(network, 0.1 * data[::2]).outputs == 4
    assert len(check_stages(network, 0.1 * data[::2])) == 2
    for call in (control_rank, check_stages):
        with pytest.raises(ValueError, match=r"Rows \[1, 3\] of the data fail in a flow"):
            call(network, data)
