"""One gradient, however it is computed: kept, taken again, reconstructed, pushed forward, transformed or compiled."""

import math
import weakref
from collections import Counter

import pytest
import torch

from cde_nets.controls import PiecewiseConstantControl, PiecewiseLinearControl, SpectralControl
from cde_nets.fields import PolynomialFields
from cde_nets.gradient import Autograd, Checkpointed, Discrete, ForwardMode, solve
from cde_nets.gradient import checkpointed as checkpointed_module
from cde_nets.solver import Event, InitialValueProblem, Reversible, RungeKutta, Tolerance

F64 = torch.float64
BUDGETS = (1, 2, 3, 5, None)
FAMILY = PolynomialFields.random(2, 3, 2, seed=0, dtype=F64)


pytestmark = pytest.mark.usefixtures("quick")


def normal(*shape, seed=0, scale=1.0):
    return scale * torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


class Case:
    """A controlled flow of three rows and what its gradient reaches."""

    def __init__(self, steps=2, control=PiecewiseConstantControl, **problem):
        self.x = normal(3, 2, seed=1, scale=0.5).requires_grad_()
        self.control = control.random(steps, 3, scale=0.5, seed=2, dtype=F64)
        self.options = problem

    @property
    def inputs(self):
        return (self.x, *self.control.parameters())

    def solve(self, gradient, method, x=None, **options):
        start = self.x if x is None else x
        problem = InitialValueProblem.controlled(FAMILY, self.control, start, **self.options)
        return solve(problem, method, gradient=gradient, **options)

    def gradients(self, gradient, method, **options):
        value = self.solve(gradient, method, **options).value
        return torch.autograd.grad((value * normal(*value.shape, seed=3)).sum(), self.inputs)


def close(mine, theirs, bound=1e-12):
    for one, two in zip(mine, theirs, strict=True):
        size = float(two.detach().norm())
        assert size > 0
        assert float((one - two).detach().norm()) <= bound * size


def crossing(t, x):
    return x[:, 0] - 0.05


HARDER = {
    "sphere": ({"manifold": "sphere"}, RungeKutta("euler", steps=6), {}),
    "sphere, saved inside": ({"manifold": "sphere"}, RungeKutta("rk4", steps=4), {"save_at": (0.1, 0.6, 1.0)}),
    "sphere, adaptive": ({"manifold": "sphere"}, RungeKutta("bosh3"), {"save_at": (0.1, 0.6)}),
    "event": ({"event": Event(crossing)}, RungeKutta("rk4", steps=6), {}),
    "event, adaptive": ({"event": Event(crossing)}, RungeKutta("dopri5"), {"save_at": (0.2, 0.9)}),
    "backward in time": ({"t0": 1.0, "t1": 0.0}, RungeKutta("tsit5"), {"save_at": (0.7, 0.2)}),
    "part of the time": ({"t0": 0.2, "t1": 0.7}, RungeKutta("rk38", steps=5), {"save_at": (0.3, 0.5)}),
    "drift": ({"drift": lambda t, x: torch.sin(x + t)}, RungeKutta("heun"), {}),
}


@pytest.mark.parametrize("name", HARDER)
def test_manifolds_events_and_directions_agree_with_autograd_through_the_same_steps(name):
    problem, method, options = HARDER[name]
    case = Case(**problem)
    options = {"tolerance": Tolerance(1e-4, 1e-4), **options}
    assert "event" not in problem or "event" in case.solve(None, method, **options).words()
    exact = case.gradients(Autograd(), method, **options)
    for gradient in (Discrete(), Checkpointed(), Checkpointed(3)):
        close(case.gradients(gradient, method, **options), exact)


class Watch:
    """The states that a checkpointed gradient has alive and the steps that it takes, once it is on its way back."""

    def __init__(self, monkeypatch):
        self.clear()
        backward, retake, append = (
            checkpointed_module.Retaking.backward,
            checkpointed_module.retake,
            checkpointed_module.Checkpoints.append,
        )

        def watched_backward(retaking, places, states):
            for item in backward(retaking, places, states):
                self.most = max(self.most, retaking.most)
                self.count()
                yield item

        def watched_retake(plan, dynamics, taken, x):
            self.taken[taken.step.n] += 1
            found = retake(plan, dynamics, taken, x)
            self.states.append(weakref.ref(found[0]))
            self.count()
            return found

        def watched_append(keep, state):
            self.states.append(weakref.ref(state))
            append(keep, state)

        monkeypatch.setattr(checkpointed_module.Retaking, "backward", watched_backward)
        monkeypatch.setattr(checkpointed_module, "retake", watched_retake)
        monkeypatch.setattr(checkpointed_module.Checkpoints, "append", watched_append)

    def clear(self):
        self.most = self.alive = 0
        self.taken = Counter()
        self.states = []

    def count(self):
        self.states = [state for state in self.states if state() is not None]
        self.alive = max(self.alive, len(self.states))


@pytest.mark.parametrize("budget", [*BUDGETS, 12])
def test_checkpointed_is_discrete_to_the_bit_within_its_budget(budget, monkeypatch, no_kernels):
    watch = Watch(monkeypatch)
    for steps in (*range(1, 12), 17, 24, 33, 40):
        case, method = Case(1), RungeKutta("euler", steps=steps)
        exact = case.gradients(Discrete(), method)
        watch.clear()
        found = case.gradients(Checkpointed(budget), method)
        assert all(map(torch.equal, found, exact))
        bound = 2.2 * math.sqrt(steps) + 2 if budget is None else budget
        assert 1 <= watch.most <= bound
        # Alive besides: the state whose step was walked back last, and both ends of the step being taken again.
        assert watch.alive <= bound + 3
        again = max(watch.taken.values(), default=0)
        if budget is None:
            assert again <= 1
            continue
        kept = max(1, budget // 2)
        stretch = next(2**k for k in range(9) if math.ceil(steps / 2**k) <= kept)
        free = budget - kept
        assert again <= free + stretch / 2**free
    # Something was taken again, or no budget would have been kept.
    assert again >= 1


@pytest.mark.parametrize("budget", [*BUDGETS, 12])
def test_every_number_of_steps_is_walked_back_in_order(budget):
    """The bookkeeping alone, with numbers in the place of states."""

    class Numbers(checkpointed_module.Retaking):
        def _next(self, n, state):
            assert state == n
            return n + 1

    class Steps:
        def __init__(self, steps):
            self.taken = range(steps)

    for steps in range(1, 130):
        keep = checkpointed_module.Checkpoints(None if budget is None else max(1, budget // 2))
        for n in range(steps):
            keep.append(n)
        places = sorted(keep.kept)
        retaking = Numbers(Steps(steps), None, budget)
        assert list(retaking.backward(list(places), list(places))) == [(n, n) for n in reversed(range(steps))]
        assert retaking.most <= (2.2 * math.sqrt(steps) + 2 if budget is None else budget)


@pytest.mark.parametrize("budget", [1, 3, None])
@pytest.mark.parametrize("per_row", [True, False])
def test_checkpointed_is_discrete_to_the_bit_also_where_steps_adapt(budget, per_row):
    case, method = Case(2, PiecewiseLinearControl), RungeKutta("dopri5", per_row=per_row)
    options = {"tolerance": Tolerance(1e-4, 1e-4), "save_at": (0.1, 0.7)}
    exact = case.gradients(Discrete(), method, **options)
    found = case.gradients(Checkpointed(budget), method, **options)
    # A step's first slope was the last one of the step before, at a time that rounding may put elsewhere.
    close(found, exact, 1e-14)


@pytest.mark.parametrize(("base", "mixing"), [("euler", 0.999), ("rk4", 0.99), ("midpoint", 1.0), ("heun3", 0.9)])
def test_reversible_steps_keep_one_pair_and_reconstruct_the_rest(base, mixing):
    kept, errors = [], []
    for steps in (10, 40):
        case, method = Case(2), Reversible(RungeKutta(base, steps=steps), mixing=mixing)
        exact = case.gradients(Autograd(), method)
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(tuple(t.shape)) or t, lambda t: t):  # noqa: B023
            value = case.solve(Discrete(), method).value
        kept.append(sorted(shape for shape in saved if 2 in shape or 4 in shape))
        found = torch.autograd.grad((value * normal(*value.shape, seed=3)).sum(), case.inputs)
        errors.append(max(float((f - e).norm() / e.norm()) for f, e in zip(found, exact, strict=True)))
        # Rounding grows as mixing^-steps, and is not hidden.
        assert errors[-1] <= 1e-13 * mixing**-steps
    assert errors[0] < 1e-12
    # Start, pair and mask, whatever the number of steps; the control's values are the control's own.
    assert [shape for shape in kept[0] if shape[0] == 3] == [shape for shape in kept[1] if shape[0] == 3]
    assert [shape for shape in kept[0] if shape[0] == 3] == [(3, 2), (3, 4)]


def test_the_reconstruction_of_a_small_mixing_loses_what_it_says():
    case, method = Case(2), Reversible(RungeKutta("rk4", steps=60), mixing=0.5)
    exact = case.gradients(Autograd(), method)
    error = max(
        float((f - e).norm() / e.norm()) for f, e in zip(case.gradients(Discrete(), method), exact, strict=True)
    )
    # 2^60 units of the last place: the test above would see a state that is stored after all.
    assert error > 1e-6


FORWARD = {
    "fixed": (RungeKutta("rk4", steps=6), {}),
    "saved inside": (RungeKutta("dopri5", steps=4), {"save_at": (0.2, 0.9)}),
    "adaptive": (RungeKutta("dopri5"), {"tolerance": Tolerance(1e-4, 1e-4)}),
    "adaptive, saved": (RungeKutta("heun", per_row=False), {"tolerance": Tolerance(1e-2, 1e-2), "save_at": (0.2, 0.9)}),
    "reversible": (Reversible(RungeKutta("rk4", steps=6)), {}),
}


@pytest.mark.parametrize("name", FORWARD)
def test_forward_mode_is_the_transpose_of_the_adjoint(name):
    method, options = FORWARD[name]
    case = Case(2, SpectralControl)
    v = normal(3, 2, seed=5)
    value = case.solve(Discrete(), method, **options).value
    w = normal(*value.shape, seed=3)
    want = float((torch.autograd.grad((value * w).sum(), case.x)[0] * v).sum())

    def run(x):
        return case.solve(ForwardMode(), method, x, throw=False, **options).value

    with torch.no_grad():
        pushed = torch.func.jvp(run, (case.x.detach(),), (v,))[1]
    with torch.autograd.forward_ad.dual_level():
        dual = run(torch.autograd.forward_ad.make_dual(case.x.detach(), v))
        carried = torch.autograd.forward_ad.unpack_dual(dual).tangent
    with pytest.raises(RuntimeError, match="nothing for a way back"):
        dual.sum().backward()
    for tangent in (pushed, carried):
        assert abs(float((tangent * w).sum()) - want) <= 1e-12 * float(w.norm() * tangent.norm())


@pytest.mark.parametrize("save_at", [None, (0.5, 1.0), (0.3, 0.7)])
def test_torch_func_transforms_the_discrete_adjoint(save_at):
    case, method = Case(2), RungeKutta("rk4", steps=4)
    x = case.x.detach()

    def end(x):
        return case.solve(Discrete(), method, x, throw=False, save_at=save_at).value

    def total(x):
        return end(x).sin().sum()

    exact = torch.autograd.grad(total(case.x), case.x)[0]
    close([torch.func.grad(total)(x)], [exact])
    rows = torch.func.vmap(torch.func.grad(lambda row: total(row[None])))(x)
    close([rows], [exact])
    value, pull = torch.func.vjp(end, x)
    close(pull(torch.cos(value)), [exact])
    jacobian = torch.func.jacrev(end)(x)
    assert jacobian.shape == (*value.shape, *x.shape)
    close([torch.tensordot(torch.cos(value), jacobian, value.ndim)], [exact])
    torch.testing.assert_close(torch.func.vmap(lambda row: end(row[None])[..., 0, :])(x).movedim(0, -2), value)
    hessian = torch.func.jacrev(torch.func.grad(total))(x)
    twice = torch.autograd.functional.hessian(
        lambda x: case.solve(Autograd(), method, x, save_at=save_at).value.sin().sum(), x
    )
    close([hessian], [twice], 1e-11)


def test_torch_func_reaches_the_control():
    case, method = Case(2), RungeKutta("rk4", steps=4)

    def total(parameters):
        problem = InitialValueProblem.controlled(FAMILY, Held(parameters["values"]), case.x.detach())
        return solve(problem, method, throw=False).value.sin().sum()

    exact = case.solve(Autograd(), method).value.sin().sum()
    exact = torch.autograd.grad(exact, case.control.values)[0]
    found = torch.func.grad(total)({"values": case.control.values.detach()})["values"]
    close([found], [exact])


class Held(PiecewiseConstantControl):
    """Values that are no parameter, as torch.func wants them."""

    def __init__(self, values):
        super().__init__(*values.shape)
        del self._parameters["values"]
        self.values = values

    @property
    def leaves(self):
        return (self.values,)


SECOND = {
    "fixed": (RungeKutta("rk4", steps=2), {}),
    "saved": (RungeKutta("bosh3", steps=2), {"save_at": (0.3, 1.0)}),
    "reversible": (Reversible(RungeKutta("midpoint", steps=2)), {"save_at": (0.5,)}),
}


@pytest.mark.parametrize("gradient", [Discrete(), Checkpointed(1), Autograd()], ids=str)
@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives_are_those_of_finite_differences(name, gradient):
    method, options = SECOND[name]
    case = Case(2)
    assert torch.autograd.gradgradcheck(
        lambda *_: case.solve(gradient, method, **options).value, case.inputs, fast_mode=True
    )


@pytest.mark.parametrize("name", ["sphere", "sphere, saved inside", "event, adaptive", "drift"])
def test_second_derivatives_agree_where_the_steps_are_not_plain(name):
    problem, method, options = HARDER[name]
    options = {"tolerance": Tolerance(1e-3, 1e-3), **options}
    case, found = Case(**problem), []
    for gradient in (Discrete(), Checkpointed(2), Autograd()):
        value = case.solve(gradient, method, **options).value
        first = torch.autograd.grad((value * normal(*value.shape, seed=3)).sum(), case.inputs, create_graph=True)
        total = sum((g * normal(*g.shape, seed=9)).sum() for g in first)
        found.append(torch.autograd.grad(total, case.inputs))
    close(found[0], found[2], 1e-11)
    close(found[1], found[2], 1e-11)
