"""The CPU kernels beside the plain steps, which are tested against autograd, and beside formulas written out here."""

import copy
import ctypes
import subprocess
import sys

import pytest
import torch

import cde_nets as cn
from cde_nets import kernels
from cde_nets.gradient.whole import Prepared
from cde_nets.kernels import coverage, cpu, native, plain_steps, products
from cde_nets.kernels.native import Native

needs_library = pytest.mark.skipif(native().library is None, reason=f"The CPU kernels are {native().description}")
METHODS = ["euler", "midpoint", "heun", "heun3", "rk4", "rk38", "bosh3", "dopri5", "tsit5"]
FAMILIES = {
    "ridge": lambda dtype: cn.RidgeFields.random(5, 4, 3, seed=0, dtype=dtype),
    "ridge of degree 1": lambda dtype: cn.RidgeFields.random(6, 3, 1, seed=0, dtype=dtype),
    "ridge in the plane": lambda dtype: cn.RidgeFields.random(2, 6, 2, seed=0, dtype=dtype),
    "ridge on the line": lambda dtype: cn.RidgeFields.random(1, 3, 2, seed=0, dtype=dtype),
    "ridge of 8": lambda dtype: cn.RidgeFields.random(8, 3, 2, seed=0, dtype=dtype),
    "ridge in groups": lambda dtype: cn.RidgeFields.random(33, 9, 2, seed=0, dtype=dtype),
    "polynomials": lambda dtype: cn.PolynomialFields.random(3, 4, 3, seed=0, dtype=dtype),
    "polynomials of degree 1": lambda dtype: cn.PolynomialFields.random(3, 4, 1, seed=0, dtype=dtype),
    "polynomials in the plane": lambda dtype: cn.PolynomialFields.random(2, 5, 2, seed=0, dtype=dtype),
    "many polynomials": lambda dtype: cn.PolynomialFields.random(10, 30, 2, seed=0, dtype=dtype),
    "linear": lambda dtype: cn.LinearFields.random(5, 3, seed=0, dtype=dtype),
}


def make(family, method="euler", steps=6, rows=37, dtype=torch.float64, gradient=None, **options):
    fields = FAMILIES[family](dtype)
    control = cn.PiecewiseLinearControl.random(3, fields.count, scale=0.5, seed=1, dtype=dtype)
    flow = cn.ControlledODE(fields, control, cn.RungeKutta(method, steps=steps), gradient=gradient, **options)
    x = 0.5 * torch.randn(rows, fields.dim, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return flow, x.to(dtype).requires_grad_()


def gradients(flow, x, weight):
    end = flow(x)
    return [end, *torch.autograd.grad((end * weight).sum(), [x, *flow.control.parameters()])]


def weights(x):
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(x.dtype)


@pytest.fixture
def launches(monkeypatch):
    """How often a kernel ran."""
    seen = {"forward": 0, "backward": 0}
    for name in seen:
        run = getattr(cpu, name)

        def counted(*args, name=name, run=run):
            seen[name] += 1
            return run(*args)

        monkeypatch.setattr(cpu, name, counted)
    return seen


@pytest.fixture(params=["held", "made again"])
def held(request, monkeypatch):
    """Where the way back has the pre-activations of ridge fields from."""
    if request.param == "made again":
        monkeypatch.setattr(cpu, "MOST_HELD", 0)


@needs_library
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["euler", "rk4"])
def test_a_kernel_is_the_plain_steps(family, method, launches, held):
    flow, x = make(family, method)
    found = gradients(flow, x, weights(x))
    assert launches == {"forward": 1, "backward": 1}
    with plain_steps():
        expected = gradients(flow, x, weights(x))
    assert launches == {"forward": 1, "backward": 1}
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)


@needs_library
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["ridge", "polynomials"])
def test_every_tableau_against_autograd_through_the_definition(method, family, held):
    flow, x = make(family, method, rows=5)
    fields, table = flow.families[0], cn.RungeKutta(method).tableau
    found = gradients(flow, x, weights(x))
    values = flow.control.values.detach().clone().requires_grad_()
    control = copy.deepcopy(flow.control)
    state = x
    for n in range(6):
        slopes = []
        for j in range(table.stages):
            at = state + sum((a * k / 6 for a, k in zip(table.a[j], slopes, strict=False)), torch.zeros_like(x))
            # Three intervals of two steps each: linear between the knots.
            t = 3 * (n + table.c[j]) / 6
            left = n // 2
            u = values[left] + (t - left) * (values[left + 1] - values[left])
            slopes.append((u[:, None] * fields.evaluate(at)).sum(1))
        state = state + sum(b * k for b, k in zip(table.b, slopes, strict=True)) / 6
    expected = [state, *torch.autograd.grad((state * weights(x)).sum(), [x, values])]
    assert len(found) == len(expected) == 2 + len(list(control.parameters()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@needs_library
@pytest.mark.parametrize("rows", [1, 31, 32, 33, 64, 130])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("family", ["ridge", "polynomials"])
def test_rows_that_do_not_fill_a_tile_and_threads_that_share_them(rows, threads, family, held):
    flow, x = make(family, rows=rows)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found, again = gradients(flow, x, weights(x)), gradients(flow, x, weights(x))
    finally:
        torch.set_num_threads(before)
    with plain_steps():
        expected = gradients(flow, x, weights(x))
    for one, same, other in zip(found, again, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)
        assert torch.equal(one, same)


@needs_library
@pytest.mark.parametrize("family", FAMILIES)
def test_single_precision_is_as_near_as_its_rounding(family):
    flow, x = make(family, dtype=torch.float32)
    found = gradients(flow, x, weights(x))
    exact = gradients(flow.double(), x.detach().double().requires_grad_(), weights(x).double())
    for one, other in zip(found, exact, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() <= 2e-6 * other.norm()


@needs_library
@pytest.mark.parametrize("budget", [1, 2, 3, 7, 100, None])
@pytest.mark.parametrize("family", ["ridge", "polynomials"])
def test_states_kept_now_and_then_give_the_same_bits(budget, family, launches):
    for steps in (1, 2, 7, 25):
        flow, x = make(family, "midpoint", steps=3 * steps)
        whole = gradients(flow, x, weights(x))
        flow.gradient = cn.Checkpointed(budget)
        found = gradients(flow, x, weights(x))
        assert all(map(torch.equal, found, whole))
    assert launches["backward"] == 8


@needs_library
@pytest.mark.parametrize("family", ["ridge", "ridge in groups", "ridge in the plane"])
@pytest.mark.parametrize("method", METHODS)
def test_pre_activations_that_are_held_change_no_bit(family, method, monkeypatch):
    flow, x = make(family, method)
    found = gradients(flow, x, weights(x))
    monkeypatch.setattr(cpu, "MOST_HELD", 0)
    for one, other in zip(found, gradients(flow, x, weights(x)), strict=True):
        assert torch.equal(one, other)


@needs_library
def test_fewer_states_are_kept():
    x, table = torch.zeros(64, 5), torch.zeros(2, 1)
    sizes = [cpu.kept_numbers(x, [], 1, torch.zeros(100), table, every) for every in (1, 10, 100)]
    assert sizes == [64 * 5 * 100, 64 * 5 * 10, 64 * 5]


@needs_library
@pytest.mark.parametrize("family", ["ridge", "polynomials"])
@pytest.mark.parametrize("gradient", [cn.Discrete(), cn.Checkpointed()])
def test_rows_fail_alone(family, gradient, held):
    flow, x = make(family, "rk4", rows=40, gradient=gradient, throw=False)
    with torch.no_grad():
        x[3], x[7, 1], x[35] = 1e3, torch.nan, 1e200
    x = x.detach().requires_grad_()
    solution = flow.solve(x)
    found = gradients(flow, x, weights(x))
    lost = [3, 7, 35]
    assert torch.nonzero(flow.failed).flatten().tolist() == torch.nonzero(solution.failed).flatten().tolist() == lost
    with plain_steps():
        plain, expected = flow.solve(x), gradients(flow, x, weights(x))
    assert solution.words() == plain.words()
    for name in ("accepted", "rejected"):
        assert torch.equal(getattr(solution.statistics, name), getattr(plain.statistics, name))
    assert solution.statistics.evaluations == plain.statistics.evaluations == 24
    assert torch.equal(solution.time, plain.time)
    torch.testing.assert_close(solution.value, plain.value, equal_nan=True)
    torch.testing.assert_close(solution.size, plain.size, equal_nan=True)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12, equal_nan=True)
    assert not found[1][lost].any()
    # What shares a tile with them is untouched, to the bit.
    kept = torch.ones(40, dtype=torch.bool)
    kept[lost] = False
    healthy = x.detach().clone()
    healthy[lost] = 0.1
    again = flow(healthy)
    assert torch.equal(again[kept], found[0][kept])


@needs_library
def test_rows_that_fail_raise_as_the_plain_steps_do(monkeypatch):
    flow, x = make("polynomials", "rk4", rows=3)
    start = x.detach().clone()
    start[1] = 1e90
    messages = []
    for _ in range(2):
        with pytest.raises(cn.DivergedError, match="Row 1 of 3") as error:
            flow(start)
        messages.append(str(error.value))
        monkeypatch.setattr(coverage._Switch, "on", False)
    assert messages[0] == messages[1]
    with pytest.raises(ValueError, match="NaN or infinity in row 1"):
        flow(start.index_fill(0, torch.tensor([1]), torch.nan))


@needs_library
def test_only_what_is_wanted_gets_a_gradient(launches):
    flow, x = make("ridge")
    (by_control,) = torch.autograd.grad(flow(x.detach()).sum(), [flow.control.values])
    flow.control.requires_grad_(False)
    (by_state,) = torch.autograd.grad(flow(x).sum(), [x])
    assert not flow(x.detach()).requires_grad
    with torch.no_grad():
        assert not flow(x).requires_grad
    flow.control.requires_grad_(True)
    both = torch.autograd.grad(flow(x).sum(), [x, flow.control.values])
    assert torch.equal(both[0], by_state)
    assert torch.equal(both[1], by_control)
    assert launches == {"forward": 5, "backward": 3}


@needs_library
def test_second_derivatives_go_through_the_plain_steps():
    flow, x = make("ridge", "midpoint", steps=3, rows=2)
    x = x.detach().requires_grad_()
    assert torch.autograd.gradcheck(flow, (x,), check_batched_grad=False)
    assert torch.autograd.gradgradcheck(flow, (x,))


@needs_library
@pytest.mark.parametrize("change", ["dtype", "method", "gradient", "control", "fields"])
def test_what_is_found_once_is_found_anew_after_a_change(change, launches):
    flow, x = make("ridge")
    flow(x)
    if change == "dtype":
        flow, x = flow.float(), x.float()
    elif change == "method":
        flow.method = cn.RungeKutta("rk4", steps=9)
    elif change == "gradient":
        flow.gradient = cn.Autograd()
    elif change == "control":
        flow.control = cn.PiecewiseConstantControl.random(3, 4, scale=1.0, seed=5, dtype=torch.float64)
    else:
        flow.load_state_dict({k: 2 * v for k, v in flow.state_dict().items()})
    found = flow(x)
    assert launches["forward"] == (1 if change == "gradient" else 2)
    with plain_steps():
        torch.testing.assert_close(found, flow(x))


@needs_library
def test_a_state_of_another_shape_is_refused_also_after_one_that_fits(bad_input):
    flow, x = make("ridge")
    flow(x)
    for wrong in (x[:, :4], x[0], x[None], x.float(), [1.0]):
        with pytest.raises(ValueError, match=r"float32|shape|torch tensor"):
            flow(wrong)
    assert flow(x[:0]).shape == (0, 5)


@needs_library
@pytest.mark.parametrize("what", ["saved", "adaptive", "sphere", "event", "rows", "drift", "fresh", "traced", "half"])
def test_what_no_kernel_covers_is_left_to_the_plain_steps(what, launches):
    flow, x = make("ridge")
    fields, control = flow.families[0], flow.control
    options, method, save_at = {}, cn.RungeKutta("rk4", steps=6), None
    if what == "saved":
        save_at = (0.5, 1.0)
    elif what == "traced":
        save_at = cn.SaveAt(steps=True)
    elif what == "adaptive":
        method = cn.RungeKutta("dopri5")
    elif what == "sphere":
        options["manifold"] = "sphere"
    elif what == "event":
        options["event"] = lambda t, x: x[:, 0] - 1e9
    elif what == "drift":
        options["drift"] = fields
    elif what == "rows":
        control = OneForEachRow(torch.randn(37, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64))
    elif what == "fresh":
        fields = [cn.RidgeFields.random(5, 4, 3, seed=k, dtype=torch.float64) for k in range(3)]
    else:
        fields, x = fields.bfloat16(), x.float()
        control = copy.deepcopy(control).float()
    problem = cn.InitialValueProblem.controlled(fields, control, x, **options)
    assert cn.solve(problem, method, save_at=save_at, throw=False).succeeded.all()
    assert launches["forward"] == 0


class OneForEachRow(cn.Control):
    """A constant control for each row."""

    count, rows, breakpoints = 4, 37, ()

    def __init__(self, values):
        super().__init__()
        self.values = values

    def at(self, times, inside=None):
        return 0.1 * self.values.expand(*times.shape[:-1], 37, 4)


@needs_library
@pytest.mark.parametrize("most", [0, 2**26])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["ridge", "ridge of degree 1", "ridge in groups"])
def test_fields_too_large_for_a_tile_go_through_matrix_products(family, method, most, monkeypatch, launches):
    """With all pre-activations kept, and with none."""
    calls = []
    step = products._Ridge.step
    monkeypatch.setattr(products._Ridge, "step", lambda *args: calls.append(1) or step(*args))
    monkeypatch.setattr(cpu, "MOST_NUMBERS", 10)
    monkeypatch.setattr(products, "MOST_KEPT", most)
    flow, x = make(family, method, rows=40, throw=False)
    with torch.no_grad():
        x[3], x[7, 1], x[35] = 1e300, torch.nan, -1e300
    for gradient in (cn.Discrete(), cn.Checkpointed()):
        calls.clear()
        flow.gradient = gradient
        found, lost = gradients(flow, x, weights(x)), flow.failed
        # Six steps on the way there; on the way back the first of each stretch of two.
        assert len(calls) == 6 + (3 if isinstance(gradient, cn.Checkpointed) else 0)
        with plain_steps():
            expected = gradients(flow, x, weights(x))
        assert torch.equal(lost, flow.failed)
        assert 1 <= lost.sum() <= 3
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12, equal_nan=True)
    assert launches == {"forward": 2, "backward": 2}


@needs_library
def test_products_in_single_precision_with_threads(monkeypatch):
    monkeypatch.setattr(cpu, "MOST_NUMBERS", 10)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        flow, x = make("ridge in groups", dtype=torch.float32)
        found, again = gradients(flow, x, weights(x)), gradients(flow, x, weights(x))
    finally:
        torch.set_num_threads(before)
    with plain_steps():
        exact = gradients(flow.double(), x.detach().double().requires_grad_(), weights(x).double())
    for one, same, other in zip(found, again, exact, strict=True):
        assert torch.equal(one, same)
        assert (one - other).norm() <= 2e-6 * other.norm()


@needs_library
def test_the_operators_are_what_torch_library_asks_of_them():
    for family in ("ridge", "polynomials", "linear"):
        flow, x = make(family, "heun", rows=3)
        prepared = flow._ready(x.detach())
        assert isinstance(prepared, Prepared)
        plan = prepared.whole
        values = flow.control.on_mesh(prepared.mesh, prepared.tableau.c).detach()
        drive = plan.fields.drive(values).requires_grad_()
        rest = (plan.fields.coefficients, plan.fields.family, plan.widths, plan.tableau)
        torch.library.opcheck(kernels.flow, (x, drive, *rest, 2, True))
        end, accepted, kept = kernels.flow(x, drive, *rest, 2, True)
        assert accepted.tolist() == [6, 6, 6]
        back = (torch.ones_like(end), drive.detach(), *rest, 2, kept.detach(), accepted)
        torch.library.opcheck(kernels.flow_backward, (*back, True))
        torch.library.opcheck(kernels.flow_backward, (*back, False))
        # Differentiated by themselves they give what the module gives.
        found = torch.autograd.grad(end.sum(), [x, drive])
        x_grad, u_grad = kernels.flow_backward(*back, True)
        assert torch.equal(found[0], x_grad)
        assert torch.equal(found[1], u_grad)
    with pytest.raises(RuntimeError, match="keep=True"):
        kernels.flow(x, drive, *rest, 2, False)


@needs_library
def test_functional_transforms_take_the_plain_steps(launches):
    flow, x = make("polynomials", rows=3, throw=False)
    flow(x)
    J = torch.func.jacrev(lambda y: flow(y[None])[0])(x[0].detach())
    assert launches["forward"] == 1
    expected = torch.autograd.functional.jacobian(lambda y: flow(y[None])[0], x[0].detach())
    torch.testing.assert_close(J, expected)
    assert launches["forward"] > 1


def test_without_a_library_the_plain_steps_run_and_the_reason_is_said(monkeypatch):
    missing = Native(None, "not built")
    monkeypatch.setattr(coverage, "available", lambda: False)
    flow, x = make("ridge")
    assert flow._ready(x) is None
    flow(x).sum().backward()
    assert flow.control.values.grad is not None
    monkeypatch.setattr(cpu, "native", lambda: missing)
    with pytest.raises(RuntimeError, match="The CPU kernels are not built"):
        cpu.library()


@needs_library
def test_a_library_of_another_version_is_refused():
    flow = cpu._Flow()
    flow.size = ctypes.sizeof(cpu._Flow) - 8
    with pytest.raises(RuntimeError, match="another version"):
        cpu.checked(native().library.cde_flow_forward(ctypes.byref(flow)))
    flow.size, flow.stages = ctypes.sizeof(cpu._Flow), 17
    with pytest.raises(ValueError, match="at most 16 stages"):
        cpu.checked(native().library.cde_flow_forward(ctypes.byref(flow)))
    with pytest.raises(MemoryError, match="fewer rows"):
        cpu.checked(1)


@pytest.mark.parametrize("capability", ["default", "avx2"])
def test_narrower_lanes_on_request_compute_the_same(capability):
    """ATEN_CPU_CAPABILITY, which torch reads, chooses among the builds."""
    code = (
        "import torch, cde_nets as cn; from cde_nets.kernels import native, plain_steps;"
        "F = cn.RidgeFields.random(5, 3, seed=0); P = cn.PolynomialFields.random(5, 3, seed=0);"
        "c = cn.PiecewiseConstantControl.random(4, 3, scale=0.5, seed=1); x = 0.3 * torch.ones(70, 5);"
        "flows = [cn.ControlledODE(f, c, 'rk4') for f in (F, P)];\n"
        "def run():\n"
        "    return [t for f in flows for t in (f(x).detach(), *torch.autograd.grad(f(x).sum(), [c.values]))]\n"
        "found = run()\n"
        "with plain_steps(): expected = run()\n"
        "print(native().library is None, max(float((a - b).norm() / b.norm()) for a, b in zip(found, expected)),"
        " native().description)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"ATEN_CPU_CAPABILITY": capability},
    )
    missing, error, *built = done.stdout.split(maxsplit=2)
    if missing == "True":
        pytest.skip("The CPU kernels were not built.")
    assert float(error) < 2e-6
    if capability == "default":
        assert "AVX" not in built[0]


def test_the_family_codes_are_those_of_the_interface():
    assert (kernels.RIDGE, kernels.FEATURES) == (0, 1)
