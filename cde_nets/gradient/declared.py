"""What would make a gradient wrong without a word is refused: hidden tensors, random numbers, buffers that change."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from cde_nets.solver.dynamics import Called, Controlled, Dynamics, Sum, WithLogDeterminant
from cde_nets.solver.function import PackedFunction
from cde_nets.solver.initial_value import InitialValueProblem
from cde_nets.solver.opaque import opaque
from cde_nets.solver.states import real


def check_frozen(problem: InitialValueProblem) -> None:
    """Refuse families of which something wants a gradient: all gradients but autograd's know the control alone.

    Raises:
        ValueError: it is named.
    """
    if torch.compiler.is_compiling():
        # The walk over a family's tensors would break the graph.
        return
    controlled = [part for part in _parts(problem.dynamics) if isinstance(part, Controlled)]
    for family in dict.fromkeys(family for part in controlled for family in part.families):
        for name, tensor in (*family.named_buffers(), *family.named_parameters()):
            if tensor.requires_grad:
                raise ValueError(
                    f"The {name} of {type(family).__name__} wants a gradient, but the fields of a controlled ODE are "
                    "frozen: this gradient would lose it. Take gradient=Autograd(), or a module f(t, x) of your own in "
                    f"an InitialValueProblem; {name}.requires_grad_(False) freezes it again."
                )


def check_declared(problem: InitialValueProblem) -> None:
    """Refuse a field that the gradient would not be right for; it costs one evaluation of a user's function.

    Raises:
        ValueError: as `examine`.
    """
    for part in _parts(problem.dynamics):
        if not isinstance(part, Called):
            continue
        # A flow with its log-determinant has the plain state first.
        state = problem.x0 if part.function.packing.shapes == problem.packing.shapes else problem.x0[0]
        x = part.function.packing.pack(state)
        t = torch.full((), problem.t0, dtype=real(x.dtype), device=x.device)
        examine(part.function, x, t, call="f(t, x, *args)", instead="Autograd()")


def examine(function: PackedFunction, x: Tensor, *lead: Any, call: str, instead: str, repeated: bool = True) -> Tensor:
    """Look at one evaluation of a user's function for what a gradient that evaluates it again would miss.

    Args:
        function: the user's.
        x: a packed state.
        *lead: what it is given before the state.
        call: how the function is called, for messages.
        instead: a gradient that has none of these limits.
        repeated: the gradient evaluates the function again where it has been evaluated before.

    Returns:
        The packed value, which has no graph.

    Raises:
        ValueError: the function depends on tensors that want gradients and that it was not given, a detached copy of
            its state among them, draws random numbers, or changes its buffers.
    """
    with Randomness(x.device) as randomness:
        value, changed = function.apart(x.detach(), *lead)
        hidden = before = undeclared(value, ())
        if value.requires_grad and not opaque():
            # A function that differentiates by its state makes it want a gradient, where it does not: here it does.
            at = x.detach().requires_grad_()
            seen = function.apart(at, *lead)[0]
            # What is no one's result is a tensor of the function's own.
            hidden = undeclared(seen, (at,)) if seen.grad_fn is not None or seen is at else [seen]
            value = value if hidden else value.detach()
    called = f" as {call}" if "args" in function.declare else ""
    # A copy is made anew at every evaluation.
    fresh = [h for h in hidden if all(h is not known for known in before)]
    if any(h.numel() == x.numel() and torch.equal(h.flatten(), x.flatten()) for h in fresh):
        raise ValueError(
            f"{function.who} differentiates by a detached copy of its state, and no gradient goes through that: where "
            "the state x wants a gradient take x itself, x = x if x.requires_grad else x.detach().requires_grad_(), "
            "or differentiate by torch.func.grad."
        )
    if value.requires_grad:
        found = f"{len(hidden)} tensor(s) (shapes {', '.join(str(tuple(h.shape)) for h in hidden[:3])})"
        raise ValueError(
            f"{function.who} depends on {found if hidden else 'tensors'} that want a gradient and that it was not "
            f"given: this gradient would lose them. Make it an nn.Module that holds them, {function.declare}{called}, "
            f"or take {function.choose}={instead}."
        )
    if randomness.drawn and repeated:
        raise ValueError(
            f"{function.who} depends on random numbers (dropout?), and the way back would draw others. Put the module "
            f"in eval mode, draw the numbers before and {function.declare}, or take {function.choose}={instead}."
        )
    if changed and repeated:
        raise ValueError(
            f"{function.who} changes buffers of its module ({', '.join(changed[:3])}; batch normalisation in train "
            f"mode?), and the way back would change them again. Put the module in eval mode, or take "
            f"{function.choose}={instead}."
        )
    return value


class Randomness:
    """Whether torch's generators are used within; they are put back to where they were.

    Attributes:
        drawn: so it is.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self.drawn = device, False
        self._states: tuple[Tensor, ...] = ()

    def __enter__(self) -> Randomness:
        # Under a transform random numbers are the transform's business, and generators cannot be read.
        self._states = () if opaque() else self._read()
        return self

    def __exit__(self, *error: object) -> None:
        if not self._states:
            return
        self.drawn = any(_bytes(one) != _bytes(two) for one, two in zip(self._states, self._read(), strict=True))
        if self.drawn:
            torch.set_rng_state(self._states[0])
            if len(self._states) > 1:
                torch.cuda.set_rng_state(self._states[1], self._device)

    def _read(self) -> tuple[Tensor, ...]:
        cpu = torch.get_rng_state()
        return (cpu, torch.cuda.get_rng_state(self._device)) if self._device.type == "cuda" else (cpu,)


def _bytes(state: Tensor) -> bytes:
    # Generators' states lie on the host: comparing them as tensors would look like waiting for a device.
    return ctypes.string_at(state.data_ptr(), state.numel())


def undeclared(value: Tensor, declared: tuple[Tensor, ...]) -> list[Tensor]:
    """The leaves of value's graph that are not declared, the graph behind a declared tensor left alone."""
    if value.grad_fn is None:
        return []
    known = {id(tensor) for tensor in declared}
    behind = {tensor.grad_fn for tensor in declared if tensor.grad_fn is not None}
    found: list[Tensor] = []
    todo, seen = [value.grad_fn], set()
    while todo:
        node = todo.pop()
        if node in seen or node in behind:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if isinstance(variable, Tensor) and id(variable) not in known:
            found.append(variable)
        todo += [following for following, _ in node.next_functions if following is not None]
    return found


def _parts(dynamics: Dynamics) -> list[Dynamics]:
    """What a right-hand side is the sum of."""
    if isinstance(dynamics, WithLogDeterminant):
        return _parts(dynamics.inner)
    return [part for inner in dynamics.parts for part in _parts(inner)] if isinstance(dynamics, Sum) else [dynamics]
