"""Flows: dX/dt = f(t, X) from X(t0) = x0 to t1."""

from __future__ import annotations

import math
import sys
from bisect import bisect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cde_nets.controls import Control
from cde_nets.fields.base import Fields
from cde_nets.options import double
from cde_nets.remembered import remembered
from cde_nets.solver.dynamics import Called, Controlled, Dynamics, Sum, WithLogDeterminant
from cde_nets.solver.flow.events import Event
from cde_nets.solver.flow.manifold import Manifold
from cde_nets.solver.flow.manifold import manifold as manifold_named
from cde_nets.solver.function import arguments
from cde_nets.solver.states import Packing, real


class InitialValueProblem:
    """dX/dt = f(t, X, *args), X(t0) = x0, on [t0, t1]; t1 < t0 runs backward in time.

    The first axis of a state counts its rows, each solved by itself; a state with one axis or none is a single row.
    The time is a tensor without axes where all rows are at the same one (a fixed grid, a single row, joint steps).
    Where every row takes steps of its own it has one number a row, shaped so that it broadcasts against the state.

    Args:
        field: f, a function or a module. The parameters of a module and tensors in args get gradients; what a function
            merely closes over is refused when a gradient is wanted, instead of losing it.
        x0: initial state: a tensor of any shape, or tuples and dicts of tensors.
        t0: where time starts.
        t1: where it ends.
        args: passed on to f after the state.
        coupled: the rows see each other (a graph, batch normalisation): the state is one row, with one status.
        breakpoints: times where f is not smooth. Steps end on them; f is never evaluated exactly at one, but next to
            it, on the step's side.
        manifold: what every step's end is put back on: "sphere", or an object as `cde_nets.solver.Manifold`.
        event: stop a row where a function of (t, x) crosses zero; an `Event` or the function.

    Raises:
        ValueError: times that are equal or not finite, a state that
            is no tensor or not floating, an unknown manifold.
    """

    kind = "flow"
    event: Event | None

    def __init__(
        self,
        field: Callable[..., Any],
        x0: Any,
        t0: float = 0.0,
        t1: float = 1.0,
        *,
        args: Sequence[Any] = (),
        coupled: bool = False,
        breakpoints: Sequence[float] = (),
        manifold: str | Manifold | None = None,
        event: Event | Callable[..., Tensor] | None = None,
    ) -> None:
        if not callable(field):
            raise ValueError(f"field must be a function or module f(t, x); got a {type(field).__name__}.")
        packing, breakpoints = Packing(x0, coupled=coupled), _times(breakpoints)
        called = Called(field, arguments(args), packing, breakpoints)
        self._set(called, packing, x0, t0, t1, breakpoints, bool(breakpoints), manifold)
        self.event = event if event is None or isinstance(event, Event) else Event(event)

    @classmethod
    def controlled(
        cls,
        fields: Fields | Sequence[Fields],
        control: Control,
        x0: Tensor,
        t0: float | None = None,
        t1: float | None = None,
        *,
        drift: Fields | Callable[..., Tensor] | None = None,
        manifold: str | Manifold | None = None,
        event: Event | Callable[..., Tensor] | None = None,
    ) -> InitialValueProblem:
        """DX = sum_i u_i(t) V_i(X) dt (+ drift(t, X) dt), over the control's span where no times are given.

        Args:
            fields: a family, or one for each interval of the control (fresh fields, fixed grids only).
            control: u; steps end on its breakpoints without being asked.
            x0: initial states, shape (batch, dim).
            t0: start; the control's where None.
            t1: end; the control's where None.
            drift: a field nobody controls: a family whose fields are summed, or any f(t, x).
            manifold: as the class.
            event: as the class.

        Raises:
            ValueError: as the class, or a control that does not fit the fields or the rows.
        """
        families = [fields] if isinstance(fields, Fields) else list(fields)
        check_families(families, control)
        packing = Packing(x0)
        check_state(x0, families[0], control)
        dynamics: Dynamics = Controlled(families, control)
        if isinstance(drift, Fields):
            check_drift(drift, families[0])
            dynamics = Sum([dynamics, Called(_Drift(drift), (), packing)])
        elif drift is not None:
            dynamics = Sum([dynamics, Called(drift, (), packing)])
        start, end = control.span
        made = cls.__new__(cls)
        made._set(
            dynamics,
            packing,
            x0,
            start if t0 is None else t0,
            end if t1 is None else t1,
            control.breakpoints,
            control.jumps or len(families) > 1,
            manifold,
        )
        made.event = event if event is None or isinstance(event, Event) else Event(event)
        made.intervals = len(control.breakpoints) + 1
        made.fresh = len(families) > 1
        return made

    def with_log_determinant(self) -> InitialValueProblem:
        """The same flow with the logarithm of |det D X| beside every row: its state is the pair (X, log-determinant).

        The divergence is exact: in closed form for our fields, the trace of the Jacobian for other functions (which
        costs a product for every number of the state). With it the density of X_1 is log p(X_1) = log p(x) - log|det|.

        Raises:
            ValueError: a state that is no single real tensor, a manifold (the volume on it is another one) or an event.
        """
        if not isinstance(self.x0, Tensor) or self.x0.is_complex():
            raise ValueError("A log-determinant needs a state that is one real tensor; stack or flatten it into one.")
        for name, value in (("manifold", self.manifold), ("event", self.event)):
            if value is not None:
                raise ValueError(f"The log-determinant of a flow with a {name} is not offered: its volume is another.")
        made = InitialValueProblem.__new__(InitialValueProblem)
        made.__dict__.update(self.__dict__)
        made.dynamics = WithLogDeterminant(self.dynamics)
        single = self.packing.single
        made.x0 = (self.x0, self.x0.new_zeros(() if single else self.x0.shape[:1]))
        made.packing = Packing(made.x0, coupled=single)
        return made

    @classmethod
    def of_dynamics(
        cls,
        dynamics: Dynamics,
        x0: Tensor,
        t0: float,
        t1: float,
        *,
        breakpoints: Sequence[float] = (),
        jumps: bool = False,
        single: bool = False,
    ) -> InitialValueProblem:
        """A flow of packed states, as adjoints are: shape (rows, numbers), or one row that steps as one state does."""
        made = cls.__new__(cls)
        made._set(dynamics, Packing(x0, coupled=single), x0, t0, t1, breakpoints, jumps, None)
        made.event = None
        return made

    def _set(
        self,
        dynamics: Dynamics,
        packing: Packing,
        x0: Any,
        t0: float,
        t1: float,
        breakpoints: Sequence[float],
        jumps: bool,
        manifold: str | Manifold | None,
    ) -> None:
        for name, time in (("t0", t0), ("t1", t1)):
            if isinstance(time, Tensor) and time.requires_grad:
                raise ValueError(
                    f"{name} wants a gradient, which times do not get here: pass float({name}), make time a factor of "
                    "the field, or take cde_nets.compat.torchdiffeq.odeint, where times do."
                )
            if isinstance(time, Tensor) and time.numel() != 1:
                raise ValueError(
                    f"{name} must be one time; got {time.numel()} of them. Between t0 and t1 states are saved by "
                    "solve(.., save_at=times)."
                )
        self.t0, self.t1 = double(t0), double(t1)
        if not (math.isfinite(self.t0) and math.isfinite(self.t1)) or self.t0 == self.t1:
            raise ValueError(f"A flow needs two different finite times; got t0={t0!r} and t1={t1!r}.")
        self.dynamics, self.packing, self.x0 = dynamics, packing, x0
        self.breakpoints = _between(tuple(breakpoints), self.t0, self.t1)
        self.jumps = jumps
        self.manifold = manifold_named(manifold) if isinstance(manifold, str) or manifold is None else manifold
        self.intervals: int | None = None
        self.fresh = False

    @property
    def rows(self) -> int:
        """How many rows are solved by themselves."""
        return self.packing.rows

    def packed(self) -> Tensor:
        """The initial state as (rows, numbers)."""
        return self.packing.pack(self.x0)


@remembered
def _between(breakpoints: tuple[Any, ...], t0: float, t1: float) -> tuple[float, ...]:
    """Breakpoints inside the flow's times, in the order in which it passes them."""
    low, high = sorted((t0, t1))
    # Next to an end there is no time between, and nothing to step over.
    margin = 16 * sys.float_info.epsilon * max(abs(low), abs(high), high - low)
    return tuple(sorted({t for t in _times(breakpoints) if low + margin < t < high - margin}, reverse=t1 < t0))


def _times(breakpoints: Any) -> list[float]:
    try:
        times = [float(t) for t in breakpoints]
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"breakpoints must be a sequence of times, such as (0.5,); got {breakpoints!r}.") from None
    if any(math.isnan(t) for t in times):
        raise ValueError(f"breakpoints must be times; got {times!r}.")
    return times


class _Drift:
    """A family summed with all controls one, as a function of (t, x)."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        fields = self._fields
        ones = x.new_ones(fields.count, dtype=real(fields.dtype))
        return fields.velocity(x.to(fields.dtype), ones).to(x.dtype)


def family_at(breakpoints: Sequence[float], t: float) -> int:
    """The interval of the control that t lies in."""
    return bisect(sorted(breakpoints), t)


def check_families(families: Sequence[Fields], control: Control) -> None:
    """Refuse families and controls that do not fit each other (ValueError)."""
    if not isinstance(control, Control):
        raise ValueError(
            f"control must be a Control, such as PiecewiseConstantControl(steps, count); got a "
            f"{type(control).__name__}. The order is (fields, control)."
        )
    for family in families:
        if not isinstance(family, Fields):
            raise ValueError(f"fields must be a family or a sequence of families; got a {type(family).__name__}.")
        if family.count != control.count:
            raise ValueError(
                f"The control has {control.count} components and {type(family).__name__} has {family.count} fields; "
                f"make the control with count={family.count}."
            )
        if family.dim != families[0].dim:
            raise ValueError(f"The families live on R^{families[0].dim} and R^{family.dim}; all must share one space.")
    intervals = len(control.breakpoints) + 1
    if len(families) not in (1, intervals):
        raise ValueError(
            f"{len(families)} families for a control of {intervals} intervals: give one family (tied) or "
            f"{intervals} (fresh at every interval)."
        )


def check_drift(drift: Any, fields: Fields) -> None:
    """Refuse a drift family of another dimension (ValueError)."""
    if drift.dim != fields.dim:
        raise ValueError(f"The drift lives on R^{drift.dim} and the fields on R^{fields.dim}.")


def check_state(x: Any, fields: Fields, control: Control) -> None:
    """Refuse an initial state that fits neither the fields nor the control (ValueError)."""
    if not isinstance(x, Tensor) or x.ndim != 2 or x.shape[1] != fields.dim:
        got = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise ValueError(
            f"{type(fields).__name__} expects x of shape (batch, {fields.dim}); got {got}. One point is "
            "a batch of one: x[None]; images are flattened by the fields' own flatten()."
        )
    if x.is_complex() != fields.dtype.is_complex:
        raise ValueError(
            f"The fields have {fields.dtype} coefficients; x is {x.dtype}. Complex states need complex fields, and "
            "real ones real fields: cast one of them."
        )
    if torch.finfo(fields.dtype).eps < torch.finfo(x.dtype).eps:
        raise ValueError(
            f"{type(fields).__name__} has {fields.dtype} coefficients; x is {x.dtype}, which holds less. Cast one of "
            f"them: fields.to({x.dtype}) or x.to({fields.dtype}). Coefficients may be narrower than the state."
        )
    if x.device != fields.device:
        raise ValueError(
            f"{type(fields).__name__} is on {fields.device}; x is on {x.device}. Move one of them: "
            f"fields.to('{x.device}') or x.to('{fields.device}')."
        )
    if control.rows is not None and control.rows != x.shape[0]:
        raise ValueError(f"The control has one path for each of {control.rows} rows; x has {x.shape[0]} rows.")
