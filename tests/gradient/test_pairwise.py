"""Every exact gradient of a flow against finite differences, on settings in which all pairs of options meet.

What one option breaks, a test of that option finds; what two of them break together is found here. The settings are
a covering array: every pair of values that may be combined is in at least one of them.
"""

import contextlib
import functools
import itertools
import math
import random
from collections import Counter
from dataclasses import dataclass, fields

import pytest
import torch

from cde_nets.controls import (
    CallableControl,
    DataControl,
    HermiteControl,
    PiecewiseConstantControl,
    PiecewiseLinearControl,
    SpectralControl,
)
from cde_nets.fields import (
    ConvFields,
    Cutoff,
    LinearFields,
    PolynomialFields,
    RidgeFields,
    SphericalFields,
    UniversalFields,
)
from cde_nets.gradient import Autograd, Checkpointed, Discrete, ForwardMode, solve
from cde_nets.solver import InitialValueProblem, Reversible, RungeKutta, SaveAt, Tolerance

F64, F32 = torch.float64, torch.float32
FIXED = ("euler", "midpoint", "heun", "heun3", "rk4", "rk38", "bosh3", "dopri5", "tsit5")
PAIRS = ("heun", "bosh3", "dopri5", "tsit5")
REVERSIBLE = ("euler", "midpoint", "rk4")
# The stated accuracy of each adaptive method here, so that none takes more than a few dozen steps.
TOLERANCES = {"heun": 1e-2, "bosh3": 1e-3, "dopri5": 1e-5, "tsit5": 1e-5}

OPTIONS = {
    "method": (
        *FIXED,
        *(f"{name} {steps}" for name in PAIRS for steps in ("per row", "joint")),
        *(f"reversible {name}" for name in REVERSIBLE),
    ),
    "control": (
        "constant",
        "linear",
        "hermite",
        "cosine",
        "legendre",
        "data linear",
        "data hermite",
        "data cubic",
        "callable",
    ),
    "family": ("polynomial", "ridge", "linear", "universal", "conv", "spherical", "cutoff"),
    "dtype": ("float64", "float32"),
    "saves": ("none", "step ends", "inside"),
    "drift": ("none", "family", "module"),
}

GRADIENTS = {
    "Discrete": Discrete(),
    "Checkpointed(None)": Checkpointed(),
    "Checkpointed(2)": Checkpointed(2),
    "Autograd": Autograd(),
}


def allowed(one, two):
    """Whether two values, each with the name of its option, may meet: reversible steps have no inside."""
    values = dict((one, two))
    return not (values.get("method", "").startswith("reversible") and values.get("saves") == "inside")


@dataclass(frozen=True)
class Setting:
    method: str
    control: str
    family: str
    dtype: str
    saves: str
    drift: str

    @property
    def pairs(self):
        return set(itertools.combinations(((f.name, getattr(self, f.name)) for f in fields(self)), 2))

    @property
    def adaptive(self):
        return self.method.endswith(("per row", "joint"))

    @property
    def reversible(self):
        return self.method.startswith("reversible")

    def __str__(self):
        return "-".join(getattr(self, f.name) for f in fields(self)).replace(" ", "_")


def every_pair():
    """Of values that may meet."""
    named = [[(name, value) for value in values] for name, values in OPTIONS.items()]
    return {(a, b) for one, two in itertools.combinations(named, 2) for a in one for b in two if allowed(a, b)}


@functools.cache
def covering(seed=0, tries=6):
    """Settings in which every pair meets: greedily, each the best of a few random ones that have a missing pair."""
    rng, missing, found = random.Random(seed), every_pair(), []
    while missing:
        best, most = None, -1
        for pair in rng.sample(sorted(missing), min(tries, len(missing))):
            chosen = dict(pair)
            for name in rng.sample(list(OPTIONS), len(OPTIONS)):
                if name not in chosen:
                    free = [v for v in OPTIONS[name] if all(allowed(item, (name, v)) for item in chosen.items())]
                    new = {
                        v: sum(tuple(sorted_pair(item, (name, v))) in missing for item in chosen.items()) for v in free
                    }
                    chosen[name] = max(rng.sample(free, len(free)), key=new.__getitem__)
            setting = Setting(**chosen)
            if len(setting.pairs & missing) > most:
                best, most = setting, len(setting.pairs & missing)
        found.append(best)
        missing -= best.pairs
    return tuple(found)


def sorted_pair(one, two):
    """In the order of the options."""
    order = list(OPTIONS)
    return (one, two) if order.index(one[0]) < order.index(two[0]) else (two, one)


SETTINGS = covering()
DOUBLE = tuple(s for s in SETTINGS if s.dtype == "float64")
SINGLE = tuple(s for s in SETTINGS if s.dtype == "float32")


def modes(setting):
    """The gradients that a setting is tested with: reversible steps are reconstructed, whatever is to be kept."""
    if setting.reversible:
        return ("Discrete", "Autograd")
    if setting.dtype == "float32":
        return (tuple(GRADIENTS)[place(setting) % len(GRADIENTS)],)
    return ("Discrete", f"Checkpointed({(None, 2)[place(setting) % 2]})", "Autograd")


def place(setting):
    """Its number among the settings of the same method and dtype."""
    alike = [s for s in SETTINGS if (s.method, s.dtype) == (setting.method, setting.dtype)]
    return alike.index(setting)


pytestmark = [
    pytest.mark.usefixtures("quick"),
    # A few large steps: their gradients are exact all the same.
    pytest.mark.filterwarnings("ignore:The two copies of Reversible"),
]


def normal(*shape, seed, scale=1.0):
    return scale * torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def family(name, dtype):
    made = {
        "polynomial": lambda: PolynomialFields.random(2, 3, 2, seed=0),
        "ridge": lambda: RidgeFields.random(2, 3, 2, seed=1),
        "linear": lambda: LinearFields.random(2, 3, seed=2),
        "universal": lambda: UniversalFields(2),
        "conv": lambda: ConvFields.random(1, 2, 1, 3, seed=4),
        "spherical": lambda: SphericalFields(PolynomialFields.random(2, 3, 2, seed=5)),
        "cutoff": lambda: Cutoff(PolynomialFields.random(2, 3, 2, seed=6), 0.5, 2.5),
    }[name]()
    return made.to(dtype)


class Network(torch.nn.Module):
    """u(t), or with a state a drift: one hidden layer."""

    def __init__(self, ins, outs, seed, dtype):
        super().__init__()
        self.inner = torch.nn.Parameter(normal(ins, 3, seed=seed).to(dtype))
        self.outer = torch.nn.Parameter(normal(3, outs, seed=seed + 1, scale=0.3).to(dtype))

    def forward(self, t, x=None):
        ins = t[..., None] if x is None else torch.cat([x, t.expand(len(x), 1)], 1)
        return torch.tanh(ins @ self.inner) @ self.outer


class Problem:
    """A setting's flow, made anew from its inputs: every tensor that gets a gradient."""

    def __init__(self, setting, dtype=F64):
        self.setting, self.dtype = setting, dtype
        # Numbers are those of float32 in either precision, so that the two can be compared.
        self.family = family(setting.family, F32).to(dtype)
        self.path = None
        self.x = self._input(2, self.family.dim, seed=10, scale=0.5)
        self.control, self._inputs = self._control()
        self.drift = {
            "none": lambda: None,
            "family": lambda: LinearFields.random(self.family.dim, 2, seed=7, dtype=F32).to(dtype),
            "module": lambda: Network(self.family.dim + 1, self.family.dim, 20, F32).to(dtype),
        }[setting.drift]()
        self.drift_inputs = list(self.drift.parameters()) if setting.drift == "module" else []

    @property
    def inputs(self):
        return (self.x, *self._inputs, *self.drift_inputs)

    def _input(self, *shape, seed, scale):
        return normal(*shape, seed=seed, scale=scale).to(F32).to(self.dtype).requires_grad_()

    def _control(self):
        kind, count, dtype = self.setting.control, self.family.count, self.dtype
        if kind.startswith("data"):
            self.path, way = self._input(2, 3, count, seed=11, scale=0.1), kind.split()[1]
            return (lambda: DataControl((0.0, 0.4, 1.0), self.path, interpolation=way)), [self.path]
        if kind == "callable":
            network = Network(1, count, 30, F32).to(dtype)
            return (lambda: CallableControl(network, count).to(dtype)), list(network.parameters())
        classes = {"constant": PiecewiseConstantControl, "linear": PiecewiseLinearControl, "hermite": HermiteControl}
        made = classes[kind](2, count) if kind in classes else SpectralControl(3, count, basis=kind)
        for k, leaf in enumerate(made.parameters()):
            leaf.data = normal(*leaf.shape, seed=12 + k, scale=0.4).to(F32)
        made = made.to(dtype)
        return (lambda: made), list(made.parameters())

    @property
    def method(self):
        name = self.setting.method
        if self.setting.adaptive:
            return RungeKutta(name.split()[0], per_row=name.endswith("per row"))
        steps = len(self.control().breakpoints) + 1
        steps = 2 if steps == 1 else steps
        if self.setting.reversible:
            return Reversible(RungeKutta(name.split()[1], steps=steps))
        return RungeKutta(name, steps=steps)

    @property
    def tolerance(self):
        """In single precision what it resolves."""
        rtol = TOLERANCES.get(self.setting.method.split()[0], 1e-6)
        rtol = rtol if self.dtype == F64 and self.setting.dtype == "float64" else max(rtol, 1e-4)
        return Tolerance(rtol, rtol)

    @property
    def saves(self):
        ends = (0.0, *self.control().breakpoints, 1.0)
        return {"none": None, "step ends": ends, "inside": (0.07, 0.41, 0.93)}[self.setting.saves]

    def solve(self, gradient, method=None, save_at=None):
        problem = InitialValueProblem.controlled(self.family, self.control(), self.x, drift=self.drift)
        return solve(
            problem,
            self.method if method is None else method,
            gradient=gradient,
            tolerance=self.tolerance,
            save_at=self.saves if save_at is None else save_at,
        )

    def gradients(self, gradient, **options):
        """Of a random combination of all that was saved."""
        return self.pulled(self.solve(gradient, **options).value)

    def pulled(self, value):
        return torch.autograd.grad((value * self.weights(value)).sum(), self.inputs)

    @staticmethod
    def weights(value):
        return normal(*value.shape, seed=40).to(value.dtype)

    def meshes(self):
        """The step ends that adaptive steps chose, one mesh a row; all the same where rows step together."""
        with torch.no_grad():
            times = self.solve(None, save_at=SaveAt(steps=True)).trace.times
        columns = times.T if times.ndim == 2 else [times] * len(self.x)
        return [tuple(dict.fromkeys(column.tolist())) for column in columns]

    def on_meshes(self, gradient, meshes):
        """The same steps on fixed grids: every row on its own mesh."""
        name = self.setting.method.split()[0]
        values = {mesh: self.solve(gradient, method=RungeKutta(name, mesh=mesh)).value for mesh in set(meshes)}
        return torch.stack([values[mesh][..., row, :] for row, mesh in enumerate(meshes)], -2)


def close(mine, theirs, bound):
    """Each gradient relative to the largest of them: one may be zero."""
    size = max(float(their.double().norm()) for their in theirs)
    assert size > 0
    for one, two in zip(mine, theirs, strict=True):
        assert float((one.double() - two.double()).norm()) <= bound * size


def differ(problem, gradients, bound, step=1e-2):
    """The gradient against central differences in a random direction, all inputs at once."""
    directions = [normal(*t.shape, seed=50 + k) for k, t in enumerate(problem.inputs)]
    total = 0.0
    with torch.no_grad():
        for k in (1, -2):
            for t, d in zip(problem.inputs, directions, strict=True):
                t.add_(d, alpha=k * step)
            value = problem.solve(Discrete()).value
            total += math.copysign(1, k) * float((value * problem.weights(value)).sum())
        for t, d in zip(problem.inputs, directions, strict=True):
            t.add_(d, alpha=step)
    slope = float(sum((d * g).sum() for d, g in zip(directions, gradients, strict=True)))
    size = sum(float(g.norm() * d.norm()) for d, g in zip(directions, gradients, strict=True))
    assert abs(total / (2 * step) - slope) <= bound * size


def test_every_pair_of_options_meets():
    met = set().union(*(setting.pairs for setting in SETTINGS))
    assert met == every_pair()
    # A method meets every control, so there cannot be fewer; greed does not take many more.
    least = len(OPTIONS["method"]) * len(OPTIONS["control"])
    assert least <= len(SETTINGS) <= 1.2 * least


@pytest.mark.parametrize("setting", [s for s in DOUBLE if not s.adaptive], ids=str)
def test_finite_differences_confirm_every_mode_on_a_fixed_grid(setting):
    problem, names = Problem(setting), modes(setting)
    # The modes take turns, so that each is checked with every method; all are compared with each other.
    turn = GRADIENTS[names[place(setting) % len(names)]]
    assert torch.autograd.gradcheck(
        lambda *_: problem.solve(turn).value,
        problem.inputs,
        fast_mode=True,
        check_undefined_grad=place(setting) == 0,
    )
    exact = problem.gradients(turn)
    for name in names:
        close(problem.gradients(GRADIENTS[name]), exact, 1e-12)


@pytest.mark.parametrize("setting", [s for s in DOUBLE if s.adaptive], ids=str)
def test_adaptive_steps_have_the_gradient_of_the_mesh_they_chose(setting):
    problem = Problem(setting)
    meshes = problem.meshes()
    assert min(map(len, meshes)) > 2
    value = problem.solve(Discrete()).value
    exact = problem.pulled(value)
    for name in modes(setting)[1:]:
        close(problem.gradients(GRADIENTS[name]), exact, 1e-12)
    held = problem.on_meshes(Autograd(), meshes)
    torch.testing.assert_close(value, held, rtol=1e-11, atol=1e-12)
    close(problem.pulled(held), exact, 1e-10)
    # The mesh moves with the input here: by as much as the tolerance allows, over the step of the difference.
    differ(problem, exact, 1e-3 + 30 * problem.tolerance.rtol)


@pytest.mark.parametrize("setting", SINGLE, ids=str)
def test_single_precision_follows_double(setting):
    narrow, wide = Problem(setting, F32), Problem(setting, F64)
    held = wide.on_meshes(Autograd(), narrow.meshes()) if setting.adaptive else wide.solve(Autograd()).value
    exact = wide.pulled(held)
    for name in modes(setting):
        found = narrow.gradients(GRADIENTS[name])
        assert all(g.dtype == F32 for g in found)
        close(found, exact, 1e-4)


# One of each method.
PUSHED = tuple(s for s in DOUBLE if place(s) == 0)


@pytest.mark.parametrize("setting", PUSHED, ids=str)
def test_forward_mode_is_the_transpose_of_the_discrete_adjoint(setting):
    problem = Problem(setting)
    directions = [normal(*t.shape, seed=60 + k) for k, t in enumerate(problem.inputs)]
    found = problem.gradients(Discrete())
    want = sum(float((g * v).sum()) for g, v in zip(found, directions, strict=True))
    size = sum(float(g.norm() * v.norm()) for g, v in zip(found, directions, strict=True))
    got = pushed(problem, directions)
    assert abs(got - want) <= 1e-12 * size


def pushed(problem, directions):
    """<w, J v> by duals that stand in the place of the inputs."""
    duals = torch.autograd.forward_ad
    with duals.dual_level():
        places = {id(t): duals.make_dual(t.detach(), v) for t, v in zip(problem.inputs, directions, strict=True)}
        with replaced(problem, places):
            value = problem.solve(ForwardMode()).value
        tangent = duals.unpack_dual(value).tangent
        return float((tangent * problem.weights(tangent)).sum())


@contextlib.contextmanager
def replaced(problem, places):
    """A problem whose inputs are other tensors for a while."""
    x, path = problem.x, problem.path
    roots = [m for m in (problem.control(), problem.drift) if isinstance(m, torch.nn.Module)]
    held = [(m, name, p) for root in roots for m in root.modules() for name, p in m._parameters.items()]
    problem.x, problem.path = places[id(x)], None if path is None else places[id(path)]
    for module, name, _ in held:
        del module._parameters[name]
    for module, name, p in held:
        setattr(module, name, places[id(p)])
    yield
    problem.x, problem.path = x, path
    for module, name, p in held:
        delattr(module, name)
        module.register_parameter(name, p)


# What the tests above are run on: a setting and the name of a gradient.
TESTED = [(s, name) for s in SETTINGS for name in modes(s)] + [(s, "ForwardMode") for s in PUSHED]


def test_table_of_method_by_gradient():
    counts = Counter((setting.method, name) for setting, name in TESTED)
    columns = (*GRADIENTS, "ForwardMode")
    lines = [f"{'':22}" + "".join(f"{name:>20}" for name in columns)]
    for method in OPTIONS["method"]:
        lines.append(f"{method:22}" + "".join(f"{counts[method, name] or '-':>20}" for name in columns))
    print("\n".join(["", *lines, f"{len(SETTINGS)} settings, {sum(counts.values())} gradients"]))
    for method in OPTIONS["method"]:
        for name in columns:
            kept = method.startswith("reversible") and name.startswith("Checkpointed")
            # Reversible steps are reconstructed, so that checkpoints would change nothing.
            assert (counts[method, name] == 0) == kept, (method, name)
