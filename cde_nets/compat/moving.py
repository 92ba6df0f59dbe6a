"""Times that move: what their derivatives are, where the states at them are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def carried(field: Callable[[Tensor, Tensor], Tensor], t: Tensor, y: Tensor, width: Tensor) -> Tensor:
    """The state y at t, width later: a step of the classical Runge-Kutta method.

    Of a width that is 0 and moves it changes no value, and has the derivatives of the flow up to the fourth in width,
    and all in y and what the field depends on.

    Args:
        field: f(t, y).
        t: without axes.
        y: shape (numbers,).
        width: without axes.
    """
    half, middle = width / 2, t + width / 2
    k1 = field(t, y)
    k2 = field(middle, y + half * k1)
    k3 = field(middle, y + half * k2)
    k4 = field(t + width, y + width * k3)
    return y + width / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def meets(
    field: Callable[[Tensor, Tensor], Tensor], crossing: Callable[[Tensor, Tensor], Tensor], t: Tensor, y: Tensor
) -> Tensor:
    """How much later than t the flow from y crosses zero: 0, with its derivatives, exact up to the third.

    Two of Newton's steps from the solution, with a slope that is differentiated too.
    """
    width = torch.zeros_like(t).requires_grad_()
    for _ in range(2):
        here = crossing(t + width, carried(field, t, y, width))
        (slope,) = torch.autograd.grad(here, width, create_graph=True)
        width = width - (here - here.detach()) / slope
    return width


class FirstOnly(torch.autograd.Function):
    """Tensors that may be differentiated once: what they are made of is right no further."""

    @staticmethod
    def forward(ctx: Any, name: str, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The tensors; name: whose they are."""
        ctx.name = name
        return tuple(tensor.clone() for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        """The cotangents.

        Raises:
            RuntimeError: a graph of them is wanted.
        """
        if torch.is_grad_enabled():
            raise RuntimeError(
                f"{ctx.name} gives first derivatives only where times move; create_graph=True asks for more. Take "
                + ("odeint." if ctx.name == "odeint_adjoint" else "odeint itself as odeint_interface.")
            )
        return None, *cotangents


def first_only(name: str, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The same tensors, refused where they are differentiated twice."""
    found: tuple[Tensor, ...] = FirstOnly.apply(name, *tensors)  # type: ignore[no-untyped-call]
    return found
