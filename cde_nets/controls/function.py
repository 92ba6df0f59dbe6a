"""u(t) as a function of one's own: a formula, or a small network of the time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import chain, pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cde_nets.controls import arguments
from cde_nets.controls.base import Control


class CallableControl(Control):
    """u(t) = function(t).

    The function gets times of any shape and returns u of shape (*times.shape, count). A module is registered: its
    parameters train, and it gets the times in their dtype. Any other function gets the times as they come, float64
    from a solver; what it returns is cast to the control's dtype, torch's default one until `.to(dtype)` says
    otherwise. On a breakpoint the function is asked a rounding error to the side that is wanted, so that it may say
    there what it likes, and beyond the breakpoints of a piece it is never asked for that piece's values.

    Args:
        function: times of shape (...) to values of shape (..., count).
        count: d.
        breakpoints: where the function is not smooth, rising, inside the span; it may jump there. One that is not
            named costs a solver its order.
        span: where the function is defined.
        leaves: tensors that a plain function closes over and that need a gradient. A module's parameters need not be
            named.

    Raises:
        ValueError: a function that cannot be called, count below 1, breakpoints or a span that are not finite, not
            rising or not inside each other, leaves that are no floating tensors.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        count: int,
        *,
        breakpoints: Sequence[float] = (),
        span: tuple[float, float] = (0.0, 1.0),
        leaves: Sequence[Tensor] = (),
    ) -> None:
        super().__init__()
        arguments.counts(count=count)
        if not callable(function) or isinstance(function, type):
            raise ValueError(
                f"function must map times of shape (...) to values of shape (..., {count}); got {function!r}."
            )
        for leaf in leaves:
            if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
                raise ValueError(f"leaves must be floating point tensors; got a {type(leaf).__name__}: {leaf!r}.")
        self.function, self.count, self._leaves = function, count, tuple(leaves)
        self.span = _span(span)
        self._breakpoints = _breakpoints(breakpoints, self.span)
        # Empty: it tells where the control was moved and what it was cast to, if nothing else can.
        self.register_buffer("_place", torch.empty(0), persistent=False)

    @property
    def breakpoints(self) -> tuple[float, ...]:
        """The breakpoints that were named."""
        return self._breakpoints

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """The parameters of a module, and the leaves that were named."""
        return (*self.parameters(), *self._leaves)

    def at(
        self, times: Float[Tensor, "*times"], inside: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, "*times {self.count}"]:
        """What the function returns; see `Control.at`.

        Raises:
            ValueError: a value of another shape or kind, or one that needs a gradient which no leaf would get.
        """
        times, moments = self._moments(times, inside)
        if isinstance(self.function, nn.Module):
            own = chain(self.function.parameters(), self.function.buffers())
            times = times.to(next((t.dtype for t in own if t.is_floating_point()), times.dtype))
        # Twice the spacing of numbers, so that rounding to the dtype cannot bring the breakpoint back.
        spacing, least = 2 * torch.finfo(times.dtype).eps, torch.finfo(times.dtype).tiny
        for t in self._breakpoints:
            gap = max(abs(t) * spacing, least)
            times = torch.where(moments >= t, times.clamp(min=t + gap), times.clamp(max=t - gap))
        values = self.function(times)
        self._check_values(values, times)
        return values.to(self.dtype)

    def _check_values(self, values: Tensor, times: Tensor) -> None:
        wanted = (*times.shape, self.count)
        if not isinstance(values, Tensor) or tuple(values.shape) != wanted or not values.is_floating_point():
            got = f"{values.dtype} of shape {tuple(values.shape)}" if isinstance(values, Tensor) else repr(values)
            raise ValueError(
                f"The function of a CallableControl must return a floating point tensor of shape {wanted} for times "
                f"of shape {tuple(times.shape)}; got {got}. The {self.count} components go last: "
                "torch.stack([u_1, u_2], -1), or network(times[..., None])."
            )
        if values.requires_grad and not any(t.requires_grad for t in (times, *self.leaves)):
            raise ValueError(
                "The function of a CallableControl uses tensors that require a gradient and that the control does not "
                "know of, so that they would get none: make it an nn.Module with these as parameters, or name them in "
                "leaves=(..)."
            )

    def extra_repr(self) -> str:
        """Shown by print(control)."""
        name = "" if isinstance(self.function, nn.Module) else f"{getattr(self.function, '__name__', self.function)}, "
        return f"{name}count={self.count}, span={self.span}, breakpoints={self.breakpoints}"


def _span(span: tuple[float, float]) -> tuple[float, float]:
    try:
        start, end = (float(t) for t in span)
    except (TypeError, ValueError):
        start = end = math.nan
    if not -math.inf < start < end < math.inf:
        raise ValueError(f"span must be two finite times (start, end) with start < end; got {span!r}.")
    return start, end


def _breakpoints(times: Sequence[float], span: tuple[float, float]) -> tuple[float, ...]:
    try:
        found = tuple(float(t) for t in times)
    except (TypeError, ValueError):
        raise ValueError(f"breakpoints must be a sequence of times; got {times!r}.") from None
    # Not all(a < b) is how NaN is caught as well.
    if not all(a < b for a, b in pairwise((span[0], *found, span[1]))):
        raise ValueError(
            f"breakpoints must rise strictly and lie strictly inside the span {span}; got {found}. "
            "sorted(set(..)) puts them in order."
        )
    return found
