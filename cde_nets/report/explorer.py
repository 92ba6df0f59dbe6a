"""A flow in the plane to play with: five frozen fields, a control that was trained once, points to drag."""

from __future__ import annotations

import json
import math
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from cde_nets.controls import PiecewiseConstantControl
from cde_nets.fields import Cutoff, PolynomialFields
from cde_nets.fields.cutoff import _EDGE
from cde_nets.nn.flow import ControlledODE
from cde_nets.solver import RungeKutta

# Damped outside of the inner radius and zero outside of the outer one: wherever a point is dragged, nothing blows up.
RADIUS, OUTER = 1.5, 2.5
COUNT, INTERVALS, STEPS = 5, 8, 64  # fields, intervals of the control, steps of the method
SEED = 8
# The four outer points are to take three sixteenths of a turn, and the one in the middle is to stay.
_DISTANCE, _TURN = 0.8, 3 / 16


def _square(turn: float) -> tuple[tuple[float, float], ...]:
    angles = [2 * math.pi * (n / 4 + turn) for n in range(4)]
    corners = [(_DISTANCE * math.cos(angle), _DISTANCE * math.sin(angle)) for angle in angles]
    return (*((round(x, 12) + 0.0, round(y, 12) + 0.0) for x, y in corners), (0.0, 0.0))


POINTS, TARGETS = _square(0.0), _square(_TURN)


def plane_fields() -> Cutoff:
    """Five polynomial fields of degree 2 in the plane, cut off."""
    base = PolynomialFields.random(dim=2, count=COUNT, degree=2, seed=SEED, dtype=torch.float64)
    return Cutoff(base, RADIUS, OUTER)


def plane_flow(values: Tensor) -> ControlledODE:
    """The flow under controls of shape (INTERVALS, COUNT): what the page integrates, by the same steps."""
    control = PiecewiseConstantControl(len(values), COUNT, values=values)
    return ControlledODE(plane_fields(), control, RungeKutta("rk4", steps=STEPS))


def trained_control() -> Tensor:
    """The control that comes with the package, shape (INTERVALS, COUNT).

    Found once, by Gauss-Newton steps of least |u| towards targets that were turned little by little: searching anew for
    every page would take a minute, and find the same.
    """
    text = files("cde_nets.report").joinpath("template/plane.json").read_text()
    return torch.tensor(json.loads(text), dtype=torch.float64, device="cpu")


def plane() -> dict[str, Any]:
    """All that the page needs to integrate the same fields: numbers written so that none loses a bit."""
    fields = plane_fields()
    values = trained_control()
    base = fields.base
    assert isinstance(base, PolynomialFields)
    return {
        "exponents": base.exponents.tolist(),
        "coefficients": base.coefficients.tolist(),
        "radius": fields.radius,
        "outer": fields.outer,
        "edge": _EDGE,
        "control": values.tolist(),
        "times": list(plane_flow(values).times),
        "points": [list(point) for point in POINTS],
        "targets": [list(point) for point in TARGETS],
    }
