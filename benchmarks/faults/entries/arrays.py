"""Public names that take arrays."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

import cde_nets as cn
import theory
from benchmarks.faults.entries import maps
from benchmarks.faults.entries.judge import Array
from benchmarks.faults.entries.maps import MATRIX, contraction, product, scaled, transpose
from cde_nets import plot
from cde_nets.nn import Deskew

DOUBLE = torch.float64
RISING = np.array([0.25, 0.5, 1.0])
RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 2)) / 2
DATA = RNG.normal(size=(12, 2))
IMAGES = RNG.random((2, 1, 8, 8))
U = torch.tensor([0.3, -0.7, 0.2], dtype=DOUBLE)
POLYNOMIAL = cn.PolynomialFields.random(2, 3, 2, seed=0, dtype=DOUBLE)
FAMILIES: dict[str, Any] = {
    "PolynomialFields": POLYNOMIAL,
    "RidgeFields": cn.RidgeFields.random(2, 3, 2, seed=0, dtype=DOUBLE),
    "LinearFields": cn.LinearFields.random(2, 3, seed=0, dtype=DOUBLE),
    "SphericalFields": cn.SphericalFields(POLYNOMIAL),
    "Cutoff": cn.Cutoff(POLYNOMIAL, 5.0),
    "ConvFields": cn.ConvFields.random(2, 1, 1, 3, seed=0, dtype=DOUBLE),
    "UniversalFields": cn.UniversalFields(2, dtype=DOUBLE),
}
CONTROL = cn.PiecewiseConstantControl.random(4, 3, scale=0.3, seed=0, dtype=DOUBLE)
PATH = torch.from_numpy(RNG.normal(size=(3, 5, 2)))
CONTROLS = {
    "PiecewiseConstantControl": CONTROL,
    "PiecewiseLinearControl": cn.PiecewiseLinearControl(4, 3).double(),
    "HermiteControl": cn.HermiteControl(4, 3).double(),
    "SpectralControl": cn.SpectralControl.random(4, 3, scale=0.5, seed=0, dtype=DOUBLE),
    "CallableControl": cn.CallableControl(lambda t: torch.stack([t, t * t, 1 - t], -1), 3),
}
FLOW = cn.ControlledODE(POLYNOMIAL, CONTROL)
METHODS = {
    "RungeKutta": cn.RungeKutta("rk4", steps=4),
    "Reversible": cn.Reversible(cn.RungeKutta("rk4", steps=4)),
    "TorchDiffEq": cn.TorchDiffEq("dopri5"),
}
RESTS = {
    "Picard": cn.Picard(), "Anderson": cn.Anderson(), "Broyden": cn.Broyden(), "Newton": cn.Newton(),
    "NewtonKrylov": cn.NewtonKrylov(), "FlowToRest": cn.FlowToRest(), "AtMost": cn.AtMost(cn.Anderson(), 150),
}  # fmt: skip
LINEARS = {
    "Dense": cn.Dense(), "Neumann": cn.Neumann(), "RBP": cn.RBP(), "CG": cn.CG(), "GMRES": cn.GMRES(),
    "BiCGStab": cn.BiCGStab(), "OneStep": cn.OneStep(),
}  # fmt: skip
GRADIENTS = {
    "Discrete": cn.Discrete(), "Checkpointed": cn.Checkpointed(), "Backsolve": cn.Backsolve(),
    "Autograd": cn.Autograd(),
}  # fmt: skip
REST = cn.solve(cn.FixedPointProblem(contraction, torch.from_numpy(X))).value
POINTS = np.array([[0.5, -0.25], [1.0, 2.0]])


def rest(function: Callable[..., Any]) -> Callable[[Any], Any]:
    """A condition at a state; how many products it took is not its value."""

    def ask(z: Any) -> Any:
        found = function(cn.FixedPointProblem(contraction, torch.from_numpy(X)), z)
        return getattr(found, "value", found)

    return ask


def _influence(z: Any) -> Any:
    matrix = MATRIX.clone().requires_grad_()
    problem = cn.FixedPointProblem(scaled, torch.from_numpy(X), args=(matrix,))
    # At rest where z is as it should be.
    at = REST + (z - torch.from_numpy(X)) if isinstance(z, torch.Tensor) and z.shape == X.shape and not z.is_meta else z
    return cn.sensitivity(problem, at, matrix, tolerance=cn.Tolerance(1e-4, 1e-4))


def steer(x: Any) -> Any:
    """One steering, short."""
    y = torch.from_numpy(X[:1] + 0.1)
    return cn.interpolate(POLYNOMIAL, x, y, lam=1.0, steps=4, time_limit=5, seed=0).control.values


def symbols() -> list[Any]:
    """Coordinates."""
    import sympy

    return list(sympy.symbols("x y"))


def lists(value: Any) -> Any:
    """Expressions come in lists."""
    return (
        value.tolist() if isinstance(value, torch.Tensor | np.ndarray) and not getattr(value, "is_meta", 0) else value
    )


def drawn(function: Callable[..., Any]) -> Callable[[Any], Any]:
    """What a picture is of, as nothing: only that it is drawn."""

    def draw(value: Any) -> None:
        function(value, Figure().subplots())

    return draw


def _flows() -> dict[str, Array]:
    found: dict[str, Array] = {}
    for name, F in FAMILIES.items():
        u = torch.ones(F.count, dtype=DOUBLE) / 4
        found |= {
            f"cn.{name}.evaluate": Array(F.evaluate, X, rows=True),
            f"cn.{name}.velocity": Array(partial(F.velocity, u=u), X, rows=True),
            f"cn.{name}.velocity u": Array(partial(F.velocity, torch.from_numpy(X)), u.numpy()),
            f"cn.{name}.pullback": Array(partial(F.pullback, u=u, w=torch.ones(3, 2, dtype=DOUBLE)), X),
            f"cn.{name}.pullback w": Array(partial(_pulled_back, F, u), X),
            f"cn.{name}.divergence": Array(partial(F.divergence, u=u), X),
        }
    for name, control in CONTROLS.items():
        found[f"cn.{name}.at"] = Array(control.at, np.linspace(0.1, 0.9, 5))
    for name, method in METHODS.items():
        found[f"cn.{name}"] = Array(partial(_flown, method), X)
        found[f"cn.solve by {name}"] = Array(partial(_solved, method), X)
    for name, gradient in GRADIENTS.items():
        found[f"cn.{name} differentiates"] = Array(partial(_differentiated, gradient), X)
    return found


def _pulled_back(fields: Any, u: Any, w: Any) -> Any:
    return fields.pullback(torch.from_numpy(X), u, w).state


def _flown(method: Any, x: Any) -> Any:
    return cn.ControlledODE(POLYNOMIAL, CONTROL, method)(x)


def _solved(method: Any, x: Any) -> Any:
    return cn.solve(cn.InitialValueProblem.controlled(POLYNOMIAL, CONTROL, x), method).value


def _differentiated(gradient: Any, x: Any) -> Any:
    values = CONTROL.values.detach().clone().requires_grad_()
    control = cn.PiecewiseConstantControl(4, 3, values=values)
    problem = cn.InitialValueProblem.controlled(POLYNOMIAL, control, x)
    solution = cn.solve(problem, cn.RungeKutta("rk4", steps=4), gradient=gradient)
    return torch.autograd.grad(solution.value.sum(), list(control.parameters()))


def _rests() -> dict[str, Array]:
    def solved(method: Any) -> Callable[[Any], Any]:
        return lambda z: cn.solve(cn.FixedPointProblem(contraction, z), method, max_steps=200).value

    def linear(method: Any) -> Callable[[Any], Any]:
        def solve(g: Any) -> Any:
            problem = cn.LinearProblem(product, g, transpose=transpose)
            return cn.solve(problem, method, max_steps=200).value

        return solve

    found = {f"cn.{name}": Array(solved(method), X) for name, method in RESTS.items()}
    found |= {f"cn.{name} of I - J": Array(linear(method), X) for name, method in LINEARS.items()}
    layer = cn.EquilibriumLayer(maps.layer)
    conditions: dict[str, Callable[..., Any]] = {
        "smallest_eigenvalue": cn.smallest_eigenvalue, "spectral_norm": cn.spectral_norm,
        "spectral_radius": cn.spectral_radius, "gershgorin_bound": cn.gershgorin_bound,
        "squared_frobenius": lambda problem, z: cn.squared_frobenius(problem, z, samples=None),
        "gershgorin_hinge": lambda problem, z: cn.gershgorin_hinge(problem, z, 0.1),
        "eigenvalue_hinge": lambda problem, z: cn.eigenvalue_hinge(problem, z, 0.1),
    }  # fmt: skip
    found |= {f"cn.{name}": Array(rest(condition), X) for name, condition in conditions.items()}
    return found | {
        "cn.EquilibriumLayer": Array(layer, X),
        "cn.contraction_rate": Array(cn.contraction_rate, np.array([[1.0], [0.5], [0.25], [0.125]])),
        "cn.banach_steps": Array(lambda q: cn.banach_steps(q, 1.0, 1e-6), np.array([0.5, 0.9])),
        "cn.sensitivity": Array(lambda z: _influence(z), X),
    }


def _modules() -> dict[str, Array]:
    def read(readout: Any) -> Callable[[Any], Any]:
        return lambda end: readout(end, torch.from_numpy(X))

    lift = cn.ConvLift(2, size=8, seed=0, dtype=DOUBLE)
    network = cn.image_network(cn.ImageNetworkConfig(size=8, classes=2, channels=2, intervals=(1,), count=3)).double()
    block = cn.ResidualBlock(torch.nn.Linear(2, 2).double())
    return {
        "cn.ControlledODE": Array(FLOW, X),
        "cn.DifferenceReadout": Array(read(cn.DifferenceReadout().double()), X, rows=True),
        "cn.LinearReadout": Array(read(cn.LinearReadout(2, 3).double()), X, rows=True),
        "cn.AnchorReadout": Array(read(cn.AnchorReadout(2, 2, seed=0, dtype=DOUBLE).double()), X, rows=True),
        "cn.ChannelMeanReadout": Array(read(cn.ChannelMeanReadout((2, 1, 1), 2).double()), X, rows=True),
        "cn.AveragePool": Array(cn.AveragePool((1, 2, 2)), RNG.normal(size=(3, 4)), rows=True),
        "cn.Normalize": Array(cn.Normalize(), X),
        "cn.ConvLift": Array(lift, IMAGES[:, 0]),
        "cn.image_network": Array(network, IMAGES[:, 0]),
        "cn.ResidualBlock": Array(block, X, rows=True),
        "cn.from_residual": Array(cn.from_residual([block]), X),
        "cn.ResidualFlow": Array(cn.from_residual([block], "rk4"), X),
        "nn.Deskew": Array(Deskew(), IMAGES[:, 0]),
        "cn.check_flow": Array(lambda x: cn.check_flow(FLOW, x, seed=0, time_limit=5), X),
        "cn.check_stages": Array(lambda x: cn.check_stages(network, x, seed=0, time_limit=5), IMAGES[:, 0]),
        "cn.control_rank": Array(lambda x: cn.control_rank(network, x), IMAGES[:, 0]),
        "cn.interpolate": Array(steer, X[:1]),
    }


def _constructors() -> dict[str, Array]:
    F = FAMILIES

    def of(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda value: make(value).evaluate(torch.from_numpy(X))

    return {
        "cn.PolynomialFields": Array(of(lambda c: cn.PolynomialFields(c, 2)), POLYNOMIAL.coefficients.numpy()),
        "cn.FeatureFields": Array(lambda c: cn.PolynomialFields(c, 2).degree, POLYNOMIAL.coefficients.numpy()),
        "cn.LinearFields": Array(of(cn.LinearFields), F["LinearFields"].matrices.numpy()),
        "cn.RidgeFields": Array(
            of(lambda c: cn.RidgeFields(c, F["RidgeFields"].offsets, F["RidgeFields"].polynomials)),
            F["RidgeFields"].matrices.numpy(),
        ),
        "cn.ConvFields": Array(lambda x: F["ConvFields"].evaluate(x), X),
        "cn.ExpressionFields": Array(
            lambda c: cn.ExpressionFields([list(c), [1, 0]], symbols(), dtype=DOUBLE).degree, X[0]
        ),
        "cn.PiecewiseConstantControl": Array(
            lambda v: cn.PiecewiseConstantControl(4, 3, values=v).values, CONTROL.values.detach().numpy()
        ),
        "cn.PiecewiseLinearControl": Array(
            lambda v: cn.PiecewiseLinearControl(3, 3, values=v).values, CONTROL.values.detach().numpy()
        ),
        "cn.HermiteControl": Array(lambda v: cn.HermiteControl(3, 3, values=v).values, CONTROL.values.detach().numpy()),
        "cn.SpectralControl": Array(
            lambda v: cn.SpectralControl(4, 3, coefficients=v).coefficients, CONTROL.values.detach().numpy()
        ),
        "cn.DataControl": Array(lambda path: cn.DataControl([0.0, 0.2, 0.5, 0.9, 1.0], path).at(T), PATH.numpy()),
        "cn.DataControl times": Array(
            lambda times: cn.DataControl(times, PATH).at(T), np.array([0.0, 0.2, 0.5, 0.9, 1.0])
        ),
        "cn.InitialValueProblem": Array(
            lambda x: cn.solve(cn.InitialValueProblem(lambda t, x: -x, x), cn.RungeKutta("rk4", steps=3)).value, X
        ),
        "cn.FixedPointProblem": Array(lambda z: cn.solve(cn.FixedPointProblem(contraction, z)).value, X),
        "cn.LinearProblem": Array(lambda g: cn.solve(cn.LinearProblem(product, g)).value, X),
        "cn.SaveAt": Array(
            lambda times: (
                cn.solve(
                    cn.InitialValueProblem(lambda t, x: -x, torch.from_numpy(X)),
                    cn.RungeKutta("rk4", steps=3),
                    save_at=cn.SaveAt(times=times),
                ).value
            ),
            np.array([0.0, 0.5, 1.0]),
        ),
    }


T = torch.tensor([[0.1], [0.6]], dtype=DOUBLE)


def _estimators() -> dict[str, Array]:
    y, labels = DATA.sum(1), (DATA[:, 0] > 0).astype(int)
    regressor = cn.ControlledODERegressor(count=4, intervals=2, max_iter=3, tol=1.0, random_state=0)
    classifier = cn.ControlledODEClassifier(count=4, intervals=2, max_iter=3, tol=1.0, random_state=0)
    fitted = cn.ControlledODERegressor(count=4, intervals=2, max_iter=3, tol=1.0, random_state=0).fit(DATA, y)
    return {
        "cn.ControlledODERegressor": Array(lambda x: regressor.fit(x, y).predict(DATA), DATA),
        "cn.ControlledODEClassifier": Array(lambda x: classifier.fit(x, labels).predict_proba(DATA), DATA),
        "cn.ControlledODERegressor.predict": Array(fitted.predict, DATA),
    }


def _theory() -> dict[str, Array]:
    program = theory.five_fields(2)
    exponents = theory.monomial_exponents(2, 1)
    coefficients = RNG.integers(-3, 4, (2, 2, 3)).astype(float)
    said: dict[str, Any] = {"seed": 0, "time_limit": 5}
    matrices = RNG.integers(-3, 4, (2, 2, 2)).astype(float)
    kernels = RNG.integers(-3, 4, (2, 1, 1, 3, 3)).astype(float)
    return {
        "theory.check_points": Array(lambda x: theory.check_points(program, x, **said).rank, POINTS),
        "theory.growth_vector": Array(lambda x: list(theory.growth_vector(program, x, 3, seed=0).ranks), POINTS),
        "theory.check_accessibility": Array(
            lambda x: theory.check_accessibility([1, 0], [[0, 1], [1, 1]], x, symbols=symbols(), **said).weak.rank,
            POINTS,
        ),
        "theory.exact_array": Array(lambda x: theory.exact_array(x).fractions().astype(float), POINTS),
        "theory.MonomialProgram": Array(lambda c: theory.MonomialProgram(exponents, c).count, coefficients),
        "theory.MonomialProgram exponents": Array(
            lambda e: theory.MonomialProgram(e.long() if isinstance(e, torch.Tensor) else e, coefficients).degree,
            exponents.astype(float),
        ),
        "theory.RidgeProgram": Array(
            lambda c: theory.RidgeProgram(c, np.zeros((2, 2)), [[0, 1, 1]] * 2).count, matrices
        ),
        "theory.ConvolutionProgram": Array(
            lambda k: theory.ConvolutionProgram((1, 2, 2), k, None, None, [[0]] * 2, [0, 1], [[0, 1]] * 2).count,
            kernels,
        ),
        "theory.matrix_algebra_dimension": Array(lambda a: theory.matrix_algebra_dimension(a, seed=0), matrices),
        "theory.evaluate_at": Array(
            lambda x: [float(c) for c in theory.evaluate_at([symbols()[0], 1], symbols(), x)], POINTS
        ),
        "theory.gamma": Array(lambda x: float(theory.gamma(program, x, 1, symbols=symbols())), POINTS[:1]),
        "theory.lie_bracket": Array(lambda v: [str(c) for c in theory.lie_bracket(v, symbols(), symbols())], POINTS[0]),
        "theory.lie_algebra": Array(lambda v: len(theory.lie_algebra(lists(v), symbols(), 2)), POINTS),
        "theory.read_fields": Array(lambda v: theory.read_fields(lists(v), symbols()).count, POINTS),
        "theory.universal": Array(lambda v: theory.universal(lists(v), symbols=symbols(), **said).rank, POINTS),
        "theory.condition_two": Array(
            lambda v: theory.condition_two(lists(v), symbols(), (), at={}, seed=0).holds, POINTS
        ),
    }


def _pictures() -> dict[str, Array]:
    return {
        "plot.trajectories": Array(drawn(lambda x, ax: plot.trajectories(FLOW, x, ax)), X),
        "plot.targets": Array(drawn(lambda x, ax: plot.targets(FLOW, x, torch.from_numpy(X), ax)), X),
        "plot.cobweb": Array(drawn(lambda z, ax: plot.cobweb(lambda z: z / 2, z, ax)), np.array([1.0, 0.5, 0.25])),
        "plot.confusion": Array(drawn(plot.confusion), np.array([[3.0, 1.0], [0.0, 2.0]])),
        "plot.streamlines": Array(drawn(lambda u, ax: plot.streamlines(POLYNOMIAL, u, ax)), U.numpy()),
        "plot.controls": Array(
            lambda v: _drawn_control(lambda c: plot.controls([cn.ControlledODE(POLYNOMIAL, c)]), v), X3
        ),
        "plot.control_curves": Array(lambda v: _drawn_control(plot.control_curves, v), X3),
        "plot.control_map": Array(lambda v: _drawn_control(plot.control_map, v), X3),
        "plot.control_sizes": Array(lambda v: _drawn_control(plot.control_sizes, v), X3),
        "plot.singular_values": Array(drawn(lambda s, ax: plot.singular_values({"s": s}, ax)), RISING),
        "plot.convergence": Array(drawn(lambda r, ax: plot.convergence({"r": ([0, 1, 2], r)}, ax)), RISING),
        "plot.orders": Array(drawn(lambda e, ax: plot.orders({"e": (RISING, e)}, {"e": 1}, ax)), RISING),
    }


X3 = RNG.normal(size=(4, 3)) / 4


def _drawn_control(picture: Callable[[Any], Any], values: Any) -> None:
    picture(cn.PiecewiseConstantControl(4, 3, values=values))


ARRAYS: dict[str, Array] = {
    **_flows(), **_rests(), **_modules(), **_constructors(), **_estimators(), **_theory(), **_pictures()
}  # fmt: skip
