"""One Runge-Kutta step backwards: costates and what they give the leaves, from the stage states alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cde_nets.solver.dynamics import Adjoint, Dynamics, Graph
from cde_nets.solver.flow.steps import Step, along, combine, dense_weights
from cde_nets.solver.flow.tableau import Tableau

Inner = Sequence[tuple[float | Tensor, Tensor]]


def increment_back(
    dynamics: Dynamics,
    adjoint: Adjoint,
    tableau: Tableau,
    x: Tensor,
    step: Step,
    p: Tensor,
    inner: Inner = (),
    given: Sequence[Tensor] = (),
    *,
    mask: Tensor | None = None,
    leaves_only: bool = False,
) -> Tensor | None:
    """What a step's increment h sum_j b_j k_j gives its start: sum_j mu_j.

    With stage cotangents w_j = h (b_j p + sum_s b_j(theta_s) p_s) + h sum_{l>j} a_lj mu_l and mu_j = D(velocity)(X_j)^T
    w_j (Hager, "Runge-Kutta methods in optimal control and the transformed adjoint system", 2000; the sum over s is
    its extension to states p_s saved at theta_s on the continuous extension), and what the slopes themselves are given.

    Args:
        dynamics: dX/dt.
        adjoint: where the leaves' cotangents are summed.
        tableau: the method.
        x: where the step starts, shape (rows, numbers).
        step: its place in time.
        p: the cotangent of its end.
        inner: theta and cotangent of every state saved within it.
        given: cotangents of the stages' slopes, where there are any.
        mask: the rows that took the step, shape (rows, 1); the others give nothing. None: all.
        leaves_only: the start's cotangent is not wanted.

    Returns:
        Shape (rows, numbers); None where no stage matters, or leaves_only and there is one stage.
    """
    weights = [(tableau.b, p), *((dense_weights(tableau, theta), q) for theta, q in inner)]
    graph = None if leaves_only and tableau.stages == 1 else adjoint.graph(x)
    if graph is not None:
        return _through(graph, tableau, step, weights, given, mask)
    states, pulls = _linearized(dynamics, adjoint, tableau, x, step)
    mu: dict[int, Tensor] = {}
    for j in reversed(range(tableau.stages)):
        terms: list[float | Tensor] = [b[j] for b, _ in weights]
        vectors = [q for _, q in weights]
        terms += [tableau.a[later][j] for later in mu]
        vectors += list(mu.values())
        w = _plus_given(combine(terms, vectors, step.h), given, j)
        if w is None:
            continue
        if mask is not None:
            w = torch.where(mask, w, 0.0)
        moment = step.moment(j, tableau.c[j])
        if leaves_only and tableau.stages == 1:
            adjoint.add(states[j], moment, w)
            return None
        mu[j] = pulls[j](w) if j in pulls else adjoint.pull(states[j], moment, w)
    found = list(mu.values())
    return None if not found else sum(found[1:], found[0])


def _plus_given(w: Tensor | None, given: Sequence[Tensor], j: int) -> Tensor | None:
    return w if not given else given[j] if w is None else w + given[j]


def _linearized(
    dynamics: Dynamics, adjoint: Adjoint, tableau: Tableau, x: Tensor, step: Step
) -> tuple[list[Tensor], dict[int, Callable[[Tensor], Tensor]]]:
    """The stage states; and the pullbacks at those that were evaluated on the way, where that costs nothing more."""
    states: list[Tensor] = []
    slopes: list[Tensor] = []
    pulls: dict[int, Callable[[Tensor], Tensor]] = {}
    for j, row in enumerate(tableau.a):
        states.append(along(x, step.h, row, slopes))
        if j + 1 == tableau.stages:
            break
        moment = step.moment(j, tableau.c[j])
        both = adjoint.linearize(states[j], moment)
        if both is None:
            slopes.append(dynamics.velocity(states[j], moment))
        else:
            slope, pulls[j] = both
            slopes.append(slope)
    return states, pulls


def _through(
    graph: Graph,
    tableau: Tableau,
    step: Step,
    weights: Sequence[tuple[Sequence[float | Tensor], Tensor]],
    given: Sequence[Tensor],
    mask: Tensor | None,
) -> Tensor | None:
    """As `increment_back`, all stages pulled at once."""
    wanted: dict[int, Tensor] = {}
    for j in range(tableau.stages):
        w = _plus_given(combine([b[j] for b, _ in weights], [q for _, q in weights], step.h), given, j)
        if w is not None:
            wanted[j] = w if mask is None else torch.where(mask, w, 0.0)
    if not wanted:
        return None
    slopes: list[Tensor] = []
    with torch.enable_grad():
        for j in range(max(wanted) + 1):
            state = along(graph.x, step.h, tableau.a[j], slopes)
            slopes.append(graph.dynamics.velocity(state, step.moment(j, tableau.c[j])))
    return graph.pull([slopes[j] for j in wanted], list(wanted.values()))
