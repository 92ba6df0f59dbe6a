"""A user's function or module as a function of packed states, with everything it depends on laid open."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cde_nets.solver.opaque import forward_mode, opaque
from cde_nets.solver.recorded import pushing
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
        declare: how error messages say that a tensor is given to the function, which else is by args.
        choose: the keyword by which they say that a gradient is chosen.
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
        self._parameters, self._names = _parameters_of(function)
        self._tensors = [k for k, value in enumerate(self.args) if _differentiable(value)]
        self.leaves: tuple[Tensor, ...] = (*self._parameters, *(self.args[k] for k in self._tensors))
        self._own = True
        self.declare, self.choose = "pass them in args=(..)", "gradient"

    @property
    def who(self) -> str:
        """How error messages call the function."""
        return self.what.removesuffix("'s value")

    @property
    def undeclared(self) -> str:
        """What is said where a value depends on tensors that want a gradient and that are not among the leaves."""
        return (
            f"{self.who} depends here on tensors that want a gradient, that it was not given, and that it did not "
            "depend on when that was checked: the gradient would miss them. Make it an nn.Module that holds them, "
            f"or {self.declare}."
        )

    def on(self, leaves: Sequence[Tensor]) -> PackedFunction:
        """The same with other tensors in the place of its leaves."""
        other = copy.copy(self)
        other.leaves, other._own = tuple(leaves), False
        return other

    def __call__(self, x: Tensor, *lead: Any) -> Tensor:
        """The packed value.

        Raises:
            ValueError: the function returned another shape, dtype or device than the state's.
        """
        return self._evaluate(x, lead, None if self._own else self.leaves)

    def apart(self, x: Tensor, *lead: Any) -> tuple[Tensor, list[str]]:
        """The value with all leaves detached, so that a graph it has is of x or of what is not known.

        Buffers are copies, and the module's own stay as they are.

        Returns:
            The packed value, and the names of the buffers that the function changed.
        """
        other, buffers = copy.copy(self), {}
        leaves = [leaf.detach() for leaf in self.leaves]
        if isinstance(self.function, nn.Module):
            watched = buffers = {name: b.detach().clone() for name, b in self.function.named_buffers()}
        else:
            # A function that is given a module's buffers says which of its arguments they are.
            places: Mapping[str, int] = getattr(self.function, "given_buffers", {})
            watched = {name: self.args[k].detach().clone() for name, k in places.items()}
            copies = {k: watched[name] for name, k in places.items()}
            other.args = tuple(copies.get(k, value) for k, value in enumerate(self.args))
            own = len(self._parameters)
            leaves[own:] = [copies.get(k, leaf) for k, leaf in zip(self._tensors, leaves[own:], strict=True)]
        given, versions = dict(buffers), {name: b._version for name, b in watched.items()}
        with torch.enable_grad():
            value = other._evaluate(x, lead, leaves, given)
        replaced = {name for name, b in buffers.items() if given[name] is not b}
        replaced.update(getattr(self.function, "replaced_buffers", ()))
        return value, [name for name, b in watched.items() if b._version != versions[name] or name in replaced]

    def linearize(self, x: Tensor, *lead: Any) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, ...]]]:
        """The value at x, and w -> the cotangents of the state and of every leaf.

        Raises:
            RuntimeError: where no graph is wanted, a value that depends on tensors that want gradients and are unknown.
        """
        inputs = (x, *self.leaves)
        if torch.is_grad_enabled():
            found = torch.func.vjp(lambda y, *leaves: self._evaluate(y, lead, leaves), *inputs)
            return found[0], found[1]
        with torch.enable_grad():
            found = torch.func.vjp(
                lambda y, *leaves: self._evaluate(y, lead, leaves), *(tensor.detach() for tensor in inputs)
            )
        if found[0].requires_grad:
            raise RuntimeError(self.undeclared)
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
        if forward_mode():
            # Where torch.autograd.forward_ad is at work torch.func.jvp cannot be called.
            return twice_transposed(lambda y: self(y, *lead), x)(v)
        tangent: Tensor = torch.func.jvp(lambda y: self(y, *lead), (x,), (v,))[1]
        return tangent

    def pushing(self, x: Tensor, *lead: Any) -> Callable[[Tensor], Tensor]:
        """The map v -> D_x v for many v at one x, without a graph; one evaluation for all of them where that can be."""
        if opaque() or forward_mode():
            return lambda v: self.pushforward(x, v, *lead)
        # What a leaf was computed from is no matter here, and may be long.
        plain = self
        if any(leaf.grad_fn is not None for leaf in self.leaves):
            plain = self.on([leaf.detach() for leaf in self.leaves])

        def record() -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                point = x.detach().requires_grad_()
                return plain(point, *lead), point

        return pushing(record, lambda v: plain.pushforward(x.detach(), v, *lead))

    def _evaluate(
        self,
        x: Tensor,
        lead: Sequence[Any],
        leaves: Sequence[Tensor] | None,
        buffers: dict[str, Tensor] | None = None,
    ) -> Tensor:
        value = self._function(x, lead, leaves, buffers)
        return x + value if self.plus_identity else value

    def _function(
        self, x: Tensor, lead: Sequence[Any], leaves: Sequence[Tensor] | None, buffers: dict[str, Tensor] | None
    ) -> Tensor:
        state = self.packing.unpack(x)
        if leaves is None:
            return self.packing.pack(self.function(*lead, state, *self.args), self.what)
        own, args = len(self._parameters), list(self.args)
        for k, value in zip(self._tensors, leaves[own:], strict=True):
            args[k] = value
        # The module's own parameters need not be put in their own place, which takes longer than a small module.
        same = not opaque() and not buffers
        same = same and all(leaf is p for leaf, p in zip(leaves[:own], self._parameters, strict=True))
        if same or not isinstance(self.function, nn.Module):
            return self.packing.pack(self.function(*lead, state, *args), self.what)
        given = {name: leaf for names, leaf in zip(self._names, leaves[:own], strict=True) for name in names}
        given |= buffers or {}
        # Not tied by torch: every place has been named, and a module that has two names would be left spoilt.
        value = torch.func.functional_call(self.function, given, (*lead, state, *args), tie_weights=False)
        # Torch writes back what the module has put in the place of a buffer.
        if buffers:
            buffers.update({name: given[name] for name in buffers})
        return self.packing.pack(value, self.what)


def twice_transposed(function: Callable[..., Tensor], *at: Tensor) -> Callable[..., Tensor]:
    """The derivative's product with tangents, as torch.func.jvp, by backward mode alone."""
    found = torch.func.vjp(function, *at)
    push = torch.func.vjp(found[1], torch.zeros_like(found[0]))[1]
    return lambda *tangents: push(tangents)[0]


def arguments(args: Any) -> tuple[Any, ...]:
    """What is passed on to a function, as a tuple.

    Raises:
        ValueError: a single argument, which would be taken apart.
    """
    if not isinstance(args, tuple | list):
        raise ValueError(
            f"args must be a tuple of what follows the state, such as args=(a,); got a {type(args).__name__}."
        )
    return tuple(args)


def _parameters_of(function: Any) -> tuple[list[Tensor], list[list[str]]]:
    """The parameters that train, each once, and the names of all the places where each stands."""
    if not isinstance(function, nn.Module):
        return [], []
    places: dict[Tensor, list[str]] = {}
    for prefix, module in function.named_modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if parameter.requires_grad:
                places.setdefault(parameter, []).append(f"{prefix}.{name}" if prefix else name)
    order = [p for p in function.parameters() if p.requires_grad]
    return list(order), [places[p] for p in order]


def _differentiable(value: Any) -> bool:
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())
