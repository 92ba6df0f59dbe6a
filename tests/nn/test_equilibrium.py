"""Equilibrium layers against dense implicit differentiation, the paper's own listing, and what users do wrong."""

import copy
import io
import json
import math
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

import cde_nets as cn

F64 = torch.float64
TIGHT = cn.Tolerance(1e-13, 1e-14)
EXACT = {
    "Dense": cn.Dense(),
    "RBP": cn.RBP(),
    "Neumann": cn.Neumann(),
    "CG": cn.CG(),
    "GMRES": cn.GMRES(),
    "BiCGStab": cn.BiCGStab(),
    "BPTT": cn.Unrolled(),
    "TBPTT": cn.Truncated(120),
}


pytestmark = pytest.mark.usefixtures("quick")


def normal(*shape, seed=0, dtype=F64):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def rnn(backward=None, *, norm=0.7, dtype=F64, **options):
    options = {"tolerance": TIGHT, **options}
    return cn.ImplicitRNN(3, 5, norm=norm, parameter_dtype=dtype, backward=backward, **options)


def gradients(layer, x, w, *more):
    value = layer(x, *more)
    return torch.autograd.grad((value * w).sum(), [x, *layer.parameters()])


def dense(layer, x, w, z0=None):
    """By the implicit function theorem with matrices written out, the whole batch one state."""
    problem = layer.problem(x, z0)
    state = problem.packing.shapes[0]
    z = cn.solve(problem, cn.Newton(), tolerance=TIGHT).value.detach()
    flat = lambda v: layer.f(x, v.reshape(state)).reshape(-1)  # noqa: E731
    jacobian = torch.autograd.functional.jacobian(flat, z.reshape(-1)).detach()
    cotangent = torch.linalg.solve(torch.eye(len(jacobian), dtype=jacobian.dtype) - jacobian.T, w.reshape(-1))
    wanted = [p for p in [x, *layer.parameters()] if p.requires_grad]
    return torch.autograd.grad((flat(z.reshape(-1)) * cotangent).sum(), wanted)


def error(mine, theirs):
    assert all(float(t.norm()) > 0 for t in theirs)
    return max(float((m - t).norm() / t.norm()) for m, t in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("name", EXACT)
def test_every_exact_gradient_is_dense_implicit_differentiation(name):
    layer = rnn(EXACT[name], forward=cn.Picard(), max_steps=1000)
    x, w = normal(4, 3, seed=1).requires_grad_(), normal(4, 5, seed=2)
    assert error(gradients(layer, x, w), dense(layer, x, w)) < 1e-10


@pytest.mark.parametrize("name", ["Dense", "CG", "GMRES", "BiCGStab", "RBP", "Neumann"])
def test_single_precision(name):
    layer = rnn(EXACT[name], dtype=torch.float32, tolerance=None)
    x, w = normal(4, 3, seed=1, dtype=torch.float32).requires_grad_(), normal(4, 5, seed=2, dtype=torch.float32)
    double = copy.deepcopy(layer).double()
    double.tolerance = TIGHT
    exact = dense(double, x.detach().double().requires_grad_(), w.double())
    assert error(gradients(layer, x, w), [e.float() for e in exact]) < 1e-4


@pytest.mark.parametrize("name", ["Dense", "GMRES", "BiCGStab", "Unrolled"])
def test_a_graph_of_gated_units(name):
    edges = torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 2]])
    cell = cn.GraphGRUCell(3, seed=1, dtype=F64)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.mul_(0.5)
    backward = cn.Unrolled() if name == "Unrolled" else EXACT[name]
    layer = cn.EquilibriumLayer(cell, cn.Picard(), backward, coupled=True, tolerance=TIGHT, max_steps=2000)
    z0, w = normal(5, 3, seed=3), normal(5, 3, seed=4)
    solution = layer.solve(edges, z0)
    assert solution.words() == ["converged"]
    found = torch.autograd.grad((solution.value * w).sum(), list(layer.parameters()))
    # A matrix product with the graph's matrix, in the place of the sum over edges.
    matrix = torch.zeros(5, 5, dtype=F64)
    for a, b in edges.T.tolist():
        matrix[b, a] += 1
    torch.testing.assert_close(cell(edges, z0), cell.gru(matrix @ z0, z0), rtol=1e-13, atol=1e-14)

    class Written(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = cell.gru

        def forward(self, x, z):
            return self.gru(matrix @ z, z)

    oracle = cn.EquilibriumLayer(Written(), coupled=True, tolerance=TIGHT)
    assert error(found, dense(oracle, torch.zeros(1, dtype=F64), w, z0)) < 1e-10


def test_the_papers_listing():
    """Neumann-RBP as its appendix writes it: products by autograd between the last two states of an unrolled run."""
    x, w, count = normal(4, 3, seed=1), normal(4, 5, seed=2), 6
    layer = rnn(cn.Neumann(count))
    with torch.no_grad():
        rest = layer(x)
    before = rest.clone().requires_grad_()
    last = layer.f(x, before)
    v = w.clone()
    total = v.clone()
    for _ in range(count):
        (v,) = torch.autograd.grad(last, before, grad_outputs=v, retain_graph=True)
        total = total + v
    theirs = torch.autograd.grad(last, list(layer.parameters()), grad_outputs=total)
    mine = torch.autograd.grad((layer(x) * w).sum(), list(layer.parameters()))
    assert error(mine, theirs) < 1e-12


@pytest.mark.parametrize("start", [None, 1.0])
def test_almeida_and_pinedas_algorithm_by_the_lectures_trick(start):
    """The lecture's Algorithm: z <- dD/dh + dL/dh with D = z^T F by autograd, until |z_i - z_{i-1}| < epsilon."""
    x, w, epsilon = normal(1, 3, seed=1), normal(1, 5, seed=2), 1e-6
    layer = rnn(cn.Implicit(cn.RBP(z0=start), tolerance=cn.Tolerance(1e-300, epsilon)))
    with torch.no_grad():
        rest = layer(x)
    h = rest.clone().requires_grad_()
    z, steps = torch.zeros_like(w) if start is None else torch.full_like(w, start), 0
    while True:
        (pulled,) = torch.autograd.grad((z * layer.f(x, h)).sum(), h)
        steps, z, old = steps + 1, pulled + w, z
        if float((z - old).norm()) < epsilon:
            break
    theirs = torch.autograd.grad((old * layer.f(x, h)).sum(), list(layer.parameters()))
    solution = layer.solve(x)
    mine = torch.autograd.grad((solution.value * w).sum(), list(layer.parameters()))
    # Ours returns the iterate whose residual it has seen, which is the one before the lecture's.
    assert int(solution.backward.statistics.accepted) == steps - 1
    assert error(mine, theirs) < 1e-12
    assert 1e-9 < error(mine, dense(layer, x.requires_grad_(), w)[1:]) < 1e-4


def test_train_and_eval_have_the_same_gradient():
    layer = rnn()
    x, w = normal(4, 3, seed=1).requires_grad_(), normal(4, 5, seed=2)
    for one, two in zip(gradients(layer.train(), x, w), gradients(layer.eval(), x, w), strict=True):
        assert torch.equal(one, two)


def test_second_derivatives():
    layer = cn.ImplicitRNN(2, 3, norm=0.6, parameter_dtype=F64, tolerance=TIGHT)
    leaves = [normal(2, 2, seed=1).requires_grad_(), *layer.parameters()]
    run = lambda *_: layer(leaves[0])  # noqa: E731
    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, leaves, fast_mode=True)


def saved_bytes(run):
    held = {}

    def pack(tensor):
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = run()
    return sum(held.values()), value


@pytest.mark.parametrize("backward", [None, cn.Neumann(5), cn.OneStep(), cn.Truncated(3)], ids=str)
def test_memory_does_not_grow_with_the_iterations(backward):
    x, sizes = normal(4, 3, seed=1), []
    for steps in (10, 100, 1000):
        layer = rnn(backward, forward=cn.Picard(), norm=0.999, max_steps=steps, tolerance=cn.Tolerance(1e-300, 1e-300))
        layer.throw = False
        size, _ = saved_bytes(lambda layer=layer: layer(x))
        sizes.append(size)
    assert sizes[0] == sizes[1] == sizes[2]
    layer.gradient, layer.max_steps = cn.Unrolled(), 100
    assert saved_bytes(lambda: layer(x))[0] > 20 * max(sizes[0], 1)


def test_double_precision_inside_a_single_precision_network():
    x, w = normal(4, 3, seed=1, dtype=torch.float32).requires_grad_(), normal(4, 5, seed=2, dtype=torch.float32)
    layer = rnn(norm=0.95, dtype=torch.float32, tolerance=None, max_steps=1000)
    exact = copy.deepcopy(layer).double()
    exact.tolerance = TIGHT
    truth = dense(exact, x.detach().double().requires_grad_(), w.double())
    layer.dtype, layer.tolerance = F64, cn.Tolerance(1e-12, 1e-13)
    solution = layer.solve(x)
    assert solution.value.dtype == torch.float32
    assert float(solution.statistics.residual.max()) < 1e-11
    found = torch.autograd.grad((solution.value * w).sum(), [x, *layer.parameters()])
    assert all(g.dtype == torch.float32 for g in found)
    assert error(found, [t.float() for t in truth]) < 3e-7
    assert solution.backward.status.tolist() == [int(cn.Status.CONVERGED)] * 4
    # What the solver may not know of stays in its own dtype, and is refused with both dtypes.
    weight = normal(3, 3, dtype=torch.float32)
    with pytest.raises((ValueError, RuntimeError), match=r"float64|Double|double"):
        cn.EquilibriumLayer(lambda x, z: torch.tanh(z @ weight + x), dtype=F64)(x)


def test_buffers_and_tied_parameters_are_cast_too():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Linear(3, 3, bias=False)
            self.two = self.one
            self.register_buffer("shift", torch.ones(3))
            self.register_buffer("count", torch.tensor(2))
            with torch.no_grad():
                self.one.weight.copy_(0.3 * normal(3, 3, dtype=torch.float32))

        def forward(self, x, z):
            return torch.tanh(self.one(z) + self.two(x) + self.shift) * 0.5 * (self.count == 2)

    module, x = Tied(), normal(4, 3, seed=1, dtype=torch.float32)
    plain = cn.EquilibriumLayer(copy.deepcopy(module).double(), tolerance=TIGHT)
    plain(x.double()).sum().backward()
    layer = cn.EquilibriumLayer(module, dtype=F64, tolerance=TIGHT)
    layer(x).sum().backward()
    torch.testing.assert_close(module.one.weight.grad.double(), plain.f.one.weight.grad, rtol=1e-6, atol=0)


def test_warm_start():
    layer = rnn(norm=0.9, warm_start=True, throw=False, forward=cn.Picard(), tolerance=cn.Tolerance(1e-10, 1e-11))
    x = normal(3, 3, seed=1)
    cold = layer.solve(x).statistics.accepted
    warm = layer.solve(x).statistics.accepted
    assert (cold > 20).all()
    assert not warm.any()
    near = layer.solve(x + 1e-6).statistics.accepted
    assert (near > 0).all()
    assert (near < cold - 20).all()
    # Rows that fail begin anew, the others where they ended; another shape begins anew; z0 is heard first.
    bad = x.clone()
    bad[1] = math.nan
    assert layer.solve(bad).words() == ["converged", "diverged", "converged"]
    again = layer.solve(x + 1e-6).statistics.accepted
    assert int(again[1]) >= int(cold[1]) - 1
    assert (again[[0, 2]] < cold[[0, 2]] - 20).all()
    assert layer.solve(x[:2]).words() == ["converged"] * 2
    layer.solve(x[:2])
    started = layer.solve(x[:2], torch.full((2, 5), 5.0, dtype=F64), save_at=cn.SaveAt(steps=True)).trace.values[0]
    assert (started == 5).all()
    layer.forget()
    assert torch.equal(layer.solve(x).statistics.accepted, cold)
    assert not any("last" in name for name in layer.state_dict())


def test_the_trace_and_the_statuses_of_every_row():
    rates = torch.tensor([[0.5], [1.5], [0.9]], dtype=F64)
    layer = cn.EquilibriumLayer(
        lambda x, z: x[:, :1] * z + x[:, 1:], cn.Picard(), throw=False, max_steps=30, initial=lambda x: x[:, 1:] * 0
    )
    x = torch.cat([rates, torch.ones(3, 2, dtype=F64)], 1)
    solution = layer.solve(x, save_at=cn.SaveAt(steps=True))
    assert solution.words() == ["converged", "max_steps", "max_steps"]
    assert layer.failed.tolist() == [False, True, True]
    k = torch.arange(31, dtype=F64)
    # The residual of z <- a z + 1 from zero is a^k, twice in a row of two numbers; rows that ended stand still.
    torch.testing.assert_close(solution.trace.residuals[:, 1], math.sqrt(2) * 1.5**k, rtol=1e-12, atol=0)
    torch.testing.assert_close(solution.trace.values[:20, 0, 0], 2 * (1 - 0.5 ** k[:20]), rtol=1e-12, atol=0)


def test_tuples_of_tensors():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4, dtype=F64)

        def forward(self, x, z):
            position, speed = z
            force, drag = x["force"], x["drag"]
            return torch.tanh(0.3 * self.linear(speed) + force), 0.4 * torch.sin(position) - drag * speed[:, :4]

        def initial_state(self, x):
            return torch.zeros_like(x["force"]), torch.zeros_like(x["force"])

    torch.manual_seed(0)
    x = {"force": normal(3, 4, seed=1).requires_grad_(), "drag": torch.tensor(0.3, dtype=F64, requires_grad=True)}
    layer = cn.EquilibriumLayer(Pair(), tolerance=TIGHT)
    position, speed = layer(x)
    torch.testing.assert_close(layer.f(x, (position, speed)), (position, speed), rtol=1e-11, atol=1e-12)
    # Eliminated by hand: speed = 0.4 sin(position) / (1 + drag).
    torch.testing.assert_close(speed, 0.4 * torch.sin(position) / (1 + x["drag"]), rtol=1e-11, atol=1e-12)
    leaves = [x["force"], x["drag"]]
    assert torch.autograd.gradcheck(lambda *_: layer(x), leaves, fast_mode=True)


def test_one_bad_row_leaves_the_others_alone():
    layer, healthy = rnn(throw=False), rnn(throw=False)
    x = normal(4, 3, seed=1)
    bad = x.clone()
    bad[2] = math.nan
    solution = layer.solve(bad)
    assert solution.words() == ["converged", "converged", "diverged", "converged"]
    assert torch.isfinite(solution.value).all()
    w = normal(4, 5, seed=2)
    (solution.value * w).sum().backward()
    keep = [0, 1, 3]
    (healthy(x[keep]) * w[keep]).sum().backward()
    for one, two in zip(layer.parameters(), healthy.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-9, atol=1e-12)
    with pytest.raises(cn.DivergedError, match="Row 2 of 4 diverged"):
        rnn()(bad)


def test_a_map_that_does_not_depend_on_the_state():
    x = normal(4, 3, seed=1).requires_grad_()
    for backward in (None, *EXACT.values()):
        solution = cn.EquilibriumLayer(lambda x, z: x.sin(), backward=backward).solve(x)
        assert solution.words() == ["converged"] * 4
        torch.testing.assert_close(solution.value, x.sin())
        (grad,) = torch.autograd.grad(solution.value.sum(), x)
        torch.testing.assert_close(grad, x.cos())


def test_a_map_that_diverges():
    layer = cn.EquilibriumLayer(lambda x, z: z * z + x, cn.Picard())
    with pytest.raises(cn.DivergedError, match="an iteration for rest wants damping or Newton"):
        layer(torch.full((2, 1), 3.0))


def test_a_map_of_another_shape():
    x = normal(4, 3)
    with pytest.raises(
        ValueError, match=r"zeros like x as there was no z0, must have the state's shape \(4, 3\); got .*\(4, 2\)"
    ):
        cn.EquilibriumLayer(lambda x, z: x[:, :2])(x)
    with pytest.raises(ValueError, match=r"^f\(x, z\) must have the state's shape \(4, 2\); got shape \(4, 3\)"):
        cn.EquilibriumLayer(lambda x, z: x)(x, x[:, :2])
    with pytest.raises(ValueError, match="call layer"):
        cn.EquilibriumLayer(lambda x, z: z)(torch.tensor([[0, 1], [1, 0]]))
    with pytest.raises(ValueError, match=r"x must have shape \(rows, 3\); got \(4, 2\)"):
        rnn()(x[:, :2])


def test_nothing_is_differentiated_that_the_layer_does_not_know():
    weight = normal(3, 3).requires_grad_()
    with pytest.raises(ValueError, match=r"f\(x, z\).* depends on 1 tensor.*nn.Module"):
        cn.EquilibriumLayer(lambda x, z: torch.tanh(z @ weight * 0.1 + x))(normal(4, 3))


def test_no_products_at_all():
    x, w = normal(4, 3, seed=1).requires_grad_(), normal(4, 5, seed=2)
    one, none = gradients(rnn(cn.OneStep()), x, w), gradients(rnn(cn.Neumann(0)), x, w)
    assert error(one, none) < 1e-14
    for refused in (lambda: cn.RBP(terms=0), lambda: cn.Truncated(0), lambda: cn.RandomlyTruncated(0)):
        with pytest.raises(ValueError, match="at least 1; got 0"):
            refused()


def test_options_that_do_not_exist():
    with pytest.raises(TypeError, match="no option 'histroy'; did you mean 'history'"):
        cn.Anderson(histroy=3)
    with pytest.raises(TypeError, match="no option 'tol'; did you mean 'tolerance'"):
        cn.Implicit(cn.GMRES(), tol=1e-3)
    with pytest.raises(TypeError, match="no option 'max_iter'; did you mean 'max_steps'"):
        cn.EquilibriumLayer(lambda x, z: z, max_iter=3)
    with pytest.raises(TypeError, match="no option 'backwards'; did you mean 'backward'"):
        cn.ImplicitRNN(3, 5, backwards=cn.GMRES())
    for forward in ("anderson", cn.GMRES(), cn.RungeKutta("rk4", steps=3)):
        with pytest.raises(ValueError, match=r"forward must be a method for rest, such as Anderson\(\)"):
            cn.EquilibriumLayer(lambda x, z: z, forward)
    for backward in ("gmres", cn.Anderson(), cn.Discrete()):
        with pytest.raises(ValueError, match=r"backward must be a method for linear problems"):
            cn.EquilibriumLayer(lambda x, z: z, None, backward)
    for wrong, message in (({"dtype": torch.int64}, "dtype must be floating"), ({"initial": 3}, "initial must be")):
        with pytest.raises(ValueError, match=message):
            cn.EquilibriumLayer(lambda x, z: z, **wrong)
    with pytest.raises(ValueError, match="f must be a function"):
        cn.EquilibriumLayer(3)
    with pytest.raises(ValueError, match="norm must be a number"):
        cn.ImplicitRNN(3, 5, norm=1.5)


def test_copies_and_states():
    layer, x = rnn(), normal(4, 3, seed=1)
    assert list(layer.state_dict()) == ["f.weight_hh", "f.weight_ih", "f.bias"]
    again = copy.deepcopy(layer)
    assert torch.equal(again(x), layer(x))
    kept = io.BytesIO()
    torch.save(layer.state_dict(), kept)
    other = cn.ImplicitRNN(3, 5, seed=1, parameter_dtype=F64, tolerance=TIGHT)
    assert not torch.allclose(other(x), layer(x))
    kept.seek(0)
    other.load_state_dict(torch.load(kept))
    assert torch.equal(other(x), layer(x))
    assert torch.equal(nn.Sequential(layer, nn.Identity())(x), layer(x))
    singular = torch.linalg.svdvals(cn.ImplicitRNN(3, 5, norm=0.3, parameter_dtype=F64).f.weight_hh.detach())
    torch.testing.assert_close(singular, torch.full((5,), 0.3, dtype=F64))


COMPILED = """
import json, torch, cde_nets as cn
from torch._dynamo.utils import counters

torch.set_num_threads(1)
x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
found = {}
# A method's steps are what takes time to trace: those of Picard are the fewest.
for name, options in {"plain": {}, "double": {"dtype": torch.float64, "forward": cn.Picard()}}.items():
    dtype = torch.float32 if options else torch.float64
    layer = cn.ImplicitRNN(3, 5, parameter_dtype=dtype, throw=False, **options)
    values = []
    torch._dynamo.reset()
    counters.clear()
    for how in (layer, torch.compile(layer, backend="aot_eager")):
        y = how(x.to(dtype))
        grads = torch.autograd.grad(y.sum(), list(layer.parameters()))
        values.append([float(v) for part in (y, *grads) for v in part.detach().flatten()])
    found[name] = {"eager": values[0], "compiled": values[1], "graphs": counters["stats"]["unique_graphs"]}
cell = cn.TanhCell(3, 5, dtype=torch.float64)
torch._dynamo.reset()
counters.clear()
values = []
for f in (cell, torch.compile(cell, backend="aot_eager")):
    y = cn.EquilibriumLayer(f, initial=cell.initial_state)(x)
    values.append([float(v) for g in torch.autograd.grad(y.sum(), list(cell.parameters())) for v in g.flatten()])
found["map"] = {"eager": values[0], "compiled": values[1], "graphs": counters["stats"]["unique_graphs"]}
print(json.dumps(found))
"""


def test_compiled_layers_and_compiled_maps():
    # In a process of its own: torch.compile does not look into the shape checker.
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for name, found in json.loads(done.stdout.splitlines()[-1]).items():
        assert found["graphs"] > 0, f"{name}: nothing was compiled"
        assert found["compiled"] == pytest.approx(found["eager"], rel=1e-9, abs=1e-12)


FORWARD = [cn.Picard(), cn.Picard(steps=4), cn.Anderson(), cn.Broyden(), cn.Newton(), cn.NewtonKrylov()]
BACKWARD = [*EXACT.values(), cn.RBP(z0=1.0), cn.OneStep(), cn.RandomlyTruncated(3)]


@pytest.mark.parametrize(
    ("forward", "backward"), [*((f, None) for f in FORWARD), *((None, b) for b in BACKWARD)], ids=str
)
def test_no_tensor_is_made_on_another_device_than_the_states(forward, backward):
    """Without a GPU: what is made without saying where is made on a device that nothing can be computed on."""
    layer, x = rnn(backward, forward=forward, dtype=torch.float32, throw=False), normal(4, 3, dtype=torch.float32)
    layer.dtype = F64
    with torch.device("meta"):
        value = layer(x)
        value.sum().backward()
        problem, z = layer.problem(x), layer(x).double()
        for condition in (cn.spectral_radius, cn.spectral_norm, cn.smallest_eigenvalue):
            assert condition(problem, z).value.device.type == "cpu"
        for loss in (cn.gershgorin_hinge(problem, z, 1.0), cn.eigenvalue_hinge(problem, z, 1.0)):
            assert loss.device.type == "cpu"
        assert cn.squared_frobenius(problem, z).device.type == "cpu"
    assert all(p.grad.device.type == "cpu" for p in layer.parameters())
    with torch.device("meta"), pytest.raises(RuntimeError):
        # So it shows.
        torch.zeros(3) + x[0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    ("forward", "backward"), [*((f, None) for f in FORWARD), *((None, b) for b in BACKWARD[:-1])], ids=str
)
def test_the_same_on_a_gpu(forward, backward):
    found = []
    for device in ("cpu", "cuda"):
        layer, x = rnn(backward, forward=forward, throw=False).to(device), normal(4, 3, seed=1).to(device)
        value = layer(x)
        found.append([value, *torch.autograd.grad(value.sum(), list(layer.parameters()))])
    for one, two in zip(*found, strict=True):
        assert two.is_cuda
        torch.testing.assert_close(one, two.cpu(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("backward", [cn.GMRES(), cn.Truncated(5), cn.Unrolled()], ids=["GMRES", "TBPTT", "BPTT"])
def test_under_autocast_it_solves_in_single_precision(backward):
    """As the layer in float32 on what autocast rounded before it; the backward pass runs outside, as torch wants."""
    before, layer = nn.Linear(4, 3), rnn(backward, forward=cn.Picard(), dtype=torch.float32, tolerance=None)
    x, w = normal(6, 4, dtype=torch.float32), normal(6, 5, seed=1, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = before(x)
        value = layer(rounded)
    assert rounded.dtype == torch.bfloat16
    assert value.dtype == torch.float32
    found = torch.autograd.grad((value * w).sum(), [*layer.parameters(), before.weight])
    start = rounded.detach().float().requires_grad_()
    again = layer(start)
    wanted = torch.autograd.grad((again * w).sum(), [*layer.parameters(), start])
    assert torch.equal(value, again)
    for one, other in zip(found[:-1], wanted[:-1], strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(found[-1], wanted[-1].bfloat16().float().T @ x, rtol=0.02, atol=0.02)


def test_small_cotangents_are_not_taken_for_none():
    """The mean over many rows: what the forward solve calls 0 is all there is."""
    layer, x = rnn(tolerance=cn.Tolerance(1e-8, 1e-3)), normal(4, 3).requires_grad_()
    value = layer(x)
    plain = torch.autograd.grad(value.sum(), layer.parameters(), retain_graph=True)
    small = torch.autograd.grad(1e-9 * value.sum(), layer.parameters())
    for one, other in zip(plain, small, strict=True):
        torch.testing.assert_close(1e-9 * one, other, rtol=1e-7, atol=0)


def test_a_backward_solve_is_not_asked_for_more_than_there_is():
    """A forward solve to an absolute tolerance alone has an rtol far below rounding."""
    layer, x = rnn(tolerance=cn.Tolerance(1e-300, 1e-12)), normal(4, 3).requires_grad_()
    value = layer(x)
    found = torch.autograd.grad(value.square().sum(), layer.parameters())
    assert layer.last.backward.statistics.residual.max() < 1e-12
    again = rnn(cn.Dense())
    again.load_state_dict(layer.state_dict())
    for one, other in zip(found, torch.autograd.grad(again(x).square().sum(), again.parameters()), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_the_last_solution_is_kept_within_other_modules():
    layer = rnn(cn.GMRES())
    assert layer.last is None
    network = nn.Sequential(nn.Linear(4, 3, dtype=F64), layer)
    value = network(normal(6, 4))
    assert layer.last.words() == ["converged"] * 6
    assert torch.equal(layer.last.value, value)
    assert not layer.last.value.requires_grad
    assert layer.last.backward.statistics is None
    value.sum().backward()
    assert layer.last.backward.statistics.products > 0
    copy.deepcopy(network)


def test_the_last_state_is_that_of_the_solve():
    """In its dtype: what the conditions at rest are asked about."""
    layer, x = rnn(dtype=torch.float32), normal(4, 3, dtype=torch.float32)
    layer = cn.EquilibriumLayer(layer.f, dtype=F64, initial=layer.f.initial_state)
    assert layer(x).dtype == torch.float32
    assert layer.last.value.dtype == F64
    radius = cn.spectral_radius(layer.problem(x), layer.last.value).value
    for row in range(4):
        z = layer.last.value[row : row + 1]
        own = layer.problem(x[row : row + 1])
        J = torch.autograd.functional.jacobian(lambda v: own.function(v), z).reshape(5, 5)  # noqa: B023
        torch.testing.assert_close(radius[row].detach(), torch.linalg.eigvals(J).abs().max(), rtol=1e-8, atol=0)


def test_an_error_of_the_start_is_its_own():
    def broken(x):
        raise RuntimeError("no start today")

    layer = cn.EquilibriumLayer(torch.add, initial=broken)
    with pytest.raises(RuntimeError, match="no start today") as error:
        layer(torch.ones(4, 3))
    assert error.value.__notes__ == ["EquilibriumLayer had x of shape (4, 3), and no state to begin with yet."]


def test_errors_within_f_say_what_it_was_given():
    class Large(nn.Module):
        def __init__(self):
            super().__init__()
            self.W, self.U = nn.Linear(5, 5), nn.Linear(3, 5)

        def forward(self, x, z):
            return torch.tanh(self.W(z) + self.U(x))

    with pytest.raises(RuntimeError) as error:
        cn.EquilibriumLayer(Large())(torch.ones(4, 3))
    (note,) = error.value.__notes__
    assert "f(x, z), in this order, with x of shape (4, 3) and z of shape (4, 3) (zeros like x, as there was no" in note
    with pytest.raises(RuntimeError) as error:
        cn.EquilibriumLayer(lambda z, x: Large()(x, z))(torch.ones(4, 3), torch.zeros(4, 5))
    assert "with x of shape (4, 3) and z of shape (4, 5)." in error.value.__notes__[0]


def test_what_is_refused_names_the_layers_own_way_out():
    weight = torch.full((3, 3), 0.1, requires_grad=True)
    with pytest.raises(ValueError, match=r"give them to the layer within x.*or take backward=Unrolled\(\)"):
        cn.EquilibriumLayer(lambda x, z: z @ weight + x)(torch.ones(4, 3))
    noisy = cn.EquilibriumLayer(lambda x, z: nn.functional.dropout(0.1 * z) + x)
    with pytest.raises(ValueError, match=r"random numbers.*give them to the layer within x.*backward=Unrolled\(\)"):
        noisy(torch.ones(4, 3, requires_grad=True))


def test_a_map_without_a_graph_is_not_silent():
    layer = cn.EquilibriumLayer(lambda x, z: (0.5 * torch.cos(z) + x).detach())
    x = torch.ones(4, 3, requires_grad=True)
    with pytest.warns(UserWarning, match=r"f\(x, z\).*depends on nothing that wants a gradient.*detached"):
        layer(x).sum().backward()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cn.EquilibriumLayer(torch.add, cn.Anderson), r"forward must be .*: say Anderson\(\)"),
        (lambda: cn.EquilibriumLayer(torch.add, backward=cn.GMRES), r"backward must be .*: say GMRES\(\)"),
        (lambda: cn.EquilibriumLayer(torch.add, dtype="float64"), "dtype must be floating.*got 'float64'"),
        (lambda: cn.solve(cn.FixedPointProblem(torch.cos, torch.ones(1)), "newton"), r"such as Anderson\(\) or Newton"),
    ],
)
def test_what_stands_in_the_wrong_place(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class Counting(nn.Module):
    """0.5 tanh of a layer, which counts its evaluations in a buffer: in place, or by another one in its place."""

    def __init__(self, how, kind):
        super().__init__()
        self.linear, self.how = nn.Linear(3, 3, dtype=F64), how
        self.register_buffer("count", torch.zeros(2, dtype=kind))

    def forward(self, x, z):
        if self.training and self.how == "in place":
            self.count.add_(1)
        elif self.training:
            self.count = self.count + 1
        return 0.5 * torch.tanh(self.linear(z)) + x


@pytest.mark.parametrize("dtype", [None, F64, torch.float32])
@pytest.mark.parametrize("kind", [torch.int64, F64])
@pytest.mark.parametrize("how", ["in place", "another"])
def test_a_module_that_changes_its_buffers_is_refused_in_every_dtype(how, kind, dtype):
    module, x = Counting(how, kind), normal(4, 3)
    layer = cn.EquilibriumLayer(module, dtype=dtype)
    with pytest.raises(ValueError, match=r"changes buffers of its module \(\S*count; batch norm.*eval mode"):
        layer(x)
    assert not module.count.any()
    layer.eval()(x).sum().backward()
    assert module.linear.weight.grad.any()
    assert not module.count.any()


def test_batch_normalisation_in_train_mode_is_refused_with_a_dtype_too():
    class Normed(Counting):
        def __init__(self):
            super().__init__("", F64)
            self.norm = nn.BatchNorm1d(3, dtype=F64)

        def forward(self, x, z):
            return 0.5 * torch.tanh(self.norm(self.linear(z))) + x

    module = Normed()
    with pytest.raises(ValueError, match=r"changes buffers.*num_batches_tracked.*eval mode"):
        cn.EquilibriumLayer(module, dtype=F64, coupled=True)(normal(4, 3))
    assert not module.norm.running_mean.any()
    assert int(module.norm.num_batches_tracked) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tolerance": 1e-3}, r"Tolerance\(0.001"),
        ({"max_steps": 0}, "max_steps must be an integer of at least 1"),
        ({"max_steps": 10.0}, "max_steps must be an integer of at least 1"),
    ],
)
def test_limits_that_are_none_are_refused_when_they_are_given(options, said):
    fields, control = cn.LinearFields.random(2, 3, seed=0), cn.PiecewiseConstantControl.random(4, 3, scale=0.1, seed=0)
    with pytest.raises(ValueError, match=said):
        cn.ControlledODE(fields, control, cn.RungeKutta("dopri5"), **options)
    with pytest.raises(ValueError, match=said):
        cn.EquilibriumLayer(lambda x, z: 0.5 * z + x, **options)
