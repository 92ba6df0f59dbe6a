"""The discrete adjoint is the exact gradient of the steps that were taken, without a graph of them."""

import copy
from dataclasses import dataclass

import pytest
import torch

from cde_nets.controls import Control, PiecewiseConstantControl
from cde_nets.fields import PolynomialFields
from cde_nets.gradient import Discrete, solve
from cde_nets.nn import ControlledODE
from cde_nets.solver import InitialValueProblem, RungeKutta, aligned_mesh
from cde_nets.solver.flow.tableau import EULER, RK4

F64 = torch.float64
TABLEAUS = {"euler": EULER, "rk4": RK4}
UNEVEN = (0.0, 0.1, 0.35, 0.5, 1.0)


class StageControl(Control):
    """A value of its own for every stage of every step."""

    def __init__(self, values, mesh):
        super().__init__()
        self.held, self.mesh, self.count = values, mesh, values.shape[-1]

    @property
    def breakpoints(self):
        return tuple(self.mesh[1:-1])

    def at(self, times, inside=None):
        raise AssertionError("on a fixed grid the values are looked up")

    def on_mesh(self, mesh, nodes):
        assert tuple(mesh) == self.mesh
        assert self.held.shape[:2] == (len(mesh) - 1, len(nodes))
        return self.held


@dataclass
class Grid:
    """Families, one for each step of a mesh, and how they are stepped."""

    fields: list
    method: str
    mesh: tuple
    sphere: bool

    @property
    def steps(self):
        return len(self.mesh) - 1


def discrete(grid, x, values):
    """The end of the flow, with a control value for every stage of every step."""
    problem = InitialValueProblem.controlled(
        grid.fields, StageControl(values, grid.mesh), x, manifold="sphere" if grid.sphere else None
    )
    return solve(problem, RungeKutta(grid.method, mesh=grid.mesh), gradient=Discrete(), throw=False).value


def normal(*shape, seed=0, dtype=F64, scale=1.0):
    return scale * torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def make(build, method, *, fresh, sphere, mesh=UNEVEN, dtype=F64):
    steps = len(mesh) - 1
    families = [build(seed, dtype) for seed in range(steps)] if fresh else [build(0, dtype)] * steps
    grid = Grid(families, method, mesh, sphere)
    return grid, normal(steps, TABLEAUS[method].stages, families[0].count, seed=1, scale=0.5).to(dtype)


def gradients(end, inputs, w):
    return torch.autograd.grad((end * w).sum(), inputs)


@pytest.mark.parametrize("sphere", [False, True])
@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("method", TABLEAUS)
def test_finite_differences_confirm_the_gradient(build, method, fresh, sphere):
    grid, values = make(build, method, fresh=fresh, sphere=sphere, mesh=(0.0, 0.4, 1.0))
    x = normal(2, grid.fields[0].dim)
    inputs = (x.requires_grad_(), values.requires_grad_())
    # Fast mode compares random combinations of the entries; all of them are compared with autograd below.
    assert torch.autograd.gradcheck(lambda x, v: discrete(grid, x, v), inputs, fast_mode=True)


@pytest.mark.parametrize("sphere", [False, True])
@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("method", TABLEAUS)
@pytest.mark.parametrize("rows", [1, 7])
def test_value_and_gradient_are_those_of_autograd_through_the_same_steps(build, plain, method, fresh, sphere, rows):
    grid, values = make(build, method, fresh=fresh, sphere=sphere)
    x = normal(rows, grid.fields[0].dim).requires_grad_()
    values.requires_grad_()
    want = plain(grid.fields, method, grid.mesh, x, values, sphere)
    got = discrete(grid, x, values)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-13)
    w = normal(*x.shape, seed=2)
    for mine, autograd in zip(gradients(got, (x, values), w), gradients(want, (x, values), w), strict=True):
        assert float((mine - autograd).norm()) <= 1e-12 * float(autograd.norm())


@pytest.mark.parametrize("sphere", [False, True])
@pytest.mark.parametrize("method", TABLEAUS)
def test_the_control_gradient_is_the_same_where_nobody_asks_for_the_start(build, plain, method, sphere):
    grid, values = make(build, method, fresh=True, sphere=sphere)
    x, w = normal(3, grid.fields[0].dim), normal(3, grid.fields[0].dim, seed=2)
    values.requires_grad_()
    alone = gradients(discrete(grid, x, values), values, w)[0]
    want = gradients(plain(grid.fields, method, grid.mesh, x, values, sphere), values, w)[0]
    torch.testing.assert_close(alone, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", TABLEAUS)
def test_the_start_gradient_is_the_same_where_the_control_does_not_train(build, plain, method):
    grid, values = make(build, method, fresh=True, sphere=False)
    x, w = normal(3, grid.fields[0].dim).requires_grad_(), normal(3, grid.fields[0].dim, seed=2)
    want = gradients(plain(grid.fields, method, grid.mesh, x, values), x, w)[0]
    torch.testing.assert_close(gradients(discrete(grid, x, values), x, w)[0], want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", TABLEAUS)
@pytest.mark.parametrize("fresh", [False, True])
def test_several_steps_an_interval_add_up_in_the_gradient_of_its_values(by_name, plain, method, fresh):
    build = by_name("polynomial")
    families = [build(s, F64) for s in range(3)] if fresh else build(0, F64)
    control = PiecewiseConstantControl.random(3, 3, scale=0.5, seed=0, dtype=F64)
    flow = ControlledODE(families, control, RungeKutta(method, steps=12))
    x, w = normal(4, 2), normal(4, 2, seed=1)
    got = gradients(flow(x), control.values, w)[0]
    values = control.values.detach().clone().requires_grad_()
    spread = values.repeat_interleave(4, 0)[:, None].expand(-1, 4, -1)
    each = [f for f in families for _ in range(4)] if fresh else [families] * 12
    want = gradients(plain(each, method, aligned_mesh(0.0, 1.0, 12, []), x, spread), values, w)[0]
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("sphere", [False, True])
@pytest.mark.parametrize("method", TABLEAUS)
def test_float32_follows_float64(build, method, sphere):
    narrow, values = make(build, method, fresh=True, sphere=sphere, dtype=torch.float32)
    wide = Grid([copy.deepcopy(f).double() for f in narrow.fields], narrow.method, narrow.mesh, narrow.sphere)
    x = normal(3, narrow.fields[0].dim).float()
    found = []
    for grid, dtype in ((narrow, torch.float32), (wide, F64)):
        inputs = (x.to(dtype).requires_grad_(), values.to(dtype).requires_grad_())
        w = normal(*x.shape, seed=2).to(dtype)
        found.append(gradients(discrete(grid, *inputs), inputs, w))
    for single, double in zip(*found, strict=True):
        assert single.dtype == torch.float32
        assert float((single.double() - double).norm()) < 1e-4 * float(double.norm())


@pytest.mark.parametrize("sphere", [False, True])
@pytest.mark.parametrize("method", TABLEAUS)
def test_only_the_states_at_step_ends_are_kept(build, method, sphere, no_kernels):
    grid, values = make(build, method, fresh=True, sphere=sphere)
    x = normal(6, grid.fields[0].dim).requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        end = discrete(grid, x, values.requires_grad_())
    # The starts of the steps; on the sphere the end too, and the lengths' ratios. The mask says which rows succeeded.
    states, scales = [tuple(x.shape)] * (grid.steps + sphere), [(6, 1)] * (grid.steps if sphere else 0)
    assert sorted(map(tuple, kept)) == sorted([tuple(values.shape), *states, *scales, (6,)])
    # One node, whose parents are the leaves.
    leaves = [node.variable for node, _ in end.grad_fn.next_functions if node is not None]
    assert [t is want for t, want in zip(leaves, (x, values), strict=True)] == [True, True]


@pytest.mark.parametrize("sphere", [False, True])
@pytest.mark.parametrize("method", TABLEAUS)
def test_second_derivatives_are_those_of_finite_differences(by_name, method, sphere):
    grid, values = make(by_name("polynomial"), method, fresh=True, sphere=sphere, mesh=(0.0, 0.4, 1.0))
    inputs = (normal(2, 2).requires_grad_(), values.requires_grad_())
    assert torch.autograd.gradgradcheck(lambda x, v: discrete(grid, x, v), inputs, fast_mode=True)


def test_a_second_backward_needs_the_graph_to_be_retained(by_name):
    grid, values = make(by_name("polynomial"), "euler", fresh=False, sphere=False)
    total = discrete(grid, normal(2, 2), values.requires_grad_()).sum()
    first = torch.autograd.grad(total, values, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(total, values)[0], first)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(total, values)


def test_a_control_changed_before_the_backward_pass_is_refused(by_name):
    flow = ControlledODE(by_name("polynomial")(0, F64), PiecewiseConstantControl(2, 3).double())
    total = flow(normal(2, 2)).sum()
    with torch.no_grad():
        flow.control.values.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


def test_no_gradient_is_kept_where_none_is_asked_for(by_name):
    grid, values = make(by_name("polynomial"), "rk4", fresh=False, sphere=False)
    assert discrete(grid, normal(2, 2), values).grad_fn is None
    with torch.no_grad():
        assert discrete(grid, normal(2, 2), values.requires_grad_()).grad_fn is None


def test_the_gradient_for_no_rows_is_zero(by_name):
    grid, values = make(by_name("polynomial"), "rk4", fresh=False, sphere=False)
    end = discrete(grid, torch.zeros(0, 2, dtype=F64), values.requires_grad_())
    assert end.shape == (0, 2)
    assert not torch.autograd.grad(end.sum(), values)[0].any()


def test_a_failed_row_contributes_zero_to_the_control_gradient():
    quadratic = PolynomialFields(torch.tensor([[[0.0, 0.0, 1.0]]]), 2)
    control = PiecewiseConstantControl(1, 1, values=torch.tensor([[1e30]]))
    flow = ControlledODE(quadratic, control, "euler", throw=False)
    end = flow(torch.tensor([[1e20], [1.0]]))
    assert flow.failed.tolist() == [True, False]
    end.sum().backward()
    assert control.values.grad.tolist() == [[1.0]]
