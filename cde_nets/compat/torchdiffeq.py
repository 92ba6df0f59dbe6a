"""torchdiffeq's interface on this package's solvers: `from cde_nets.compat.torchdiffeq import odeint`.

The arguments, their defaults and what they mean are that library's: the whole state is solved as one, with one error
for all of it. What is computed here, and what is different:

- "euler", "midpoint", "heun2", "heun3", "rk4" (the 3/8 rule there, "rk38" here), "bosh3", "dopri5" and "adaptive_heun"
  are taken by `RungeKutta`, with the library's rule for step widths. Its steps end at the last time, and the field is
  never evaluated beyond it.
- `odeint` is differentiated by `Discrete`, exactly and without a graph of the stages, where func is a module whose
  parameters and state are all that it depends on; else by `Autograd`. `odeint_adjoint` is `Backsolve`.
- Times get the gradient of the flow: f at the output times, -f carried to the end at the first; the steps are held
  fixed, where the library's fixed grids move with their times. `odeint` has four derivatives by them,
  `odeint_adjoint` one.
- A state that is a tuple has an error norm of its parts; here it is the root of the sum of the parts' squares, where
  the library takes the largest: never laxer.
- An option that the method does not know is refused (ValueError with the nearest), where the library warns.
- A failed adaptive solve raises `OdeintError`, which is an AssertionError, as the library's, and a `DivergedError`.

Handed on to torchdiffeq itself, whole and unchanged: all other methods; a func with callbacks; the options min_step,
max_step, norm, perturb, and a dtype that is not float64; events with fixed steps; and for `odeint_adjoint` also an
adjoint that differs from the forward solve in more than its tolerances where one of the two takes fixed steps, or in
the times given as step_t and jump_t. A fixed-grid solve that leaves the finite numbers is handed on too, so that its
outcome is the library's: NaN where NaN came out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cde_nets.compat.call import Call, OdeintError, alike, differentiation
from cde_nets.compat.flat import FlatField, Function, Layout, crossing_of, parameters_of
from cde_nets.compat.moving import carried, first_only, meets
from cde_nets.gradient import Autograd, Backsolve

__all__ = ["OdeintError", "odeint", "odeint_adjoint", "odeint_dense", "odeint_event"]


def odeint(
    func: Function,
    y0: Any,
    t: Tensor,
    *,
    rtol: Any = 1e-7,
    atol: Any = 1e-9,
    method: str | None = None,
    options: Mapping[str, Any] | None = None,
    event_fn: Function | None = None,
) -> Any:
    """Solve dy/dt = func(t, y) from y(t[0]) = y0, differentiable through the steps.

    Args:
        func: a module or function of a time without axes and the state.
        y0: a tensor of any shape, or a tuple of tensors.
        t: output times, strictly rising or falling, shape (times,).
        rtol: a number, a tensor that broadcasts against y0, or a number for each tensor of a tuple.
        atol: likewise.
        method: of torchdiffeq; "dopri5" where None.
        options: of the method: step_size, grid_constructor, interp, perturb for fixed steps; first_step, safety,
            ifactor, dfactor, max_num_steps (between two outputs, on average), min_step, max_step, step_t, jump_t,
            dtype, norm for adaptive ones.
        event_fn: of (t, y); the solve ends where one of its numbers crosses zero. t then holds the start and any
            other time on the side to which time runs.

    Returns:
        The states at t, an axis for the times in front, differentiable in t, too, up to the fourth derivative: as
        the flow is, by the velocity there, with the steps held fixed; on a fixed grid those of the library move with t.
        With event_fn the time of the event, and the states at the start and there. The time is not differentiable: see
        `odeint_event`.

    Raises:
        ValueError: arguments that do not fit each other.
        TypeError: times that are not floating point.
        OdeintError: an adaptive solve that failed.
    """
    call = Call.of(func, y0, t, rtol, atol, method, options)
    if call.is_the_librarys(event_fn):
        return call.by_library(event_fn)
    return call.answer(event_fn, *differentiation(call))


def odeint_adjoint(
    func: Function,
    y0: Any,
    t: Tensor,
    *,
    rtol: Any = 1e-7,
    atol: Any = 1e-9,
    method: str | None = None,
    options: Mapping[str, Any] | None = None,
    event_fn: Function | None = None,
    adjoint_rtol: Any = None,
    adjoint_atol: Any = None,
    adjoint_method: str | None = None,
    adjoint_options: Mapping[str, Any] | None = None,
    adjoint_params: Sequence[Tensor] | None = None,
) -> Any:
    """As `odeint`, differentiated by solving the adjoint equation back in time: the memory of the outputs alone.

    Args:
        func: as `odeint`.
        y0: as `odeint`.
        t: as `odeint`.
        rtol: as `odeint`.
        atol: as `odeint`.
        method: as `odeint`.
        options: as `odeint`.
        event_fn: as `odeint`.
        adjoint_rtol: of the way back, one number: the least of many; rtol where None.
        adjoint_atol: likewise.
        adjoint_method: likewise.
        adjoint_options: likewise, but for options' norm; the norm may also be "seminorm".
        adjoint_params: the tensors that get gradients besides y0 and t; the module's parameters where None.

    Returns:
        As `odeint`.

    Raises:
        ValueError: as `odeint`; func is no module and adjoint_params is None; adjoint_method differs from method,
            options are given, and adjoint_options are not.
        TypeError: as `odeint`.
        OdeintError: as `odeint`.
    """
    if adjoint_params is None and not isinstance(func, nn.Module):
        raise ValueError(
            "odeint_adjoint takes the parameters of func, an nn.Module; this func is a "
            f"{type(func).__name__}: name the tensors it depends on as adjoint_params=(..), () if there are none."
        )
    if adjoint_method is not None and adjoint_method != method and options is not None and adjoint_options is None:
        raise ValueError(
            f"options are for {method or 'dopri5'}, and adjoint_method={adjoint_method!r} takes others: give "
            "adjoint_options, {} if there are none."
        )
    call = Call.of(func, y0, t, rtol, atol, method, options)
    kept = {name: value for name, value in call.options.items() if name != "norm"}
    back = Call.of(
        func,
        y0,
        t,
        rtol if adjoint_rtol is None else adjoint_rtol,
        atol if adjoint_atol is None else adjoint_atol,
        method if adjoint_method is None else adjoint_method,
        kept if adjoint_options is None else adjoint_options,
        whole=True,
    )
    named = list(parameters_of(func)) if adjoint_params is None else list(adjoint_params)
    if call.is_the_librarys(event_fn, adjoint=True) or back.is_the_librarys(None) or not alike(call, back):
        return call.by_library(
            event_fn,
            adjoint_rtol=adjoint_rtol,
            adjoint_atol=adjoint_atol,
            adjoint_method=adjoint_method,
            adjoint_options=None if adjoint_options is None else dict(adjoint_options),
            adjoint_params=None if adjoint_params is None else tuple(named),
        )
    leaves = tuple(leaf for leaf in named if leaf.requires_grad)
    if not torch.is_grad_enabled():
        return call.answer(event_fn, Autograd(), ())
    return call.answer(event_fn, Backsolve(back.method() if back.adaptive else None, back.tolerance), leaves)


def odeint_event(
    func: Function,
    y0: Any,
    t0: Tensor,
    *,
    event_fn: Function,
    reverse_time: bool = False,
    odeint_interface: Function = odeint,
    **kwargs: Any,
) -> tuple[Tensor, Any]:
    """Solve until an event, with the gradient that the moving time of the event gives.

    Args:
        func: as `odeint`.
        y0: as `odeint`.
        t0: the start, a tensor with one number.
        event_fn: as `odeint`.
        reverse_time: look for the event before t0.
        odeint_interface: `odeint`, `odeint_adjoint`, or a function called as they are.
        **kwargs: for odeint_interface.

    Returns:
        The time of the event, and the states at t0 and there. Both are differentiable in y0, t0, and what func and
        event_fn depend on: up to the third derivative through `odeint`, once through others.

    Raises:
        ValueError: as `odeint`.
        RuntimeError: on the way back, where more than the first derivative is asked of others than `odeint`.
        OdeintError: as `odeint`.
    """
    start = t0.reshape(-1)
    t = torch.cat([start, start.detach() + (-1.0 if reverse_time else 1.0)])
    event_t, solution = odeint_interface(func, y0, t, event_fn=event_fn, **kwargs)
    layout = Layout.of(y0)
    ends = solution[-1] if layout.single else tuple(part[-1] for part in solution)
    end, time = layout.flatten(ends), event_t.detach()
    if not torch.is_grad_enabled():
        return event_t, solution
    field, crossing = FlatField(func, layout), crossing_of(event_fn, layout, t[0], y0)
    clock = time.to(end.dtype.to_real())
    here = crossing(clock, end)
    if not here.requires_grad:
        return time, solution
    if odeint_interface is odeint:
        shift = meets(field, crossing, clock, end)
        after = carried(field, clock, end, shift)
    else:
        # Others may be differentiated once, and give no gradient to parameters that they were not given.
        velocity, slope = _slope(field, crossing, clock, end.detach())
        # One Newton step with its slope held fixed moves nothing, and has the implicit function's derivative.
        shift = -(here - here.detach()) / slope
        after, shift = first_only("odeint_event", end + velocity * shift, shift)
    moved = layout.restore(after)
    if layout.single:
        return time + shift.to(time.dtype), torch.cat([solution[:-1], moved[None]])
    return time + shift.to(time.dtype), tuple(
        torch.cat([part[:-1], last[None]]) for part, last in zip(solution, moved, strict=True)
    )


def _slope(field: FlatField, crossing: Function, clock: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """The velocity at an event, and how fast the flow crosses zero there."""
    point, moment = end.requires_grad_(True), clock.clone().requires_grad_(True)
    with torch.no_grad():
        velocity = field(clock, end)
    by_time, by_state = torch.autograd.grad(crossing(moment, point), (moment, point), allow_unused=True)
    slope = torch.zeros_like(clock) if by_time is None else by_time
    if by_state is not None:
        slope = slope + (by_state.conj() * velocity).real.sum()
    return velocity, slope


def odeint_dense(func: Function, y0: Tensor, t0: Tensor, t1: Tensor, **kwargs: Any) -> Function:
    """The solution from t0 to t1 as a function of time: torchdiffeq's own, with its arguments."""
    import torchdiffeq

    found: Function = torchdiffeq.odeint_dense(func, y0, t0, t1, **kwargs)
    return found
