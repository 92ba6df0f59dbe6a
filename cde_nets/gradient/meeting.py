"""Where and when rows meet their events, as functions of all that moves them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cde_nets.solver.flow.events import Hits, evaluate
from cde_nets.solver.flow.record import interpolate
from cde_nets.solver.flow.steps import Step
from cde_nets.solver.flow.tableau import Tableau
from cde_nets.solver.initial_value import InitialValueProblem
from cde_nets.solver.living import places
from cde_nets.solver.opaque import forward_mode

# Of Newton's steps; k of them have the derivatives up to order 2^k - 1.
_ROUNDS = 3


class MetIn(NamedTuple):
    """The steps in which rows met their events, with the gradient of what was stepped.

    Attributes:
        hits: when they began, and their widths.
        met: the rows that met their event, shape (rows, 1).
        alive: the rows that did not fail, shape (rows,).
        start: where they began, shape (rows, numbers).
        slopes: of their stages, shape (stages, rows, numbers).
    """

    hits: Hits
    met: Tensor
    alive: Tensor
    start: Tensor
    slopes: Tensor


def meeting(
    problem: InitialValueProblem, tableau: Tableau, step: MetIn, theta: Tensor, time: Tensor
) -> tuple[Tensor, Tensor]:
    """State and time of every row's event, shapes (rows, numbers) and (rows, 1), with their derivatives.

    Bisection solves g(t + theta h, X(theta)) = 0 for theta, X being the step's continuous extension put back on the
    manifold: what start and slopes are made of moves theta, and by the derivatives of this very equation. Newton's
    steps with a slope that is differentiated too, begun at the solution, change no value; each doubles the order to
    which their derivatives are those of the implicit function, so that they are exact up to the seventh.

    Args:
        problem: the flow.
        tableau: its method.
        step: in which rows met their events. Others get numbers that mean nothing, and no gradient.
        theta: where in it, shape (rows, 1).
        time: when, float64, shape (rows, 1).
    """
    event, packing, met = problem.event, problem.packing, step.met
    assert event is not None
    # Rows that met nothing stand where one stands that did: where they are, a slope may be zero or a number NaN.
    rows = places(torch.where(met.any(), met[:, 0], step.alive))
    began, width, theta, start = (part.index_select(0, rows) for part in (step.hits.t, step.hits.h, theta, step.start))
    slopes = step.slopes.index_select(1, rows).unbind()
    wide = Step(0, width.to(theta.dtype))

    def state(theta: Tensor) -> Tensor:
        return interpolate(tableau, problem.manifold, start, wide, slopes, theta)

    def crossing(theta: Tensor) -> Tensor:
        return evaluate(event, packing, began + theta.to(torch.float64) * width, state(theta))[:, None]

    forward = forward_mode()
    if not forward and not (torch.is_grad_enabled() and crossing(theta).requires_grad):
        return state(theta), time
    moved = theta
    for _ in range(_ROUNDS):
        g, pull, *_ = torch.func.vjp(crossing, moved)
        (slope,) = pull(torch.ones_like(g))
        change = torch.where(met, g - _still(g, forward=forward), 0.0).to(theta.dtype)
        moved = moved - change / torch.where(met, slope, 1.0)
    return state(moved), time + (moved - theta) * width


def _still(x: Tensor, *, forward: bool) -> Tensor:
    """The numbers alone; what detach leaves of tangents goes too."""
    if not forward:
        return x.detach()
    with torch.autograd.forward_ad._set_fwd_grad_enabled(False):
        return x.detach().clone()
