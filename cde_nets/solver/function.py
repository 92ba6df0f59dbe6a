"""A user's function or module as a function of packed states, with everything it depends on laid open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cde_nets.solver.states import Packing


class PackedFunction:
    """function(*lead, state, *args) as a map of packed states, shape (rows, numbers) to the same.

    Args:
        function: a function or module.
        args: passed on after the state.
        packing: of the state.
        what: how error messages call the value.
        plus_identity: the map is state + function(state).

    Attributes:
        leaves: the parameters of a module that train and the floating tensors among args: what gets gradients besides
            the state.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        packing: Packing,
        what: str,
        *,
        plus_identity: bool = False,
    ) -> None:
        self.function, self.args, self.packing, self.what = function, tuple(args), packing, what
        self.plus_identity = plus_identity
        self._parameters = (
            {name: p for name, p in function.named_parameters() if p.requires_grad}
            if isinstance(function, nn.Module)
            else {}
        )
        self._tensors = [k for k, value in enumerate(self.args) if _differentiable(value)]
        self.leaves: tuple[Tensor, ...] = (
            *self._parameters.values(),
            *(self.args[k] for k in self._tensors),
        )
        self._own = True

    def on(self, leaves: Sequence[Tensor]) -> PackedFunction:
        """The same with other tensors in the place of its leaves."""
        other = PackedFunction(self.function, self.args, self.packing, self.what, plus_identity=self.plus_identity)
        other.leaves, other._own = tuple(leaves), False
        return other

    def __call__(self, x: Tensor, *lead: Any) -> Tensor:
        """The packed value.

        Raises:
            ValueError: the function returned another shape, dtype or device than the state's.
        """
        return self._evaluate(x, lead, None if self._own else self.leaves)

    def linearize(self, x: Tensor, *lead: Any) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, ...]]]:
        """The value at x, and w -> the cotangents of the state and of every leaf."""
        found = torch.func.vjp(lambda y, *leaves: self._evaluate(y, lead, leaves), x, *self.leaves)
        return found[0], found[1]

    def pullback(self, x: Tensor, w: Tensor, *lead: Any) -> tuple[Tensor, ...]:
        """The cotangents of the state and of every leaf, given w, that of the value."""
        return self.linearize(x, *lead)[1](w)

    def transposed(self, x: Tensor, *lead: Any) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The value at x, and w -> w^T D_x of it."""
        found = torch.func.vjp(lambda y: self(y, *lead), x)
        return found[0], lambda w: found[1](w)[0]

    def pushforward(self, x: Tensor, v: Tensor, *lead: Any) -> Tensor:
        """D_x v."""
        tangent: Tensor = torch.func.jvp(lambda y: self(y, *lead), (x,), (v,))[1]
        return tangent

    def _evaluate(self, x: Tensor, lead: Sequence[Any], leaves: Sequence[Tensor] | None) -> Tensor:
        value = self._function(x, lead, leaves)
        return x + value if self.plus_identity else value

    def _function(self, x: Tensor, lead: Sequence[Any], leaves: Sequence[Tensor] | None) -> Tensor:
        state = self.packing.unpack(x)
        if leaves is None:
            return self.packing.pack(self.function(*lead, state, *self.args), self.what)
        own, args = len(self._parameters), list(self.args)
        for k, value in zip(self._tensors, leaves[own:], strict=True):
            args[k] = value
        if not isinstance(self.function, nn.Module):
            return self.packing.pack(self.function(*lead, state, *args), self.what)
        parameters = dict(zip(self._parameters, leaves[:own], strict=True))
        return self.packing.pack(
            torch.func.functional_call(self.function, parameters, (*lead, state, *args)), self.what
        )


def _differentiable(value: Any) -> bool:
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())
