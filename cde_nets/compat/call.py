"""One call of torchdiffeq's interface: its arguments checked, and answered."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from cde_nets.compat.flat import Closed, FlatField, Function, Layout, crossing_of, parameters_of
from cde_nets.compat.moving import carried, first_only
from cde_nets.errors import DivergedError, SolveError
from cde_nets.gradient import Autograd, Backsolve, Discrete, Gradient, solve
from cde_nets.gradient.declared import Randomness, undeclared
from cde_nets.options import suggest
from cde_nets.solver import Event, InitialValueProblem, RungeKutta, Solution, Status, Tolerance
from cde_nets.solver.flow.torchdiffeq import adapts, check_method, check_options
from cde_nets.solver.opaque import listed, opaque

_OURS = {
    "euler": "euler",
    "midpoint": "midpoint",
    "heun2": "heun",
    "heun3": "heun3",
    "rk4": "rk38",
    "bosh3": "bosh3",
    "dopri5": "dopri5",
    "adaptive_heun": "heun",
}
_CALLBACKS = ("callback_step", "callback_accept_step", "callback_reject_step")
_UNLIMITED = 2**31 - 1


class OdeintError(DivergedError, AssertionError):
    """An adaptive solve that could not be followed to its end."""


@dataclass(frozen=True)
class _WidthRule:
    """The library's rule: h <- h min(ifactor, max(safety error^(-1/k), dfactor)), no less than h after a success."""

    safety: float
    ifactor: float
    dfactor: float

    def factor(self, error: Tensor, previous: Tensor, order: int) -> Tensor:
        least = torch.where(error < 1, 1.0, self.dfactor)
        factor = torch.maximum(self.safety * error ** (-1 / order), least).clamp(max=self.ifactor)
        return torch.where(torch.isfinite(error), factor, self.dfactor)


@dataclass(frozen=True)
class Call:
    """The arguments of a solve, checked.

    Attributes:
        given: func, y0, t, rtol and atol, as they were given.
        name: of the method.
        options: its options.
        layout: of the state.
        tolerance: for the flat state.
        t: the output times.
    """

    given: tuple[Any, ...]
    name: str
    options: dict[str, Any]
    layout: Layout
    tolerance: Tolerance
    t: Tensor

    @classmethod
    def of(
        cls,
        func: Function,
        y0: Any,
        t: Tensor,
        rtol: Any,
        atol: Any,
        method: str | None,
        options: Mapping[str, Any] | None,
        *,
        whole: bool = False,
    ) -> Call:
        """Check all; whole: the tolerance is one number for all of the state."""
        name = "dopri5" if method is None else method
        check_method(name)
        given = {} if options is None else dict(options)
        # Fixed steps know no norm, but are given one by those who change methods.
        check_options(name, {key: value for key, value in given.items() if key != "norm"})
        layout = Layout.of(y0)
        _check_times(t)
        tolerance = Tolerance(
            *(_flat_tolerance(*each, layout, whole=whole) for each in (("rtol", rtol), ("atol", atol)))
        )
        if name in _OURS and not adapts(name):
            _check_fixed(given)
        return cls((func, y0, t, rtol, atol), name, given, layout, tolerance, t)

    @property
    def func(self) -> Function:
        """As it was given."""
        found: Function = self.given[0]
        return found

    @property
    def y0(self) -> Any:
        """As it was given."""
        return self.given[1]

    @property
    def adaptive(self) -> bool:
        """Whether the steps adapt."""
        return adapts(self.name)

    @property
    def stops(self) -> tuple[float, ...]:
        """The times on which steps are to end."""
        return (*self.times_of("step_t"), *self.times_of("jump_t"))

    def times_of(self, option: str) -> tuple[float, ...]:
        """An option that is a tensor of times."""
        value = self.options.get(option)
        return () if value is None else tuple(_numbers(value).reshape(-1).tolist())

    def is_the_librarys(self, event_fn: Function | None, *, adjoint: bool = False) -> bool:
        """Whether it is left to torchdiffeq; see the module's text."""
        names = [*_CALLBACKS, *(f"{name}_adjoint" for name in _CALLBACKS if adjoint)]
        if self.name not in _OURS or any(hasattr(self.func, name) for name in names):
            return True
        options = self.options
        if not self.adaptive:
            return bool(options.get("perturb", False)) or event_fn is not None
        return (
            "norm" in options
            or options.get("dtype", torch.float64) != torch.float64
            or options.get("min_step", 0) != 0
            or options.get("max_step", math.inf) != math.inf
        )

    def by_library(self, event_fn: Function | None, **adjoint: Any) -> Any:
        """The library's own answer."""
        import torchdiffeq

        func, y0, t, rtol, atol = self.given
        solver = torchdiffeq.odeint_adjoint if adjoint else torchdiffeq.odeint
        return solver(
            func,
            y0,
            t,
            rtol=rtol,
            atol=atol,
            method=self.name,
            options=self.options or None,
            event_fn=event_fn,
            **adjoint,
        )

    def answer(self, event_fn: Function | None, gradient: Gradient, leaves: tuple[Tensor, ...]) -> Any:
        """What `odeint` returns."""
        if event_fn is None:
            found = self.states(gradient, leaves)
            return self.by_library(None) if found is None else self.layout.restore(found)
        if self.t.shape[0] != 2:
            raise ValueError(f"With event_fn, t holds the start and one time after it; got {self.t.shape[0]} times.")
        event_t = torch.tensor(self._find(event_fn), dtype=self.t.dtype, device=self.t.device)
        found = replace(self, t=torch.cat([self.t[:1], event_t[None]])).states(
            gradient, leaves, differentiate_end=False
        )
        assert found is not None
        return event_t, self.layout.restore(found)

    def states(
        self, gradient: Gradient, leaves: tuple[Tensor, ...], *, differentiate_end: bool = True
    ) -> Tensor | None:
        """The flat states at the times, shape (times, numbers); None where fixed steps left the finite numbers."""
        flat, field, times = self.layout.flatten(self.y0), FlatField(self.func, self.layout), listed(self.t)
        if len(times) == 1:
            return flat[None]
        if times[0] == times[1]:
            return torch.stack([flat, flat])
        clock = self.t.to(device=flat.device, dtype=self.layout.dtype.to_real())
        moving = torch.is_grad_enabled() and self.t.requires_grad
        shifts = clock - clock.detach()
        x = flat
        # The continuous adjoint is differentiated once, and no parameter but those it was given gets a gradient.
        once = isinstance(gradient, Backsolve)
        if moving:
            # A later start is a start from a state further back.
            x = _later(field, clock[0], flat, -shifts[0], once=once)
        found = (self._adaptive if self.adaptive else self._fixed)(x, times, gradient, leaves)
        if found is None:
            return None
        rest = list(found[1:])
        if moving and differentiate_end:
            places = zip(clock.detach()[1:], rest, shifts[1:], strict=True)
            rest = [_later(field, at, y, shift, once=once) for at, y, shift in places]
        return torch.stack([flat, *rest])

    def method(self) -> RungeKutta:
        """The adaptive method."""
        first = self.options.get("first_step")
        rule = _WidthRule(*(float(self.options.get(k, v)) for k, v in _WIDTHS.items()))
        return RungeKutta(_OURS[self.name], first_step=None if first is None else float(first), controller=rule)

    def _problem(
        self,
        x: Tensor,
        t0: float,
        t1: float,
        leaves: tuple[Tensor, ...] = (),
        *,
        complete: bool = False,
        event: Event | None = None,
    ) -> InitialValueProblem:
        field = FlatField(self.func, self.layout)
        stops = self.stops if self.adaptive else ()
        if len(set(stops)) < len(stops):
            raise ValueError("step_t and jump_t must not hold a time twice.")
        dtype = self.layout.dtype.to_real()
        jumps = torch.tensor(self.times_of("jump_t") if self.adaptive else (), dtype=dtype, device=x.device)
        dynamics = Closed(field, dtype, leaves, jumps, complete=complete)
        problem = InitialValueProblem.of_dynamics(
            dynamics, x, t0, t1, breakpoints=stops, jumps=bool(jumps.numel()), single=True
        )
        problem.event = event
        return problem

    def _solve(
        self,
        problem: InitialValueProblem,
        method: RungeKutta,
        gradient: Gradient,
        times: Sequence[float] | None,
        max_steps: int = _UNLIMITED,
    ) -> Solution:
        try:
            return solve(
                problem,
                method,
                gradient=gradient,
                tolerance=self.tolerance,
                max_steps=max_steps,
                throw=not opaque(),
                save_at=times,
            )
        except SolveError as error:
            if error.solution is None:
                raise
            return error.solution

    def _adaptive(self, x: Tensor, times: list[float], gradient: Gradient, leaves: tuple[Tensor, ...]) -> Tensor | None:
        limit = int(self.options.get("max_num_steps", _UNLIMITED))
        problem = self._problem(x, times[0], times[-1], leaves, complete=isinstance(gradient, Discrete))
        solution = self._solve(problem, self.method(), gradient, times, min(limit * (len(times) - 1), _UNLIMITED))
        _check(solution)
        found: Tensor = solution.value
        return found

    def _fixed(self, x: Tensor, times: list[float], gradient: Gradient, leaves: tuple[Tensor, ...]) -> Tensor | None:
        grid = self._grid(x)
        sign = math.copysign(1.0, times[-1] - times[0])
        ascending = [sign * node for node in grid]
        # The grid's nodes around every time: one where the time is a node.
        right = [min(bisect_left(ascending, sign * time), len(grid) - 1) for time in times]
        around = [(k, k) if grid[k] == time else (k - 1, k) for k, time in zip(right, times, strict=True)]
        nodes = sorted({k for pair in around for k in pair})
        method = RungeKutta(_OURS[self.name], mesh=tuple(grid))
        problem = self._problem(x, times[0], times[-1], leaves, complete=isinstance(gradient, Discrete))
        solution = self._solve(problem, method, gradient, [grid[k] for k in nodes])
        if not opaque() and not bool(solution.succeeded.all()):
            return None
        at = dict(zip(nodes, solution.value, strict=True))
        return torch.stack(
            [
                at[k] if j == k else self._between(grid[j], at[j], grid[k], at[k], time)
                for (j, k), time in zip(around, times, strict=True)
            ]
        )

    def _between(self, t0: float, y0: Tensor, t1: float, y1: Tensor, time: float) -> Tensor:
        theta, h = (time - t0) / (t1 - t0), t1 - t0
        if self.options.get("interp", "linear") == "linear":
            return y0 + theta * (y1 - y0)
        field = FlatField(self.func, self.layout)
        clock = torch.tensor([t0, t1], dtype=self.layout.dtype.to_real(), device=y0.device)
        # The cubic of Hermite, about the chord.
        bend0 = h * field(clock[0], y0) - (y1 - y0)
        bend1 = h * field(clock[1], y1) - (y1 - y0)
        return y0 + theta * (y1 - y0) + theta * (1 - theta) * ((1 - theta) * bend0 - theta * bend1)

    def _grid(self, x: Tensor) -> list[float]:
        t = self.t.detach()
        step, made = self.options.get("step_size"), self.options.get("grid_constructor")
        if made is not None:
            grid = made(FlatField(self.func, self.layout), x.detach(), t).tolist()
            rises = {b > a for a, b in pairwise(grid)}
            if len(grid) < 2 or (grid[0], grid[-1]) != (float(t[0]), float(t[-1])) or len(rises) > 1:
                raise ValueError(
                    "grid_constructor must give times in order, from t[0] to t[-1]: here "
                    f"{float(t[0]):g} to {float(t[-1]):g}."
                )
            return [float(time) for time in grid]
        if step is None:
            return [float(time) for time in listed(t)]
        span, width = (t[-1] - t[0]).abs(), torch.as_tensor(step, dtype=t.dtype, device=t.device).abs()
        steps = int(torch.ceil(span / width).item())
        # In the precision of the times, as the library's grid is.
        offsets = torch.arange(steps, dtype=t.dtype, device=t.device) * width
        inner = (t[0] + torch.copysign(offsets, t[-1] - t[0]))[offsets < span]
        return [*listed(inner), float(t[-1])]

    def _find(self, event_fn: Function) -> float:
        """When the event is, to the precision of the steps' continuous extension."""
        with torch.no_grad():
            here, there = listed(self.t)
            x = self.layout.flatten(self.y0)
            clock = self.t[0].to(device=x.device, dtype=self.layout.dtype.to_real())
            crossing = crossing_of(event_fn, self.layout, clock, self.y0)
            if float(crossing(clock, x)) <= 0:
                return float(here)
            budget = int(self.options.get("max_num_steps", _UNLIMITED))
            span, event = there - here, Event(crossing, "falling")
            while budget > 0 and math.isfinite(here + span):
                problem = self._problem(x, here, here + span, event=event)
                solution = self._solve(problem, self.method(), Autograd(), None, budget)
                if int(solution.status[0]) == Status.EVENT:
                    assert solution.event_time is not None
                    return float(solution.event_time[0])
                _check(solution)
                budget -= int(solution.statistics.steps[0])
                here, span, x = here + span, 2 * span, solution.value
        raise OdeintError(f"odeint: no event before t = {here:g}; max_num_steps limits the search.")


def _later(field: FlatField, t: Tensor, y: Tensor, width: Tensor, *, once: bool) -> Tensor:
    """The state y at t a width later that is 0 and moves; once: its derivatives are taken once."""
    if not once:
        return carried(field, t, y, width)
    with torch.no_grad():
        slope = field(t, y)
    return first_only("odeint_adjoint", y + slope * width)[0]


_WIDTHS = {"safety": 0.9, "ifactor": 10.0, "dfactor": 0.2}


def differentiation(call: Call) -> tuple[Gradient, tuple[Tensor, ...]]:
    """How odeint's solution is differentiated, and in which tensors besides the state."""
    if not torch.is_grad_enabled() or not isinstance(call.func, nn.Module) or opaque():
        return Autograd(), ()
    leaves = tuple(leaf for leaf in parameters_of(call.func) if leaf.requires_grad)
    y = call.layout.flatten(call.y0).detach().requires_grad_(True)
    t = call.t.detach()[0].to(device=y.device, dtype=call.layout.dtype.to_real())
    with Randomness(y.device) as randomness:
        value = FlatField(call.func, call.layout)(t, y)
    # Numbers drawn anew on the way back would be others.
    plain = bool(undeclared(value, (y, *leaves))) or randomness.drawn
    return (Autograd(), ()) if plain else (Discrete(), leaves)


def alike(call: Call, back: Call) -> bool:
    """Whether an adjoint is one that Backsolve can take; see the module's text."""
    if call.adaptive and back.adaptive:
        return set(call.stops) == set(back.stops)
    plain = {name: value for name, value in call.options.items() if name != "norm"}
    return (
        call.name == back.name
        and plain.keys() == back.options.keys()
        and all(plain[name] is value for name, value in back.options.items())
    )


def _check(solution: Solution) -> None:
    if opaque() or bool(solution.succeeded.all()):
        return
    assert solution.time is not None
    status, steps = Status(int(solution.status[0])), int(solution.statistics.steps[0])
    why = "max_num_steps allows no more" if status == Status.MAX_STEPS else status.message
    raise OdeintError(
        f"odeint stopped at t = {float(solution.time[0]):g} after {steps} steps: {why.rstrip('.')}.", solution
    )


def _check_times(t: Any) -> None:
    if not isinstance(t, Tensor) or not t.is_floating_point():
        kind = t.dtype if isinstance(t, Tensor) else type(t).__name__
        raise TypeError(f"t must be a tensor of floating point times; got {kind}.")
    if t.ndim != 1 or not t.numel():
        raise ValueError(f"t must have one axis and at least one time; got shape {tuple(t.shape)}.")
    steps = t.detach().diff()
    if not bool((steps > 0).all() | (steps < 0).all()):
        raise ValueError(f"t must rise or fall strictly; got {t.tolist()}.")


def _check_fixed(options: Mapping[str, Any]) -> None:
    if options.get("step_size") is not None and options.get("grid_constructor") is not None:
        raise ValueError("step_size and grid_constructor say the same thing twice: give one of them.")
    interp = options.get("interp", "linear")
    if interp not in ("linear", "cubic"):
        raise ValueError(f"Unknown interp {interp!r}{suggest(interp, ('linear', 'cubic'))}")


def _flat_tolerance(name: str, value: Any, layout: Layout, *, whole: bool) -> float | Tensor:
    """For every number of the flat state, or one for all.

    The parts of a tuple are weighted so that the root mean square over all numbers is the root of the sum of the parts'
    mean squares.
    """
    parts = _parts(name, value, layout)
    real = layout.dtype.to_real()
    # The library allows zeros.
    least = torch.finfo(real).tiny
    if whole or (layout.single and all(part.ndim == 0 for part in parts)):
        return max(min(float(part.min()) for part in parts if part.numel()), least)
    numbers = sum(layout.sizes)
    flat = [
        part.to(real).expand(shape).reshape(-1) * math.sqrt(size / numbers)
        for part, shape, size in zip(parts, layout.shapes, layout.sizes, strict=True)
    ]
    return torch.cat(flat).clamp(min=least)


def _numbers(value: Any) -> Tensor:
    # What is no tensor is on no device, whatever torch's default one is.
    return torch.as_tensor(value, dtype=torch.float64, device=getattr(value, "device", "cpu")).detach()


def _parts(name: str, value: Any, layout: Layout) -> list[Tensor]:
    if layout.single or not isinstance(value, tuple | list | Tensor) or (isinstance(value, Tensor) and not value.ndim):
        return [_numbers(value)] * len(layout.shapes)
    parts = [_numbers(part) for part in value]
    if len(parts) != len(layout.shapes):
        raise ValueError(
            f"{name} has {len(parts)} parts, and y0 has {len(layout.shapes)}; give one number, or as many."
        )
    # One number for all of a part, or one for each of its numbers.
    return [part.reshape(shape) if part.ndim else part for part, shape in zip(parts, layout.shapes, strict=True)]
