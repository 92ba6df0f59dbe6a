"""Fields, drifts and states of one's own: what they hold is found, and differentiated as autograd would."""

import pytest
import torch
from torch import nn

from cde_nets.controls import PiecewiseConstantControl, SpectralControl
from cde_nets.fields import (
    ConvFields,
    Cutoff,
    LinearFields,
    PolynomialFields,
    RidgeFields,
    SphericalFields,
    UniversalFields,
)
from cde_nets.gradient import Autograd, Backsolve, Checkpointed, Discrete, Implicit, solve
from cde_nets.nn import ControlledODE
from cde_nets.solver import FixedPointProblem, InitialValueProblem, Reversible, RungeKutta, Tolerance

F64 = torch.float64
EXACT = {"Discrete": Discrete(), "Checkpointed(2)": Checkpointed(2)}
METHODS = {
    "fixed": RungeKutta("rk4", steps=3),
    "saved inside": RungeKutta("bosh3", steps=3),
    "per row": RungeKutta("dopri5"),
    "joint": RungeKutta("heun", per_row=False),
    "reversible": Reversible(RungeKutta("midpoint", steps=3)),
}


pytestmark = pytest.mark.usefixtures("quick")


def normal(*shape, seed=0, scale=1.0):
    return scale * torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def leaf(*shape, seed=0, scale=1.0):
    return normal(*shape, seed=seed, scale=scale).requires_grad_()


def weighed(value):
    """A random combination of everything in a state."""
    leaves = torch.utils._pytree.tree_leaves(value)
    return sum((v * normal(*v.shape, seed=90 + k)).sum() for k, v in enumerate(leaves))


def agree(make, inputs, method, bound=1e-12, **options):
    """Every gradient against autograd through the same steps; problems are made anew, with a graph of their own."""
    options = {"tolerance": Tolerance(1e-3, 1e-3), **options}
    exact = torch.autograd.grad(weighed(solve(make(), method, gradient=Autograd(), **options).value), inputs)
    assert all(float(g.norm()) > 0 for g in exact)
    for gradient in EXACT.values():
        found = torch.autograd.grad(weighed(solve(make(), method, gradient=gradient, **options).value), inputs)
        for one, two in zip(found, exact, strict=True):
            assert float((one - two).norm()) <= bound * float(two.norm())
    return exact


class MLP(nn.Module):
    """Time beside the state, a buffer, and a weight that is the module's own and a layer's."""

    def __init__(self, dim=3):
        super().__init__()
        self.first = nn.Linear(dim + 1, 4, dtype=F64)
        self.shared = nn.Parameter(normal(4, 4, seed=3, scale=0.4))
        self.middle = nn.Linear(4, 4, dtype=F64)
        self.middle.weight = self.shared
        self.last = nn.Linear(4, dim, dtype=F64)
        self.register_buffer("scale", torch.tensor([0.5, 1.0, -0.7], dtype=F64)[:dim])
        with torch.no_grad():
            for k, p in enumerate(self.parameters()):
                p.copy_(normal(*p.shape, seed=k, scale=0.5))

    def forward(self, t, x, shift=None):
        hidden = torch.cat([x, torch.as_tensor(t, dtype=x.dtype).expand(x.shape[0], 1)], 1)
        hidden = torch.tanh(self.first(hidden)) @ self.shared
        hidden = self.middle(torch.tanh(hidden))
        value = self.last(hidden) * self.scale
        return value if shift is None else value + shift


@pytest.mark.parametrize("method", METHODS)
def test_a_module_has_the_gradient_of_autograd(method):
    field, x = MLP(), leaf(2, 3, seed=1)
    assert len(list(field.parameters())) == 6
    options = {"save_at": (0.2, 0.9)} if method in ("saved inside", "per row", "joint") else {}
    agree(lambda: InitialValueProblem(field, x), (x, *field.parameters()), METHODS[method], **options)


def test_a_layer_may_have_two_names():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = self.two = nn.Linear(3, 3, dtype=F64)

        def forward(self, t, x):
            return torch.tanh(self.two(torch.tanh(self.one(x))))

    field, x = Twice(), leaf(2, 3, seed=1)
    before = list(field.parameters())
    agree(lambda: InitialValueProblem(field, x), (x, *field.parameters()), METHODS["fixed"])
    assert all(one is two for one, two in zip(field.parameters(), before, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_tensors_in_args_get_gradients_also_where_they_are_computed(method):
    field, x, a = MLP(), leaf(2, 3, seed=1), leaf(3, seed=2)
    source = leaf(3, seed=4)

    def make():
        # Not a leaf: its gradient goes on to where it came from.
        return InitialValueProblem(lambda t, x, a, b, k: k * torch.sin(x * a) + b * t, x, args=(a, source**2, 2.0))

    agree(make, (x, a, source), METHODS[method])
    agree(lambda: InitialValueProblem(field, x, args=(a.exp(),)), (a, *field.parameters()), METHODS[method])


@pytest.mark.parametrize("gradient", [Discrete(), Backsolve()], ids=str)
def test_integer_tensors_may_be_among_the_args(gradient):
    x, a, index = leaf(2, 3, seed=1), leaf(3, seed=2), torch.tensor([2, 0, 1])
    problem = InitialValueProblem(lambda t, x, index, a: x[:, index] * a, x, args=(index, a))
    value = solve(problem, RungeKutta("rk4", steps=3), gradient=gradient).value
    assert torch.autograd.grad(value.sum(), a)[0].any()


@pytest.mark.parametrize("gradient", [Discrete(), Checkpointed(), Backsolve()], ids=str)
def test_what_a_function_closes_over_is_refused_with_the_way_out(gradient):
    x, hidden = leaf(2, 3, seed=1), leaf(3, seed=2)
    method = RungeKutta("rk4", steps=2)

    def make(field, **options):
        return InitialValueProblem(field, x, **options)

    with pytest.raises(ValueError, match=r"shapes \(3,\).*nn\.Module.*args=.*Autograd"):
        solve(make(lambda t, x: x * hidden), method, gradient=gradient)
    module = nn.Linear(3, 3, dtype=F64)
    with pytest.raises(ValueError, match="2 tensor"):
        solve(make(lambda t, x: module(x)), method, gradient=gradient)
    with pytest.raises(ValueError, match="was not given"):
        solve(make(lambda t, x, a: x * a * hidden, args=(hidden.detach(),)), method, gradient=gradient)
    # Each of the ways out, and what wants no gradient.
    solve(make(lambda t, x, a: x * a, args=(hidden,)), method, gradient=gradient).value.sum().backward()
    solve(make(lambda t, x: x * hidden), method, gradient=Autograd()).value.sum().backward()
    solve(make(lambda t, x: x * hidden.detach()), method, gradient=gradient).value.sum().backward()
    with torch.no_grad():
        solve(make(lambda t, x: x * hidden), method, gradient=gradient)


def test_a_drift_that_closes_over_a_tensor_is_refused():
    fields, control = PolynomialFields.random(2, 3, 2, seed=0, dtype=F64), PiecewiseConstantControl(2, 3).double()
    hidden = leaf(2)
    flow = ControlledODE(fields, control, drift=lambda t, x: hidden * x)
    with pytest.raises(ValueError, match="it was not given"):
        flow(normal(3, 2))


def nested():
    return {"a": leaf(2, 3, seed=1), "b": (leaf(2, 2, 2, seed=2), leaf(2, 1, seed=3))}


def nested_field(t, state, weight):
    a, (b, c) = state["a"], state["b"]
    return {
        "a": torch.tanh(a @ weight) + t,
        "b": (b * c[:, :, None] * a[:, :1, None], torch.sin(c) + b.sum((1, 2))[:, None]),
    }


@pytest.mark.parametrize("method", ["fixed", "joint", "reversible"])
def test_states_may_be_dicts_and_tuples(method):
    state, weight = nested(), leaf(3, 3, seed=5, scale=0.3)
    options = {"save_at": (0.2, 0.9)} if method == "joint" else {}
    inputs = (state["a"], *state["b"], weight)
    agree(lambda: InitialValueProblem(nested_field, state, args=(weight,)), inputs, METHODS[method], **options)


@pytest.mark.parametrize("method", ["fixed", "per row"])
def test_states_may_be_images(method):
    field = nn.Conv2d(2, 2, 3, padding=1, dtype=F64)
    x = leaf(2, 2, 3, 3, seed=1)

    class Field(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution = field

        def forward(self, t, x):
            assert t.ndim in (0, 4)
            return torch.tanh(self.convolution(x)) * (1 + t)

    agree(lambda: InitialValueProblem(Field(), x), (x, *field.parameters()), METHODS[method])


@pytest.mark.parametrize("method", ["fixed", "per row", "reversible"])
def test_rows_of_a_graph_may_see_each_other(method):
    edges = torch.tensor([[0, 1, 0], [1, 0, 1], [1, 1, 0]], dtype=F64)
    x, weight = leaf(3, 2, seed=1), leaf(2, 2, seed=2, scale=0.5)

    def field(t, x, edges, weight):
        return torch.tanh(edges @ x @ weight) - 0.1 * x * t

    def make():
        return InitialValueProblem(field, x, args=(edges, weight), coupled=True)

    agree(make, (x, weight), METHODS[method])
    assert solve(make(), METHODS[method]).status.shape == (1,)


def test_frozen_parameters_get_none_and_the_others_what_they_get_beside_trained_ones():
    field, x = MLP(), leaf(2, 3, seed=1)
    full = agree(lambda: InitialValueProblem(field, x), (field.shared,), METHODS["fixed"])
    for p in field.first.parameters():
        p.requires_grad_(False)
    for gradient in (*EXACT.values(), Backsolve(method=RungeKutta("rk4", steps=40))):
        field.zero_grad()
        solve(InitialValueProblem(field, x.detach()), METHODS["fixed"], gradient=gradient).value.sum().backward()
        assert [p.grad is None for p in field.first.parameters()] == [True, True]
        assert field.shared.grad.any()
    agree(lambda: InitialValueProblem(field, x), (field.shared,), METHODS["fixed"])
    assert full[0].any()


@pytest.mark.parametrize("gradient", [*EXACT.values(), Backsolve()], ids=str)
def test_a_drift_module_trains(gradient):
    fields, control = LinearFields.random(2, 2, seed=0, dtype=F64), SpectralControl(2, 2).double()
    drift = MLP(2)
    flow = ControlledODE(fields, control, RungeKutta("rk4", steps=4), drift=drift, gradient=gradient)
    # The drift is a part of the module: an optimiser finds its parameters.
    assert {id(p) for p in drift.parameters()} <= {id(p) for p in flow.parameters()}
    x, goal = normal(8, 2, seed=1), normal(8, 2, seed=1).flip(1)
    optimiser = torch.optim.Adam(flow.parameters(), lr=3e-2)
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        loss = (flow(x) - goal).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


FAMILIES = {
    "polynomial": lambda: PolynomialFields.random(2, 3, 2, seed=0, dtype=F64),
    "linear": lambda: LinearFields.random(2, 3, seed=1, dtype=F64),
    "ridge": lambda: RidgeFields.random(2, 3, 2, seed=2, dtype=F64),
    "universal": lambda: UniversalFields(2, dtype=F64),
    "conv": lambda: ConvFields.random(2, 1, 1, 3, seed=3, dtype=F64),
    "spherical": lambda: SphericalFields(PolynomialFields.random(2, 3, 2, seed=4, dtype=F64)),
    "cutoff": lambda: Cutoff(PolynomialFields.random(2, 3, 2, seed=5, dtype=F64), 0.5, 2.5),
}


def dense_jacobian(function, x):
    """D of every row, by reverse mode, one number at a time."""
    rows = []
    for k in range(x.shape[1]):
        point = x.detach().clone().requires_grad_()
        rows.append(torch.autograd.grad(function(point)[:, k].sum(), point)[0])
    return torch.stack(rows, 1)


@pytest.mark.parametrize(
    ("name", "drift"), [*((name, None) for name in FAMILIES), ("ridge", MLP(2))], ids=[*FAMILIES, "drift"]
)
def test_the_log_determinant_is_that_of_the_jacobian_and_has_its_gradient(name, drift):
    fields = FAMILIES[name]()
    control = SpectralControl.random(2, fields.count, scale=0.4, seed=1, dtype=F64)
    fine = ControlledODE(fields, control, RungeKutta("dopri5", steps=8), drift=drift)
    x = normal(2, 2, seed=2, scale=0.6)
    end, logarithm = fine.log_determinant(x)
    want = torch.linalg.slogdet(dense_jacobian(fine, x)).logabsdet
    assert float(want.abs().max()) > 1e-3
    torch.testing.assert_close(logarithm, want, rtol=0, atol=1e-5)
    torch.testing.assert_close(end, fine(x))
    flow = ControlledODE(fields, control, RungeKutta("bosh3", steps=2), drift=drift)
    x.requires_grad_()
    inputs = (x, control.coefficients) if drift is None else (x, control.coefficients, drift.shared)
    assert torch.autograd.gradcheck(
        lambda *_: flow.log_determinant(x), inputs, fast_mode=True, check_undefined_grad=name == "ridge"
    )


@pytest.mark.parametrize("method", ["fixed", "per row"])
def test_the_log_determinant_of_a_module_agrees_with_autograd(method):
    field, x = MLP(), leaf(2, 3, seed=1)
    inputs = (x, *field.parameters())
    agree(lambda: InitialValueProblem(field, x).with_log_determinant(), inputs, METHODS[method], bound=1e-11)
    fine = RungeKutta("dopri5", steps=6)
    _, logarithm = solve(InitialValueProblem(field, x).with_log_determinant(), fine).value
    jacobian = dense_jacobian(lambda x: solve(InitialValueProblem(field, x), fine).value, x)
    torch.testing.assert_close(logarithm, torch.linalg.slogdet(jacobian).logabsdet, rtol=0, atol=1e-6)


def test_hooks_of_parameters_see_the_gradient_once():
    field, x, seen = nn.Linear(3, 3, dtype=F64), leaf(2, 3, seed=1), []
    exact = torch.autograd.grad(
        weighed(solve(InitialValueProblem(lambda t, x, w, b: x @ w.T + b, x, args=(field.weight, field.bias))).value),
        list(field.parameters()),
    )
    hook = field.weight.register_hook(lambda g: seen.append(1) or 2 * g)
    module = nn.Module()
    module.inner = field
    module.forward = lambda t, x: module.inner(x)
    weighed(solve(InitialValueProblem(module, x)).value).backward()
    hook.remove()
    assert len(seen) == 1
    torch.testing.assert_close(field.weight.grad, 2 * exact[0], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(field.bias.grad, exact[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("computed", [False, True])
@pytest.mark.parametrize("method", ["fixed", "per row"])
def test_what_a_function_closes_over_later_is_refused_on_the_way_back(method, computed):
    x, a, hidden = leaf(2, 3, seed=1), leaf(3, seed=2), leaf(3, seed=3)
    late = hidden.exp() if computed else hidden

    def field(t, x, a):
        # Nothing at t = 0, where it is looked at before anything is computed.
        return -x * a + torch.where(t > 0.5, late if float(t.max()) > 0.5 else 0.0, 0.0)

    value = solve(InitialValueProblem(field, x, args=(a,)), METHODS[method], tolerance=Tolerance(1e-3, 1e-3)).value
    with pytest.raises(RuntimeError, match="did not depend on when that was checked"):
        value.sum().backward()


def test_a_function_that_depends_on_nothing_has_a_gradient_of_zero():
    x, a = leaf(2, 3, seed=1), leaf(3, seed=2)
    value = solve(InitialValueProblem(lambda t, x, a: torch.ones_like(x), x, args=(a,)), METHODS["per row"]).value
    found = torch.autograd.grad(value.sum(), [x, a])
    assert torch.equal(found[0], torch.ones_like(x))
    assert not found[1].any()


# -- fields that differentiate by their state --------------------------------------------------------------------------


class Hamiltonian(nn.Module):
    """dq/dt = H_p, dp/dt = -H_q of a network H; its derivative by autograd, by torch.func, or in closed form."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.weight, self.out = nn.Parameter(normal(4, 2, seed=1)), nn.Parameter(normal(4, seed=2))

    def energy(self, x):
        return torch.tanh(x @ self.weight.T) @ self.out

    def slope(self, x):
        if self.how == "closed form":
            return ((1 - torch.tanh(x @ self.weight.T).square()) * self.out) @ self.weight
        if self.how == "torch.func":
            return torch.func.grad(lambda x: self.energy(x).sum())(x)
        with torch.enable_grad():
            if self.how == "detached" or (self.how == "autograd" and not x.requires_grad):
                x = x.detach().requires_grad_()
            if self.how == "cloned":
                x = x.detach().clone().requires_grad_()
            return torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)[0]

    def forward(self, t, x):
        q, p = self.slope(x).unbind(1)
        return torch.stack([p, -q], 1)


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("gradient", [*EXACT.values(), Backsolve(), Autograd()], ids=str)
@pytest.mark.parametrize("method", ["fixed", "per row"])
@pytest.mark.parametrize("how", ["autograd", "torch.func"])
def test_a_field_may_differentiate_by_its_state(how, method, gradient, second):
    if second and isinstance(gradient, Backsolve):
        pytest.skip("first derivatives only")
    found = []
    for kind, by in (("closed form", Autograd()), (how, gradient)):
        field, x = Hamiltonian(kind), leaf(3, 2, seed=3)
        problem = InitialValueProblem(field, x)
        value = solve(problem, METHODS[method], gradient=by, tolerance=Tolerance(1e-9, 1e-9)).value
        inputs = (x, field.weight, field.out)
        grads = torch.autograd.grad(weighed(value), inputs, create_graph=second)
        if second:
            grads = torch.autograd.grad(sum(g.square().sum() for g in grads), inputs)
        found.append(grads)
    # Three steps of rk4 forward and backward are not each other's inverse.
    bound = 1e-10 if not isinstance(gradient, Backsolve) else 1e-2 if method == "fixed" else 1e-6
    for want, got in zip(*found, strict=True):
        assert want.any()
        assert float((got - want).norm() / want.norm()) < bound


def test_a_map_may_differentiate_by_its_state():
    found = []
    for how in ("closed form", "autograd"):
        field, b = Hamiltonian(how), leaf(3, 2, seed=3)

        class Down(nn.Module):
            """A step down an energy that has one minimum."""

            def __init__(self, field):
                super().__init__()
                self.field = field

            def forward(self, z, b):
                return 0.5 * (z + b - 0.1 * self.field.slope(z))

        problem = FixedPointProblem(Down(field), torch.zeros(3, 2, dtype=F64), args=(b,))
        value = solve(problem, gradient=Implicit(), tolerance=Tolerance(1e-12, 1e-13)).value
        found.append(torch.autograd.grad(weighed(value), (b, field.weight, field.out)))
    for want, got in zip(*found, strict=True):
        assert want.any()
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("how", ["detached", "cloned"])
def test_a_field_that_differentiates_by_a_copy_of_its_state_is_refused(how):
    problem = InitialValueProblem(Hamiltonian(how), leaf(3, 2, seed=3))
    with pytest.raises(ValueError, match=r"detached copy of its state.*x\.requires_grad else.*torch\.func\.grad"):
        solve(problem, METHODS["fixed"])


def test_a_hidden_tensor_that_equals_the_state_is_no_copy_of_it():
    hidden = torch.zeros(3, 2, dtype=F64, requires_grad=True)
    problem = FixedPointProblem(lambda z: 0.5 * torch.cos(z) + hidden, torch.zeros(3, 2, dtype=F64))
    with pytest.raises(ValueError, match=r"depends on 1 tensor\(s\).*want a gradient and that it was not given"):
        solve(problem)


def test_a_field_that_is_a_hidden_tensor():
    hidden = leaf(3, 2, seed=4)
    with pytest.raises(ValueError, match=r"depends on 1 tensor\(s\).*want a gradient and that it was not given"):
        solve(InitialValueProblem(lambda t, x: hidden, leaf(3, 2, seed=3)), METHODS["fixed"])


def test_what_such_a_field_closes_over_is_still_refused():
    hidden = leaf(2, seed=4)
    inner = Hamiltonian("autograd")
    problem = InitialValueProblem(lambda t, x: inner(t, x) * hidden, leaf(3, 2, seed=3))
    with pytest.raises(ValueError, match=r"depends on 3 tensor\(s\).*want a gradient and that it was not given"):
        solve(problem, METHODS["fixed"])
