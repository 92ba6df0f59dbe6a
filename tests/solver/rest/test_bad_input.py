"""Errors come before the first evaluation, and name the way out."""

import math

import pytest
import torch

from cde_nets.solver import Limits, run
from cde_nets.solver.fixed_point import FixedPointProblem
from cde_nets.solver.flow.controller import PIController
from cde_nets.solver.rest import Anderson, Broyden, FlowToRest, Newton, NewtonKrylov, Picard

pytestmark = pytest.mark.usefixtures("bad_input")


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (Picard, {"dampening": 0.5}, "Picard has no option 'dampening'; did you mean 'damping'"),
        (Anderson, {"histroy": 3}, "Anderson has no option 'histroy'; did you mean 'history'"),
        (Broyden, {"memory": 3}, "Broyden has no option 'memory'.* Known are history, damping"),
        (Newton, {"linesearch": True}, "did you mean 'line_search'"),
        (NewtonKrylov, {"forcings": 0.1}, "did you mean 'forcing'"),
        (FlowToRest, {"steps": 1.0}, "did you mean 'step'"),
    ],
)
def test_unknown_options(method, options, message):
    with pytest.raises(TypeError, match=message):
        method(**options)


@pytest.mark.parametrize("method", [Picard, Anderson, Broyden, Newton, NewtonKrylov])
@pytest.mark.parametrize("damping", [0, -0.5, 1.5, math.nan, math.inf, True, "much", None])
def test_damping(method, damping):
    with pytest.raises(ValueError, match=r"damping must be a number above 0 and at most 1.*; got"):
        method(damping=damping)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (Anderson, {"history": 0}, "history must be an integer of at least 1; got 0"),
        (Anderson, {"history": None}, "history must be an integer"),
        (Anderson, {"ridge": 0}, "ridge must be a number from 1e-13 to 1; got 0"),
        (Anderson, {"ridge": math.nan}, "ridge must be a number"),
        (Broyden, {"history": 2.5}, "history must be an integer of at least 1; got 2.5"),
        (Broyden, {"history": 0}, "history must be an integer of at least 1; got 0"),
        (Newton, {"line_search": 1}, "line_search must be True or False; got 1"),
        (NewtonKrylov, {"krylov": 0}, "krylov must be an integer of at least 1; got 0"),
        (NewtonKrylov, {"forcing": 1.0}, "forcing must be a number above 0 and below 1; got 1.0"),
        (NewtonKrylov, {"line_search": "no"}, "line_search must be True or False; got 'no'"),
        (FlowToRest, {"flow": "eular", "step": 1.0}, "Unknown method 'eular'; did you mean 'euler'"),
        (FlowToRest, {"flow": "euler"}, r"euler has no error estimate.*FlowToRest\('euler', step=..\)"),
        (FlowToRest, {"flow": "rk4", "step": 0}, "step must be a number above 0, and finite; got 0"),
        (FlowToRest, {"step": 1.0, "accuracy": 0.1}, "accuracy belongs to adaptive steps"),
        (FlowToRest, {"step": 1.0, "controller": PIController()}, "controller belongs to adaptive steps"),
        (FlowToRest, {"accuracy": -1}, "accuracy must be a number above 0"),
        (FlowToRest, {"first_step": math.inf}, "first_step must be a number above 0"),
        (FlowToRest, {"controller": 3}, "controller must be one such as PIController"),
    ],
)
def test_values(method, options, message):
    with pytest.raises(ValueError, match=message):
        method(**options)


@pytest.mark.parametrize("method", [Picard(), Newton(), NewtonKrylov(), FlowToRest("euler", step=1.0)])
def test_a_map_that_changes_the_shape(method):
    problem = FixedPointProblem(lambda z: z[:, :2], torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"The map's value must have the state's shape \(4, 3\); got shape \(4, 2\)"):
        run(problem, method.resolve(problem), Limits())
