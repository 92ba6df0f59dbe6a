"""States of any form as one flat tensor, and functions of them as the solver wants them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cde_nets.gradient.declared import undeclared
from cde_nets.solver.dynamics import Adjoint, Dynamics, Moment

Function = Callable[..., Any]


@dataclass(frozen=True)
class Layout:
    """How a state stands as one flat tensor, shape (numbers,)."""

    single: bool
    shapes: tuple[torch.Size, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, y0: Any) -> Layout:
        """Of an initial state; the parts of a tuple are promoted to one dtype.

        Raises:
            ValueError: neither tensor nor tuple of tensors.
            TypeError: whole numbers.
        """
        single = isinstance(y0, Tensor)
        parts = (y0,) if single else y0
        if not isinstance(parts, tuple) or not parts or not all(isinstance(part, Tensor) for part in parts):
            raise ValueError(f"y0 must be a tensor or a tuple of tensors; got a {type(y0).__name__}.")
        dtype = parts[0].dtype
        for part in parts[1:]:
            dtype = torch.promote_types(dtype, part.dtype)
        if not (dtype.is_floating_point or dtype.is_complex):
            raise TypeError(f"y0 must be of floating point or complex numbers; got {dtype}: y0.double() is.")
        return cls(single, tuple(part.shape for part in parts), dtype)

    @property
    def sizes(self) -> list[int]:
        """How many numbers each part has."""
        return [shape.numel() for shape in self.shapes]

    def flatten(self, state: Any) -> Tensor:
        """The flat tensor of a state, or of what func returned for it.

        Raises:
            ValueError: it does not fit.
        """
        if self.single and isinstance(state, Tensor) and state.dtype == self.dtype and state.shape == self.shapes[0]:
            return state.reshape(-1)
        parts = (state,) if self.single else tuple(state)
        if len(parts) != len(self.shapes) or not all(isinstance(part, Tensor) for part in parts):
            raise ValueError(f"func must return a state as y0, {self._words}; got a {type(state).__name__}.")
        flat = []
        for part, shape in zip(parts, self.shapes, strict=True):
            if part.is_complex() and not self.dtype.is_complex:
                raise ValueError(f"func returned {part.dtype} for a state of {self.dtype}; make y0 complex.")
            if part.shape != shape and part.numel() != shape.numel():
                part = self._broadcast(part, shape)
            flat.append(part.to(self.dtype).reshape(-1))
        return flat[0] if self.single else torch.cat(flat)

    def restore(self, flat: Tensor) -> Any:
        """The state of (.., numbers), the axes before kept in front."""
        if self.single:
            return flat.reshape((*flat.shape[:-1], *self.shapes[0]))
        parts = flat.split(self.sizes, -1)
        return tuple(part.reshape((*flat.shape[:-1], *s)) for part, s in zip(parts, self.shapes, strict=True))

    def _broadcast(self, part: Tensor, shape: torch.Size) -> Tensor:
        try:
            return part.expand(shape)
        except RuntimeError:
            raise ValueError(f"func must return a state as y0, {self._words}; got shape {tuple(part.shape)}.") from None

    @property
    def _words(self) -> str:
        shapes = ", ".join(str(tuple(shape)) for shape in self.shapes)
        return f"of shape {shapes}" if self.single else f"a tuple of shapes {shapes}"


class FlatField:
    """func as a function of flat states."""

    def __init__(self, func: Function, layout: Layout) -> None:
        self._func, self._layout = func, layout

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        """Shape (numbers,)."""
        return self._layout.flatten(self._func(t, self._layout.restore(y)))


class Closed(Dynamics):
    """A function of flat states that holds what it depends on, transposed by plain autograd.

    Users' functions may call autograd themselves, which torch.func would not allow.
    """

    def __init__(
        self, field: FlatField, dtype: torch.dtype, leaves: tuple[Tensor, ...], jumps: Tensor, *, complete: bool
    ) -> None:
        self._field, self._dtype, self.leaves, self._jumps = field, dtype, leaves, jumps
        self._complete = complete
        self._times: Tensor | None = None

    def velocity(self, x: Tensor, at: Moment) -> Tensor:
        """Of the one row that there is."""
        return self._field(self._time(at), x[0])[None]

    def adjoint(self) -> Adjoint:
        """By plain autograd."""
        return _ClosedAdjoint(self)

    def on(self, leaves: Sequence[Tensor]) -> Dynamics:
        """The function holds its own tensors."""
        return self

    def bind(self, mesh: Sequence[float], nodes: Sequence[float]) -> Dynamics:
        """With the times of all stages on the device at once."""
        ends = torch.tensor(mesh, dtype=torch.float64, device="cpu")[:, None]
        c = torch.tensor(nodes, dtype=torch.float64, device="cpu")
        bound = Closed(self._field, self._dtype, self.leaves, self._jumps, complete=self._complete)
        bound._times = ((1 - c) * ends[:-1] + c * ends[1:]).to(self._jumps)
        return bound

    def pull(self, x: Tensor, at: Moment, w: Tensor) -> tuple[Tensor | None, ...]:
        """The cotangents of the state and of the leaves, None where there is none.

        Raises:
            RuntimeError: func depends here on tensors that would get no gradient.
        """
        with torch.enable_grad():
            y = x.detach().requires_grad_(True)
            value = self.velocity(y, at)
        inputs = (y, *self.leaves)
        if self._complete and undeclared(value, inputs):
            raise RuntimeError(
                "odeint: at some times func depends on tensors that are not its parameters, and that it does not use "
                "at the first time. Register them as its parameters, or pass lambda t, y: func(t, y) as func."
            )
        if not value.requires_grad:
            return (None,) * len(inputs)
        return torch.autograd.grad(value, inputs, w, allow_unused=True)

    def _time(self, at: Moment) -> Tensor:
        if at.time is None:
            assert self._times is not None
            return self._times[at.n, at.j]
        time = at.time.reshape(()).to(self._jumps)
        if not self._jumps.numel():
            return time
        assert at.inside is not None
        # Next to a jump, on the step's side.
        inside = at.inside.reshape(()).to(self._jumps)
        near = (self._jumps - time).abs() <= 4 * torch.finfo(time.dtype).eps * self._jumps.abs()
        edge = torch.nextafter(self._jumps, inside)
        return torch.where(near.any(), edge[near.to(torch.uint8).argmax()], time)


class _ClosedAdjoint(Adjoint):
    def __init__(self, dynamics: Closed) -> None:
        self._dynamics = dynamics
        self._sums: tuple[Tensor | None, ...] = (None,) * len(dynamics.leaves)

    def pull(self, x: Tensor, at: Moment, w: Tensor) -> Tensor:
        state, *parts = self._dynamics.pull(x, at, w)
        self._sums = tuple(
            total if part is None else part if total is None else total + part
            for total, part in zip(self._sums, parts, strict=True)
        )
        return torch.zeros_like(x) if state is None else state

    def gradients(self) -> tuple[Tensor | None, ...]:
        return self._sums


def parameters_of(func: nn.Module | Function) -> list[Tensor]:
    """A module's parameters, those of a copy that DataParallel made included."""
    assert isinstance(func, nn.Module)
    if not getattr(func, "_is_replica", False):
        return list(func.parameters())
    # The copies that DataParallel makes hold plain tensors.
    held = [value for module in func.modules() for value in vars(module).values()]
    return [value for value in held if isinstance(value, Tensor) and value.requires_grad]


def crossing_of(event_fn: Function, layout: Layout, t0: Tensor, y0: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """The event as a function of flat states, above zero at the start: the least of its numbers, signs turned."""
    with torch.no_grad():
        signs = torch.sign(event_fn(t0, y0))

    def crossing(t: Tensor, y: Tensor) -> Tensor:
        found: Tensor = (event_fn(t, layout.restore(y)) * signs).min()
        return found

    return crossing
