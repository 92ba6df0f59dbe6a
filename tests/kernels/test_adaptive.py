"""Rows that choose their steps in the C++ kernel: beside closed forms, and beside the plain steps."""

import copy
import ctypes
import math
import weakref

import numpy as np
import pytest
import torch

import cde_nets as cn
from cde_nets.kernels import adaptive, families, native, plain_steps
from cde_nets.solver import Status

pytestmark = [
    pytest.mark.skipif(native().library is None, reason=f"The CPU kernels are {native().description}"),
    # Hundreds of steps: the shape checker would take most of the time.
    pytest.mark.usefixtures("bad_input"),
]
F64 = torch.float64
FAMILIES = {
    "polynomial": lambda dtype: cn.PolynomialFields.random(3, 4, 2, seed=1, dtype=dtype),
    "ridge": lambda dtype: cn.RidgeFields.random(3, 4, 2, seed=1, dtype=dtype),
    "ridge of degree 3": lambda dtype: cn.RidgeFields.random(4, 3, 3, seed=1, dtype=dtype),
    "linear": lambda dtype: cn.LinearFields.random(3, 4, seed=1, dtype=dtype),
}


def flow_of(family, method="dopri5", *, pieces=5, dtype=F64, scale=1.0, tolerance=None, **options):
    fields = FAMILIES[family](dtype)
    control = cn.PiecewiseConstantControl.random(pieces, fields.count, scale=scale, seed=2, dtype=dtype)
    tolerance = cn.Tolerance(1e-5, 1e-7) if tolerance is None else tolerance
    return cn.ControlledODE(fields, control, method, tolerance=tolerance, throw=False, **options)


def uneven(flow, rows, largest=1.0):
    """Small states take few steps, large ones many."""
    x = torch.randn(rows, flow.dim, generator=torch.Generator().manual_seed(3), dtype=F64)
    x = x * torch.logspace(-2, math.log10(largest), rows, dtype=F64)[:, None]
    return x.to(flow._dtype).requires_grad_()


def weighed(value):
    w = torch.randn(value.shape, generator=torch.Generator().manual_seed(4), dtype=F64).to(value.dtype)
    return (value * w).sum()


def solved(flow, x):
    solution = flow.solve(x)
    return solution, *torch.autograd.grad(weighed(solution.value), [x, flow.control.values])


@pytest.fixture
def calls(monkeypatch):
    """How often the kernel went there and back."""
    seen = {"forward": 0, "backward": 0}
    for name in seen:
        run = getattr(adaptive, name)

        def counted(*arguments, name=name, run=run, **options):
            seen[name] += 1
            return run(*arguments, **options)

        monkeypatch.setattr(adaptive, name, counted)
    return seen


@pytest.fixture
def journeys(monkeypatch):
    """Those that are alive."""
    alive = weakref.WeakSet()

    class Watched(adaptive.Journey):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            alive.add(self)

    monkeypatch.setattr(adaptive, "Journey", Watched)
    return alive


def both_ways(run):
    """By the kernel, and by plain steps."""
    found = run()
    with plain_steps():
        return found, run()


def near(one, two, bound):
    one, two = one.detach(), two.detach()
    assert float(two.norm()) > 0
    assert float((one - two).norm()) <= bound * float(two.norm())


@pytest.mark.parametrize("method", ["heun", "bosh3", "dopri5", "tsit5"])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_take_the_steps_of_the_plain_version(family, method, calls):
    flow = flow_of(family, method)
    x = uneven(flow, 75)
    found = solved(flow, x)
    assert calls == {"forward": 1, "backward": 1}
    with plain_steps():
        plain = solved(flow, x)
    assert calls == {"forward": 1, "backward": 1}
    one, two = found[0], plain[0]
    assert torch.equal(one.status, two.status)
    assert torch.equal(one.statistics.accepted, two.statistics.accepted)
    assert torch.equal(one.statistics.rejected, two.statistics.rejected)
    assert len(set(one.statistics.steps.tolist())) > 1
    torch.testing.assert_close(one.time, two.time, rtol=1e-12, atol=0)
    near(one.value, two.value, 1e-10)
    near(one.size, two.size, 1e-10)
    near(found[1], plain[1], 1e-10)
    near(found[2], plain[2], 1e-10)


def test_single_precision(calls):
    flow = flow_of("polynomial", dtype=torch.float32, scale=0.5)
    x = uneven(flow, 75)
    solution, start, control = solved(flow, x)
    exact = copy.deepcopy(flow).double()
    y = x.detach().double().requires_grad_()
    truth = solved(exact, y)
    assert calls["forward"] == 2
    assert solution.value.dtype == start.dtype == control.dtype == torch.float32
    # Within some tolerances of the same flow in double precision.
    near(solution.value.double(), truth[0].value, 1e-4)
    near(start.double(), truth[1], 1e-3)
    near(control.double(), truth[2], 1e-3)


def test_decay_by_the_cube_is_that_of_the_closed_form(calls):
    """V(x) = -x^3 on the line: x(t) = x / sqrt(1 + 2 U x^2), U the integral of u; with both derivatives."""
    fields = cn.PolynomialFields(torch.tensor([[[0.0, 0.0, 0.0, -1.0]]], dtype=F64), 3)
    values = torch.tensor([[0.5], [2.0], [1.0]], dtype=F64)
    control = cn.PiecewiseConstantControl(3, 1, values=values)
    flow = cn.ControlledODE(fields, control, "dopri5", tolerance=cn.Tolerance(1e-11, 1e-13))
    x = torch.linspace(-4, 4, 80, dtype=F64)[:, None].requires_grad_()
    end = flow(x)
    start, slopes = torch.autograd.grad(end.sum(), [x, control.values])
    assert calls == {"forward": 1, "backward": 1}
    shrunk = 1 + 2 * values.mean() * x.detach() ** 2
    torch.testing.assert_close(end.detach(), x.detach() / shrunk.sqrt(), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(start, shrunk**-1.5, rtol=1e-8, atol=1e-9)
    expected = (-(x.detach() ** 3) * shrunk**-1.5).sum() / 3
    torch.testing.assert_close(slopes, expected.expand(3, 1), rtol=1e-7, atol=1e-7)


def test_a_row_does_not_depend_on_its_neighbours_nor_on_threads():
    flow = flow_of("ridge")
    x = uneven(flow, 150)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        whole = solved(flow, x)
        again = solved(flow, x)
        turned = flow.solve(x.flip(0))
        alone = [flow.solve(x[k : k + 1]).value for k in (0, 70, 149)]
        torch.set_num_threads(2)
        shared = solved(flow, x)
    finally:
        torch.set_num_threads(threads)
    for one, two in ((whole[0], again[0]), (whole[0], shared[0])):
        assert torch.equal(one.value, two.value)
        assert torch.equal(one.statistics.accepted, two.statistics.accepted)
    assert torch.equal(whole[0].value, turned.value.flip(0))
    for k, value in zip((0, 70, 149), alone, strict=True):
        assert torch.equal(whole[0].value[k : k + 1], value)
    assert torch.equal(whole[1], again[1])
    assert torch.equal(whole[2], again[2])
    assert torch.equal(whole[1], shared[1])
    near(shared[2], whole[2], 1e-13)


def test_rows_that_fail_keep_their_last_state_and_leave_the_others_alone(calls):
    """x' = x^2 blows up at 1 / x; NaN has no velocity."""
    fields = cn.PolynomialFields(torch.tensor([[[0.0, 0.0, 1.0]]], dtype=F64), 2)
    control = cn.PiecewiseConstantControl(2, 1, values=torch.ones(2, 1, dtype=F64))
    flow = cn.ControlledODE(fields, control, "dopri5", tolerance=cn.Tolerance(1e-8, 1e-10), throw=False)
    x = torch.tensor([[0.5], [4.0], [math.nan], [-3.0], [math.inf], [1.25]], dtype=F64).requires_grad_()
    solution, start, slopes = solved(flow, x)
    assert calls == {"forward": 1, "backward": 1}
    with plain_steps():
        plain, plain_start, plain_slopes = solved(flow, x)
    assert torch.equal(solution.status, plain.status)
    words = [Status(code) for code in solution.status.tolist()]
    failed = {1: 0.25, 5: 0.8}
    assert [k for k, status in enumerate(words) if not status.succeeded] == [1, 2, 4, 5]
    assert words[2] is words[4] is Status.DIVERGED
    for k, pole in failed.items():
        assert float(solution.time[k]) == pytest.approx(pole, rel=1e-6)
        assert math.isfinite(float(solution.value.detach()[k]))
    for k in (0, 3):
        assert float(solution.value.detach()[k]) == pytest.approx(float(x.detach()[k] / (1 - x.detach()[k])), rel=1e-6)
    assert torch.equal(start[[1, 2, 4, 5]], torch.zeros(4, 1, dtype=F64))
    torch.testing.assert_close(start, plain_start, rtol=1e-9, atol=0)
    torch.testing.assert_close(slopes, plain_slopes, rtol=1e-9, atol=0)


def test_where_every_row_fails_gradients_are_zero():
    flow = flow_of("polynomial")
    x = torch.full((3, 3), math.nan, dtype=F64, requires_grad=True)
    solution, start, slopes = solved(flow, x)
    assert solution.failed.all()
    assert not start.any()
    assert not slopes.any()


def test_tries_are_counted_up_to_the_limit(calls):
    flow = flow_of("polynomial", max_steps=9)
    x = uneven(flow, 40)
    solution, start, _ = solved(flow, x)
    with plain_steps():
        plain, plain_start, _ = solved(flow, x)
    assert calls["forward"] == 1
    assert torch.equal(solution.status, plain.status)
    assert torch.equal(solution.statistics.steps, plain.statistics.steps)
    assert set(solution.status.tolist()) == {int(Status.DONE), int(Status.MAX_STEPS)}
    near(solution.value, plain.value, 1e-12)
    near(start, plain_start, 1e-12)
    flow.throw = True
    with pytest.raises(cn.ConvergenceError, match="max_steps"):
        flow(x)


@pytest.mark.parametrize("times", [(0.0, 1.0), (1.0, 0.0), (0.1, 0.55), (0.9, 0.25)])
def test_any_stretch_of_the_control_either_way(times, calls):
    flow = flow_of("ridge")
    fields, control = flow.families[0], flow.control
    x = uneven(flow, 40)

    def run():
        problem = cn.InitialValueProblem.controlled(fields, control, x, *times)
        solution = cn.solve(problem, cn.RungeKutta("tsit5"), tolerance=cn.Tolerance(1e-7, 1e-9))
        return solution, *torch.autograd.grad(weighed(solution.value), [x, control.values])

    found = both_ways(run)
    assert calls == {"forward": 1, "backward": 1}
    (one, *first), (two, *second) = found
    assert torch.equal(one.statistics.steps, two.statistics.steps)
    assert torch.equal(one.time, torch.full((40,), times[1], dtype=F64))
    near(one.value, two.value, 1e-11)
    near(first[0], second[0], 1e-11)
    near(first[1], second[1], 1e-11)


@pytest.mark.parametrize(
    "method",
    [
        cn.RungeKutta("dopri5", first_step=0.03),
        cn.RungeKutta("dopri5", controller=cn.PIController(0.4, 0.3, 0.8, 0.3, 3.0)),
    ],
)
def test_the_first_step_and_the_controller_are_the_users(method, calls):
    flow = flow_of("polynomial", method)
    x = uneven(flow, 40)
    one = flow.solve(x)
    other = flow_of("polynomial").solve(x)
    with plain_steps():
        two = flow.solve(x)
    assert calls["forward"] == 2
    assert torch.equal(one.statistics.steps, two.statistics.steps)
    assert not torch.equal(one.statistics.steps, other.statistics.steps)
    near(one.value, two.value, 1e-11)


def test_second_derivatives_are_those_of_the_steps_taken():
    flow = flow_of("polynomial", pieces=2, scale=0.7)
    x = uneven(flow, 5)

    def second():
        first = torch.autograd.grad(weighed(flow(x)), [x, flow.control.values], create_graph=True)
        return torch.autograd.grad(sum(weighed(part) for part in first), [x, flow.control.values])

    for one, two in zip(*both_ways(second), strict=True):
        near(one, two, 1e-9)


@pytest.mark.parametrize(
    "what", ["event", "saves", "tolerances", "controller", "smooth", "drift", "joint", "trace", "checkpointed"]
)
def test_what_the_kernel_does_not_know_is_left_to_the_loop(what, calls):
    flow = flow_of("polynomial", pieces=2)
    fields, control, x, options = flow.families[0], flow.control, uneven(flow, 6), {}
    method, gradient, given = cn.RungeKutta("dopri5"), None, {}
    if what == "event":
        given["event"] = lambda t, x: x[:, 0] - 100.0
    elif what == "saves":
        options["save_at"] = (0.5,)
    elif what == "tolerances":
        options["tolerance"] = cn.Tolerance(torch.full((3,), 1e-6, dtype=F64), 1e-8)
    elif what == "controller":

        class Halving(cn.PIController):
            """Another rule."""

        method = cn.RungeKutta("dopri5", controller=Halving())
    elif what == "smooth":
        control = cn.SpectralControl.random(3, 4, scale=1.0, seed=0, dtype=F64)
    elif what == "drift":
        given["drift"] = cn.LinearFields.random(3, 1, seed=0, dtype=F64)
    elif what == "joint":
        method = cn.RungeKutta("dopri5", per_row=False)
    elif what == "trace":
        options["save_at"] = cn.SaveAt(steps=True)
    else:
        gradient = cn.Checkpointed()
    problem = cn.InitialValueProblem.controlled(fields, control, x, **given)
    cn.solve(problem, method, gradient=gradient, **options)
    assert calls["forward"] == 0


def test_functional_transforms_take_the_loop(calls):
    flow = flow_of("linear", pieces=1)
    x = uneven(flow, 4).detach()
    end, pull = torch.func.vjp(flow, x)
    (found,) = pull(torch.ones_like(x))
    assert calls["forward"] == 0
    x.requires_grad_()
    torch.testing.assert_close(end, flow(x), rtol=1e-11, atol=0)
    torch.testing.assert_close(found, torch.autograd.grad(flow(x).sum(), x)[0], rtol=1e-11, atol=0)
    assert calls == {"forward": 2, "backward": 1}


def test_the_steps_are_given_back_with_the_graph(journeys):
    flow = flow_of("polynomial")
    end = flow(uneven(flow, 20))
    assert len(journeys) == 1
    end.sum().backward(retain_graph=True)
    end.sum().backward()
    assert len(journeys) == 1
    del end
    assert not len(journeys)


def test_without_a_gradient_no_steps_are_kept(journeys):
    flow = flow_of("polynomial")
    with torch.no_grad():
        end = flow(uneven(flow, 20))
    assert not len(journeys)
    assert not end.requires_grad


def test_without_a_library_the_loop_takes_the_steps(monkeypatch, calls):
    flow = flow_of("polynomial")
    x = uneven(flow, 5)
    expected = flow(x)
    monkeypatch.setattr(adaptive, "available", lambda: False)
    torch.testing.assert_close(flow(x), expected, rtol=1e-10, atol=0)
    assert calls["forward"] == 1


def test_a_library_of_another_version_is_refused():
    call = adaptive._Adaptive()
    call.size = ctypes.sizeof(call) - 8
    with pytest.raises(RuntimeError, match="another version"):
        adaptive.checked(adaptive.library().cde_adaptive_forward(ctypes.byref(call)))


def test_long_journeys_have_many_blocks():
    """Thousands of steps of each row: more than a block of memory holds."""
    flow = flow_of("linear", "heun", pieces=1, scale=3.0, tolerance=cn.Tolerance(1e-8, 1e-10), max_steps=100_000)
    x = uneven(flow, 3)
    solution, start, slopes = solved(flow, x)
    assert int(solution.statistics.accepted.min()) > 5000
    matrices = flow.families[0].matrices
    exact = torch.func.vjp(
        lambda x, u: x @ torch.linalg.matrix_exp(torch.einsum("i,imn->mn", u[0], matrices)).T, x, flow.control.values
    )
    near(solution.value, exact[0], 1e-5)
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(4), dtype=F64)
    for one, two in zip((start, slopes), exact[1](weights), strict=True):
        near(one, two, 1e-5)


class TestSparsePolynomials:
    """Monomials that no field has are left out of the kernels."""

    def fields(self):
        """Van der Pol's oscillator in units of mu, degree four on R^3: 35 monomials, of which eight are needed."""
        exponents = [tuple(row) for row in np.asarray(cn.PolynomialFields.random(3, 1, 4, seed=0).exponents).tolist()]
        c = torch.zeros(2, 3, len(exponents), dtype=F64)
        c[0, 1, exponents.index((0, 1, 1))], c[0, 1, exponents.index((2, 1, 1))] = 1.0, -1.0
        c[1, 0, exponents.index((0, 1, 0))], c[1, 1, exponents.index((1, 0, 0))] = 1.0, -1.0
        return cn.PolynomialFields(c, 4)

    def test_what_is_left_is_what_is_needed(self):
        found = families.packed(self.fields())
        # 1, x, v, mu; v mu, x^2 v mu and the two on the way to it.
        assert found.shared.shape == (2, 3, 8)
        assert families.packed(cn.PolynomialFields.random(3, 2, 4, seed=0, dtype=F64)).shared.shape == (2, 3, 35)

    @pytest.mark.parametrize("method", [cn.RungeKutta("dopri5"), cn.RungeKutta("rk4", steps=12)])
    def test_flows_are_the_same(self, method):
        fields = self.fields()
        control = cn.PiecewiseConstantControl.random(3, 2, scale=1.0, seed=0, dtype=F64)
        flow = cn.ControlledODE(fields, control, method, throw=False)
        x = uneven(flow, 40, 2.0)

        def run():
            end = flow(x)
            return end, *torch.autograd.grad(weighed(end), [x, control.values])

        for one, two in zip(*both_ways(run), strict=True):
            near(one, two, 1e-11)

    @pytest.mark.parametrize("method", [cn.RungeKutta("dopri5"), cn.RungeKutta("rk4", steps=12)])
    def test_coefficients_that_are_loaded_later_count(self, method):
        flow = cn.ControlledODE(
            self.fields(), cn.PiecewiseConstantControl.random(3, 2, scale=1.0, seed=0, dtype=F64), method, throw=False
        )
        x = uneven(flow, 10)
        before = flow(x)
        flow.families[0].load_state_dict(cn.PolynomialFields.random(3, 2, 4, seed=5, dtype=F64).state_dict())
        after = flow(x)
        with plain_steps():
            plain = flow(x)
        near(after, plain, 1e-11)
        assert not torch.allclose(after, before, rtol=0.01)
