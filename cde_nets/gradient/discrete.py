"""The discrete adjoint: the exact gradient of the Runge-Kutta steps that were taken."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.fields.base import Pullback
from cde_nets.solve.fixed_grid import FixedGrid, State, Values
from cde_nets.solve.manifold import Retraction


def discrete(grid: FixedGrid, x: State, values: Values) -> State:
    """The state at the mesh's end, differentiable in x and in the control's values.

    For a step with stages X_j, costate p of its end and stage cotangents w_j = h (b_j p + sum_{l>j} a_lj mu_l),
    mu_j = D(velocity)(X_j)^T w_j, the costate of its start is p + sum_j mu_j and the control's gradient at stage j is
    <w_j, V_i(X_j)> summed over the rows (Hager, "Runge-Kutta methods in optimal control and the transformed adjoint
    system", 2000). No autograd graph is built: the states at the step ends are all that is kept.

    A row whose end is not finite contributes zero to every gradient. First derivatives only: asking for more raises
    RuntimeError.

    Args:
        grid: how to step.
        x: initial states, shape (batch, dim).
        values: the control at every stage, shape (steps, stages, count).

    Returns:
        Shape (batch, dim).
    """
    if not (torch.is_grad_enabled() and (x.requires_grad or values.requires_grad)):
        for n in range(grid.steps):
            x, _ = grid.step(n, x, values[n])
        return x
    end: Tensor = _Discrete.apply(grid, x, values)  # type: ignore[no-untyped-call]
    return end


class _Discrete(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grid: FixedGrid, x: State, values: Values) -> State:
        states, scales = [x], []
        for n in range(grid.steps):
            state, scale = grid.step(n, states[-1], values[n])
            states.append(state)
            scales.append(scale)
        ctx.grid = grid
        ctx.save_for_backward(values, *states, *scales)
        return states[-1]

    @staticmethod
    def backward(ctx: Any, p: State) -> tuple[None, State | None, Values]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "The discrete adjoint gives first derivatives only; create_graph=True asks for more. Write the steps "
                "out with fields.velocity, which autograd differentiates to any order."
            )
        grid: FixedGrid = ctx.grid
        values, *saved = ctx.saved_tensors
        states, scales = saved[: grid.steps + 1], saved[grid.steps + 1 :]
        # A row that failed must not spoil what the rows share: it is moved to a harmless point with cotangent zero.
        alive = torch.isfinite(states[-1]).all(1, keepdim=True)
        # Asking whether there is one is free on the CPU; elsewhere it would make the host wait.
        if not (alive.device.type == "cpu" and bool(alive.all())):
            p = torch.where(alive, p, 0.0)
            states = [torch.where(alive, x, 1.0) for x in states]
            scales = [scale if scale is None else torch.where(alive, scale, 1.0) for scale in scales]
        gradient = torch.empty_like(values, memory_format=torch.contiguous_format)
        for n in reversed(range(grid.steps)):
            start = None
            if grid.manifold is not None:
                start, p = grid.manifold.pullback(states[n], Retraction(states[n + 1], scales[n]), p)
            if n == 0 and not ctx.needs_input_grad[1] and grid.tableau.stages == 1:
                # Nobody asks how the start should change: half of the first step's work is not needed.
                gradient[0] = grid.width(0) * grid.fields[0].moments(states[0], values[0, 0], p)
                return None, None, gradient
            p, gradient[n] = _step_backward(grid, n, states[n], values[n], p)
            p = p if start is None else p + start
        return None, p, gradient


def _step_backward(
    grid: FixedGrid, n: int, x: State, u: Float[Tensor, "stages count"], p: State
) -> tuple[State, Float[Tensor, "stages count"]]:
    """The costate of step n's start and the control's gradient at its stages, given p, the costate of its end."""
    tableau, h = grid.tableau, grid.width(n)
    states = grid.stage_states(n, x, u)
    # As a pullback is linear in w, h is taken out of it: w_j = h w'_j, so that Euler's w' is p itself.
    pulled: dict[int, Pullback] = {}
    for j in reversed(range(tableau.stages)):
        w = p if tableau.b[j] == 1 else p * tableau.b[j]
        for later, back in pulled.items():
            if tableau.a[later][j]:
                w = w.add(back.state, alpha=h * tableau.a[later][j])
        pulled[j] = grid.fields[n].pullback(states[j], u[j], w)
    for back in pulled.values():
        p = p.add(back.state, alpha=h)
    return p, h * torch.stack([pulled[j].control for j in range(tableau.stages)])
