"""Errors come before the first step, show what was given, and name the way out."""

import math

import pytest
import torch

from cde_nets.controls import PiecewiseConstantControl
from cde_nets.fields import LinearFields, PolynomialFields
from cde_nets.gradient import Autograd, Discrete, Implicit, Truncated, solve
from cde_nets.solver import (
    GMRES,
    Anderson,
    Event,
    FixedPointProblem,
    FlowToRest,
    InitialValueProblem,
    Picard,
    PIController,
    Reversible,
    RungeKutta,
    SaveAt,
    Tolerance,
)

pytestmark = pytest.mark.usefixtures("bad_input")

F64 = torch.float64
X = torch.ones(3, 2, dtype=F64)
FIELDS = PolynomialFields.random(2, 3, 2, seed=0, dtype=F64)


def control(count=3, steps=4):
    return PiecewiseConstantControl.random(steps, count, scale=0.1, seed=0, dtype=F64)


def never(*_):
    raise AssertionError("a step before the check")


def flow(**options):
    return InitialValueProblem(never, X, **options)


def driven(**options):
    return InitialValueProblem.controlled(FIELDS, control(), X, **options)


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (RungeKutta, {"name": "rk4", "step": 3}, "RungeKutta has no option 'step'; did you mean 'steps'"),
        (RungeKutta, {"name": "rk4", "perrow": True}, "has no option 'perrow'; did you mean 'per_row'"),
        (Tolerance, {"rtoll": 1e-3}, "Tolerance has no option 'rtoll'; did you mean 'rtol'"),
        (PIController, {"safty": 0.9}, "PIController has no option 'safty'; did you mean 'safety'"),
        (Reversible, {"base": RungeKutta("rk4", steps=2), "mix": 1.0}, "no option 'mix'; did you mean 'mixing'"),
        (Event, {"function": never, "directions": "any"}, "no option 'directions'; did you mean 'direction'"),
        (Discrete, {"steps": 3}, "Discrete has no option 'steps'. It takes none"),
        (FlowToRest, {"first": 1}, "FlowToRest has no option 'first'; did you mean 'first_step'"),
    ],
)
def test_unknown_options_are_refused_with_the_nearest(make, options, message):
    with pytest.raises(TypeError, match=message):
        make(**options)


@pytest.mark.parametrize(("name", "near"), [("dopri6", "dopri5"), ("RK4", "rk4"), ("hoin", None), ("dopri8", "dopri5")])
def test_unknown_methods_are_refused_with_the_nearest_and_all_that_exist(name, near):
    meant = f"did you mean '{near}'" if near else "known are"
    with pytest.raises(ValueError, match=rf"Unknown method '{name}'; {meant}.* euler, .* tsit5.*TorchDiffEq\(name\)"):
        RungeKutta(name)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, True, "1e-3", None, torch.tensor([1e-3, 0.0])])
@pytest.mark.parametrize("name", ["rtol", "atol"])
def test_tolerances_are_above_zero(name, value):
    with pytest.raises(
        ValueError, match=rf"(?s){name} must be a finite number above 0; got .*give this one a value far"
    ):
        Tolerance(**{name: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, r"rk4 takes steps >= 1, or None for one step an interval of the control; got 0"),
        ({"steps": 2.5}, "steps >= 1, .*got 2.5"),
        ({"steps": True}, "steps >= 1, .*got True"),
        ({"per_row": False}, "per_row belongs to adaptive steps, and rk4 takes fixed ones here.*heun, bosh3, dopri5"),
        ({"steps": 2, "first_step": 0.1}, "first_step belongs to adaptive steps"),
        ({"controller": PIController()}, "controller belongs to adaptive steps"),
        ({"steps": 2, "mesh": (0.0, 1.0)}, "steps and mesh say the same thing twice: give one"),
        ({"mesh": (0.0,)}, r"at least two times, strictly increasing or decreasing; got \(0.0,\)"),
        ({"mesh": (0.0, 0.5, 0.2, 1.0)}, "strictly increasing or decreasing; got"),
        ({"mesh": (0.0, 0.5, 0.5, 1.0)}, "strictly increasing or decreasing; got"),
    ],
)
def test_bad_grids(options, message):
    with pytest.raises(ValueError, match=message):
        RungeKutta("rk4", **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RungeKutta("dopri5", first_step=0.0), "first_step must be a number above 0, and finite; got 0.0"),
        (lambda: RungeKutta("dopri5", first_step="small"), "first_step must be a number above 0.*got 'small'"),
        (lambda: RungeKutta("dopri5", controller=0.9), r"controller must be one such as PIController\(\); got 0.9"),
        (lambda: PIController(safety=1.5), "safety must be a number above 0 and below 1; got 1.5"),
        (lambda: PIController(shrink=0.0), "shrink must be a number above 0 and below 1; got 0.0"),
        (lambda: PIController(grow=1.0), "grow must be a number above 1, and finite; got 1.0"),
        (lambda: PIController(integral=0), "integral must be a number above 0, and finite; got 0"),
        (lambda: PIController(proportional=-0.1), "proportional must be a number from 0, and finite; got -0.1"),
        (
            lambda: Reversible(RungeKutta("dopri5")),
            r"takes a RungeKutta on a fixed grid, such as .*steps=20.*got Runge",
        ),
        (lambda: Reversible("rk4"), "takes a RungeKutta on a fixed grid, .*got rk4"),
        (lambda: Reversible(RungeKutta("rk4", steps=2), mixing=0.0), "mixing must be a number above 0.*got 0.0"),
        (lambda: Event(3), r"An event is a function g\(t, x\); got a int"),
        (lambda: Event(never, "up"), "Unknown direction 'up'. Known are any, rising, falling"),
        (lambda: Event(never, "risng"), "Unknown direction 'risng'; did you mean 'rising'"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# -- problems ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: flow(t0=1.0, t1=1.0), "two different finite times; got t0=1.0 and t1=1.0"),
        (lambda: flow(t1=math.inf), "two different finite times; got t0=0.0 and t1=inf"),
        (lambda: flow(t0=math.nan), "two different finite times; got t0=nan"),
        (lambda: flow(t1=torch.linspace(0, 1, 5)), "t1 must be one time; got 5 of them.*save_at=times"),
        (lambda: driven(t0=0.5, t1=0.5), "two different finite times; got t0=0.5"),
        (lambda: InitialValueProblem(3, X), r"field must be a function or module f\(t, x\); got a int"),
        (lambda: InitialValueProblem(X, never), "must be a function or module .*got a Tensor"),
        (
            lambda: InitialValueProblem(never, [1.0, 2.0]),
            "A state is a tensor, or a tuple or dict of tensors; got float",
        ),
        (lambda: InitialValueProblem(never, X.long()), r"floating point or complex; got torch.int64. Cast it: x.float"),
        (lambda: flow(manifold="torus"), "Unknown manifold 'torus'; known are sphere"),
        (lambda: flow(event=3), r"An event is a function g\(t, x\); got a int"),
        (lambda: flow(event=never).with_log_determinant(), "log-determinant of a flow with a event is not offered"),
        (lambda: flow(manifold="sphere").with_log_determinant(), "with a manifold is not offered"),
    ],
)
def test_bad_problems(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: (FIELDS, FIELDS, X), r"control must be a Control, .*got a PolynomialFields.*\(fields, control\)"),
        (lambda: ([3], control(), X), "fields must be a family or a sequence of families; got a int"),
        (lambda: (FIELDS, control(2), X), "control has 2 components and PolynomialFields has 3 fields; .*count=3"),
        (lambda: ([FIELDS] * 3, control(), X), r"3 families for a control of 4 intervals: give one .* or 4 \(fresh"),
        (lambda: (FIELDS, control(), torch.ones(3, 4, dtype=F64)), r"shape \(batch, 2\); got shape \(3, 4\)"),
        (lambda: (FIELDS, control(), X[0]), r"shape \(batch, 2\); got shape \(2,\)\. .*x\[None\]"),
        (
            lambda: (FIELDS, control(), X.float()),
            r"float64 coefficients; x is torch.float32, which holds less.*fields.to",
        ),
        (lambda: (FIELDS, control(), X.to(torch.complex128)), "x is torch.complex128.*cast one of them"),
        (lambda: (LinearFields.random(2, 3, seed=0, dtype=torch.complex64), control(), X.float()), "complex fields"),
    ],
)
def test_bad_controlled_problems(make, message):
    with pytest.raises(ValueError, match=message):
        InitialValueProblem.controlled(*make())


def test_a_drift_of_another_dimension_is_refused():
    with pytest.raises(ValueError, match=r"The drift lives on R\^3 and the fields on R\^2"):
        driven(drift=LinearFields.random(3, 1, seed=0, dtype=F64))


# -- solve -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_steps": 0}, "max_steps must be an integer of at least 1; got 0"),
        ({"max_steps": 10.0}, "max_steps must be an integer of at least 1; got 10.0"),
        ({"tolerance": 1e-3}, r"tolerance must be a Tolerance\(rtol, atol\); got 0.001"),
        ({"progress": 1}, "progress must be True, False or a function of the fraction done; got 1"),
        ({"gradient": "discrete"}, r"gradient must be one such as Discrete\(\) or Implicit\(\); got 'discrete'"),
        ({"gradient": Discrete}, "gradient must be one such as .*got <class"),
        (
            {"gradient": Implicit()},
            r"Implicit differentiates rest and linear problems; this is a flow problem.*Discrete\(\)",
        ),
        ({"gradient": Truncated(3)}, "Truncated differentiates .*; this is a flow problem"),
        ({"save_at": [0.5, 0.2]}, "Save times must rise strictly, as the flow's time does; got 0.5 before 0.2"),
        ({"save_at": [0.5, 0.5]}, "must rise strictly, .*got 0.5 before 0.5"),
        ({"save_at": [0.5, 1.5]}, "save time 1.5 lies outside of the flow's times, 0 to 1"),
        ({"save_at": [-0.1]}, "save time -0.1 lies outside"),
        ({"save_at": SaveAt(times=torch.tensor([math.nan]))}, "save time nan lies outside"),
        ({"save_at": 0.5}, "Save times are a sequence of numbers, or a SaveAt of one; got 0.5"),
        ({"save_at": "all"}, "Save times are a sequence of numbers, or a SaveAt of one; got 'all'"),
    ],
)
def test_bad_requests(options, message):
    with pytest.raises(ValueError, match=message):
        solve(flow(), RungeKutta("dopri5"), **options)


def test_save_times_of_a_flow_backward_in_time_fall():
    with pytest.raises(ValueError, match=r"Save times must fall strictly, as the flow's time does; got 0.2 before 0.5"):
        solve(flow(t0=1.0, t1=0.0), save_at=[0.2, 0.5])


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("dopri5", r"method must be a method: RungeKutta\('dopri5'\); got 'dopri5'"),
        (RungeKutta, r"method must be a method, such as RungeKutta\('dopri5'\); got <class"),
        (Picard(), "Picard solves a rest problem; this is a flow problem"),
        (GMRES(), "GMRES solves a linear problem; this is a flow problem"),
        (
            RungeKutta("rk4"),
            r"rk4 has no error estimate to choose steps by: give RungeKutta\('rk4', steps=..\), or take",
        ),
        (RungeKutta("rk4", mesh=(0.0, 0.5)), "The mesh runs from 0 to 0.5, the problem from 0 to 1"),
        (RungeKutta("rk4", mesh=(1.0, 0.5, 0.0)), "The mesh runs from 1 to 0, the problem from 0 to 1"),
    ],
)
def test_methods_that_do_not_fit_the_flow(method, message):
    with pytest.raises(ValueError, match=message):
        solve(flow(), method)


@pytest.mark.parametrize("problem", [None, never, X, "flow"])
def test_what_is_no_problem_is_refused(problem):
    name = type(problem).__name__
    with pytest.raises(ValueError, match=f"takes an InitialValueProblem, .* or a LinearProblem; got a {name}"):
        solve(problem)


def test_methods_and_gradients_of_flows_are_refused_at_rest():
    rest = FixedPointProblem(never, X)
    with pytest.raises(ValueError, match="RungeKutta solves a flow problem; this is a rest problem"):
        solve(rest, RungeKutta("rk4", steps=2))
    for gradient in (Discrete(), Autograd()):
        with pytest.raises(ValueError, match=r"differentiates flow problems; this is a rest .*default is Implicit\(\)"):
            solve(rest, Anderson(), gradient=gradient)


@pytest.mark.parametrize("name", ["rk4", "dopri5"])
def test_too_few_steps_for_the_breakpoints(name):
    message = "steps=3 cannot reach each of the 3 breakpoints between 0 and 1; take at least 4, or a multiple"
    with pytest.raises(ValueError, match=message):
        solve(driven(), RungeKutta(name, steps=3))
    with pytest.raises(ValueError, match=r"steps=2 cannot reach each of the 2 breakpoints between 0 and 0.6"):
        solve(driven(t1=0.6), RungeKutta(name, steps=2))


def test_a_mesh_that_misses_a_breakpoint():
    with pytest.raises(ValueError, match=r"The mesh leaves the breakpoint t=0.25 inside a step; add it"):
        solve(driven(), RungeKutta("rk4", mesh=(0.0, 0.5, 0.75, 1.0)))


@pytest.mark.parametrize("per_row", [True, False])
def test_fresh_families_want_a_fixed_grid(per_row):
    problem = InitialValueProblem.controlled([FIELDS] * 4, control(), X)
    message = r"fresh at every interval need a fixed grid.*RungeKutta\('tsit5', steps=..\)"
    with pytest.raises(ValueError, match=message):
        solve(problem, RungeKutta("tsit5", per_row=per_row))
    assert solve(problem, RungeKutta("tsit5", steps=4)).words() == ["done"] * 3


@pytest.mark.parametrize(
    ("problem", "options", "message"),
    [
        (lambda: driven(event=lambda t, x: x[:, 0]), {}, "cannot be undone across a event: take the base method"),
        (lambda: driven(manifold="sphere"), {}, "cannot be undone across a manifold: take the base method"),
        (driven, {"save_at": [0.3]}, r"no continuous extension: the save time 0.3 is no step's end.*mesh=\(..\)"),
        (driven, {"save_at": SaveAt(dense=True)}, "no continuous extension: take its base for dense output"),
    ],
)
def test_what_a_reversible_method_cannot_do(problem, options, message):
    with pytest.raises(ValueError, match=message):
        solve(problem(), Reversible(RungeKutta("rk4", steps=4)), **options)


# -- what the user's functions return ----------------------------------------------------------------------------------

METHODS = {"grid": RungeKutta("rk4", steps=4), "adaptive": RungeKutta("dopri5")}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("gradient", [Discrete(), Autograd()])
@pytest.mark.parametrize(
    ("field", "message"),
    [
        (lambda t, x: x[:, :1], r"The field's value must have the state's shape \(3, 2\); got shape \(3, 1\)"),
        (lambda t, x: x.sum(), r"must have the state's shape \(3, 2\); got shape \(\)"),
        (lambda t, x: x.float(), r"must be torch.float64 on cpu, as the state is; got torch.float32.*Cast the one"),
        (lambda t, x: (x,), "must be built as the initial state"),
        (lambda t, x: {"x": x}, "must be built as the initial state"),
        (lambda t, x: None, r"must have the state's shape \(3, 2\); got a NoneType"),
        (lambda t, x: 0.0, r"must have the state's shape \(3, 2\); got a float"),
    ],
)
def test_a_field_that_returns_something_else(field, message, gradient, method):
    with pytest.raises(ValueError, match=message):
        solve(InitialValueProblem(field, X), method, gradient=gradient)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize(
    ("event", "got"),
    [(lambda t, x: x, r"shape \(3, 2\)"), (lambda t, x: x.sum(), r"shape \(\)"), (lambda t, x: 1.0, "a float")],
)
def test_an_event_that_returns_something_else(event, got, method):
    problem = InitialValueProblem(lambda t, x: -x, X, event=event)
    with pytest.raises(ValueError, match=rf"one number a row, shape \(3,\); got {got}.*time has shape \(3, 1\)"):
        solve(problem, method)


@pytest.mark.parametrize("wants", [True, False])
def test_a_gradient_that_would_be_lost_is_refused(wants):
    w = torch.ones(2, dtype=F64, requires_grad=wants)
    problem = InitialValueProblem(lambda t, x: -w * x, X)
    if wants:
        with pytest.raises(
            ValueError, match=r"1 tensor\(s\) \(shapes \(2,\)\) that want a gradient.*args=.*Autograd\(\)"
        ):
            solve(problem)
        value = solve(problem, gradient=Autograd()).value
        assert torch.autograd.grad(value.sum(), w)[0].shape == (2,)
        with torch.no_grad():
            solve(problem)
    else:
        assert solve(problem).words() == ["done"] * 3


# -- what is allowed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
def test_narrow_fields_drive_a_wider_state(narrow, method):
    wide = PolynomialFields.random(2, 3, 2, seed=0, dtype=torch.float32)
    fields = PolynomialFields.random(2, 3, 2, seed=0, dtype=torch.float32).to(narrow)
    found = []
    for family in (fields, wide):
        u = PiecewiseConstantControl.random(4, 3, scale=0.5, seed=0, dtype=torch.float32)
        x = X.float().requires_grad_()
        solution = solve(InitialValueProblem.controlled(family, u, x), method, tolerance=Tolerance(1e-2, 1e-2))
        assert solution.value.dtype == torch.float32
        found.append([solution.value.detach(), *torch.autograd.grad(solution.value.sum(), [u.values, x])])
    for got, want in zip(*found, strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, want, rtol=0.05, atol=0.05)


def test_one_tolerance_an_element():
    fine = Tolerance(torch.tensor([1e-2, 1e-9]), torch.tensor([1e-2, 1e-9]))
    problem = InitialValueProblem(lambda t, x: torch.cos(9 * x.flip(1)), X)
    strict, loose, mixed = (
        solve(problem, tolerance=tol).statistics.accepted.max()
        for tol in (Tolerance(1e-9, 1e-9), Tolerance(1e-2, 1e-2), fine)
    )
    assert loose < mixed <= strict
