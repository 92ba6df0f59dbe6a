"""The flow as a module: what it refuses, what it reports, what it is made of."""

import copy

import pytest
import torch

from cde_nets.controls import DataControl, PiecewiseConstantControl
from cde_nets.errors import DivergedError
from cde_nets.fields import LinearFields, PolynomialFields, SphericalFields
from cde_nets.kernels import plain_steps
from cde_nets.nn import ControlledODE
from cde_nets.solver import Reversible, RungeKutta

F64 = torch.float64


def fields(seed=0, dim=3, count=4):
    return PolynomialFields.random(dim, count, 2, seed=seed, dtype=F64)


def control(steps=5, count=4, scale=0.3):
    return PiecewiseConstantControl.random(steps, count, scale=scale, seed=1, dtype=F64)


def points(rows=6, dim=3):
    return torch.randn(rows, dim, dtype=F64, generator=torch.Generator().manual_seed(2))


def squaring(steps, **options):
    """x' = x^2, whose solution from x is x / (1 - x t)."""
    family = PolynomialFields(torch.tensor([[[0.0, 0.0, 1.0]]], dtype=F64), 2)
    one = PiecewiseConstantControl(1, 1, values=torch.ones(1, 1, dtype=F64))
    return ControlledODE(family, one, RungeKutta("rk4", steps=steps), **options)


def test_the_trajectory_of_a_reversible_flow_is_at_its_steps_ends():
    flow = ControlledODE(fields(), control(), Reversible(RungeKutta("rk4", steps=10)))
    x = points()
    path = flow.trajectory(x)
    assert path.shape == (11, 6, 3)
    torch.testing.assert_close(path[-1], flow(x), rtol=0, atol=0)
    torch.testing.assert_close(
        path, ControlledODE(fields(), control(), flow.method.base).trajectory(x), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("method", [RungeKutta("rk4", steps=10), RungeKutta("dopri5")])
def test_what_comes_out_may_be_changed_in_place(method):
    gradients = []
    for change in (torch.relu, torch.relu_):
        flow = ControlledODE(fields(), control(), method)
        change(flow(points())).square().sum().backward()
        gradients.append(flow.control.values.grad)
    assert gradients[0].abs().max() > 0
    assert torch.equal(*gradients)


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("method", ["euler", "rk4"])
def test_the_trajectory_runs_from_the_start_to_the_end_of_forward(fresh, method):
    flow = ControlledODE([fields(s) for s in range(5)] if fresh else fields(), control(), RungeKutta(method, steps=10))
    x = points()
    path = flow.trajectory(x)
    assert path.shape == (11, 6, 3)
    assert torch.equal(path[0], x)
    torch.testing.assert_close(path[-1], flow(x), rtol=1e-13, atol=1e-14)
    with plain_steps():
        assert torch.equal(path[-1], flow(x))
    assert flow.times == tuple(n / 10 for n in range(11))
    assert not path.requires_grad


def test_a_zero_control_is_the_identity():
    x = points()
    assert torch.equal(ControlledODE(fields(), PiecewiseConstantControl(5, 4).double())(x), x)


def test_one_family_and_copies_of_it_make_the_same_flow():
    x, u = points(), control()
    torch.testing.assert_close(ControlledODE(fields(), u)(x), ControlledODE([fields()] * 5, u)(x), rtol=0, atol=0)


def test_a_rotation_ends_where_the_angle_says():
    turn = LinearFields(torch.tensor([[[0.0, -1.0], [1.0, 0.0]]], dtype=F64))
    angles = torch.tensor([[0.5], [1.5]], dtype=F64)
    flow = ControlledODE(turn, PiecewiseConstantControl(2, 1, values=angles), RungeKutta("rk4", steps=100))
    want = torch.tensor([[torch.tensor(1.0).cos(), torch.tensor(1.0).sin()]], dtype=F64)
    torch.testing.assert_close(flow(torch.tensor([[1.0, 0.0]], dtype=F64)), want, rtol=0, atol=1e-7)


@pytest.mark.parametrize("method", ["euler", "rk4"])
def test_on_the_sphere_every_step_keeps_the_norm(method):
    family = fields() if method == "euler" else SphericalFields(fields())
    path = ControlledODE(family, control(scale=2.0), method, manifold="sphere").trajectory(points())
    norms = path.norm(dim=2)
    torch.testing.assert_close(norms, norms[:1].expand_as(norms), rtol=1e-13, atol=0)


def test_only_the_control_trains():
    flow = ControlledODE([fields(s) for s in range(5)], control())
    assert [name for name, _ in flow.named_parameters()] == ["control.values"]
    assert sum(p.numel() for p in flow.parameters()) == 5 * 4
    assert (flow.dim, flow.count) == (3, 4)


def test_a_copy_steps_along_its_own_fields():
    flow = ControlledODE(fields(), control())
    twin, x = copy.deepcopy(flow), points()
    want = flow(x)
    for buffer in flow.buffers():
        buffer.zero_()
    assert torch.equal(flow(x), x)
    assert torch.equal(twin(x), want)


def test_casting_reaches_every_step():
    flow = ControlledODE([fields(s) for s in range(5)], control())
    want = flow(points())
    got = flow.float()(points().float())
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("blow_up", "rows"), [(0.25, "Row 1 of 3"), (0.5, "Row 1 of 3"), (0.875, "Row 1 of 3")])
def test_divergence_names_the_row_and_the_time_of_blow_up(blow_up, rows):
    steps = 400
    x = torch.tensor([[-1.0], [1 / blow_up], [0.5]], dtype=F64)
    with pytest.raises(DivergedError, match=rf"{rows} diverged at t = .*manifold='sphere'") as error:
        squaring(steps)(x)
    time = float(str(error.value).split("t = ")[1].split(" ")[0].rstrip("."))
    # The numerical solution needs a few steps beyond the pole to overflow.
    assert blow_up <= time <= blow_up + 10 / steps


def test_divergence_of_many_rows_names_five_and_counts_all_with_the_earliest_time():
    x = torch.cat([torch.zeros(1, 1), torch.linspace(2, 8, 7)[:, None]]).double()
    with pytest.raises(DivergedError, match=r"Rows 1, 2, 3, 4, 5, \.\. \(7\) of 8 diverged, the first at t") as error:
        squaring(400)(x)
    assert abs(float(str(error.value).split("t = ")[1].split(" ")[0].rstrip(".")) - 1 / 8) < 0.03


def test_without_throw_failed_rows_keep_their_last_finite_value_and_the_others_are_untouched():
    x = torch.tensor([[4.0], [0.5], [torch.nan]], dtype=F64)
    flow = squaring(200, throw=False)
    assert flow.failed is None
    end = flow(x)
    assert flow.failed.tolist() == [True, False, True]
    assert end.isfinite().flatten().tolist() == [True, True, False]
    torch.testing.assert_close(end[1], torch.tensor([1.0], dtype=F64), rtol=1e-6, atol=0)  # 0.5 / (1 - 0.5)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_control_that_is_not_finite_is_named_as_the_cause(bad):
    flow = ControlledODE(fields(), control())
    with torch.no_grad():
        next(flow.control.parameters()).view(-1)[0] = bad
    with pytest.raises(DivergedError, match="The control holds NaN or infinity"):
        flow(points())


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_an_input_that_is_not_finite_is_refused_by_its_rows(bad):
    x = points()
    x[4, 1] = bad
    with pytest.raises(ValueError, match=r"NaN or infinity in row 4 of 6\. Clean those rows, or pass throw=False"):
        ControlledODE(fields(), control())(x)
    x[1] = bad
    with pytest.raises(ValueError, match=r"in rows 1, 4 \(2\) of 6"):
        ControlledODE(fields(), control())(x)


def test_describe_says_what_the_flow_is_made_of():
    tied = ControlledODE(fields(), control(), "euler", manifold="sphere").describe()
    for part in ("PolynomialFields(dim=3, count=4, degree=2)", "tied over 5 intervals", "euler in 5 steps", "no drift"):
        assert part in tied
    assert "on the sphere" in tied
    fresh = ControlledODE([fields(s) for s in range(5)], control(), RungeKutta("rk4", steps=15))
    assert "fresh at each of 5 intervals, rk4 in 15 steps, no drift" in fresh.describe()
    assert fresh.describe() in repr(fresh)


def test_a_list_of_one_family_over_several_intervals_is_described_as_tied():
    assert "tied over 5 intervals" in ControlledODE([fields()], control()).describe()


@pytest.mark.parametrize(
    ("families", "options", "message"),
    [
        (fields(count=3), {}, "control has 4 components and PolynomialFields has 3 fields; .* count=3"),
        ([fields(), *[fields(dim=2)] * 4], {}, r"families live on R\^3 and R\^2"),
        ([fields()] * 3, {}, r"3 families for a control of 5 intervals: give one family \(tied\) or 5"),
        ([], {}, "0 families for a control of 5 intervals"),
        (["V"] * 5, {}, "a family or a sequence of families; got a str"),
        (fields(), {"method": "leapfrog"}, "Unknown method 'leapfrog'; known are euler, midpoint"),
        (fields(), {"manifold": "torus", "method": "euler"}, "Unknown manifold 'torus'; known are sphere"),
        (fields(), {"manifold": "sphere"}, "'rk4' keeps its order only on tangent fields: wrap .* SphericalFields"),
        ([SphericalFields(fields())] * 4 + [fields()], {"manifold": "sphere"}, "only on tangent fields"),
        (fields(), {"method": RungeKutta("euler", steps=3)}, "steps=3 cannot reach each of the 4 breakpoints"),
        (fields(), {"method": RungeKutta("rk4", mesh=(0.0, 0.5, 1.0))}, "mesh leaves the breakpoint t=0.2 inside"),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_work_starts(bad_input, families, options, message):
    with pytest.raises(ValueError, match=message):
        ControlledODE(families, control(), **options)


def test_states_of_another_dtype_or_shape_are_refused(bad_input):
    flow = ControlledODE(fields(), control())
    with pytest.raises(ValueError, match=r"x is torch.float32.*fields.to\(torch.float32\)"):
        flow(points().float())
    with pytest.raises(ValueError, match=r"expects x of shape \(batch, 3\); got shape \(6, 2\)"):
        flow(points(dim=2))


def test_a_control_for_each_row_flows_each_row_along_its_own():
    fields = PolynomialFields.random(dim=2, count=3, degree=2, seed=0, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    paths = 0.1 * torch.randn(4, 6, 3, dtype=torch.float64, generator=generator).cumsum(1)
    x = 0.3 * torch.randn(4, 2, dtype=torch.float64, generator=generator)
    knots = torch.linspace(0, 1, 6, dtype=torch.float64)
    flow = ControlledODE(fields, DataControl(knots, paths), "rk4")
    alone = [ControlledODE(fields, DataControl(knots, paths[k : k + 1]), "rk4")(x[k : k + 1]) for k in range(4)]
    torch.testing.assert_close(flow(x), torch.cat(alone))
    torch.testing.assert_close(flow.trajectory(x)[-1], flow(x))
    assert len(flow.times) == 6


def test_a_family_that_is_put_in_the_place_of_another_is_the_flows():
    """exp(1) by rk4's step, and exp(-1) after it; also where both are cast then."""
    grow = LinearFields(torch.eye(2, dtype=torch.float64)[None])
    control = PiecewiseConstantControl(1, 1, values=torch.ones(1, 1, dtype=torch.float64))
    flow = ControlledODE(grow, control)
    x = torch.ones(1, 2, dtype=torch.float64)
    assert flow(x).tolist()[0] == pytest.approx([1 + 1 + 1 / 2 + 1 / 6 + 1 / 24] * 2)
    flow.families[0] = LinearFields(-torch.eye(2, dtype=torch.float64)[None])
    assert flow(x).tolist()[0] == pytest.approx([1 - 1 + 1 / 2 - 1 / 6 + 1 / 24] * 2)
    flow.float()
    assert flow(x.float()).tolist()[0] == pytest.approx([0.375] * 2)
    assert flow.solve(x.float()).value.tolist()[0] == pytest.approx([0.375] * 2)
