"""A gradient that would be lost is refused: what a field closes over must be declared."""

from __future__ import annotations

import torch
from torch import Tensor

from cde_nets.solver.dynamics import Called, Dynamics, Moment, Sum, WithLogDeterminant
from cde_nets.solver.initial_value import InitialValueProblem


def check_declared(problem: InitialValueProblem) -> None:
    """Refuse a field that depends on tensors wanting gradients which are neither its parameters nor its args.

    It costs one evaluation of a user's function; nothing is checked while torch.compile or torch.func transform.

    Raises:
        ValueError: such a tensor; the message says how to declare it.
    """
    if transforming():
        return
    for part in _called(problem.dynamics):
        # A flow with its log-determinant has the plain state first.
        state = problem.x0 if part.function.packing.shapes == problem.packing.shapes else problem.x0[0]
        x = part.function.packing.pack(state).detach()
        t = torch.full((1, 1), problem.t0, dtype=torch.float64, device=x.device)
        with torch.enable_grad():
            value = part.velocity(x, Moment(0, 0, t, t))
        hidden = undeclared(value, part.leaves)
        if hidden:
            shapes = ", ".join(str(tuple(leaf.shape)) for leaf in hidden[:3])
            raise ValueError(
                f"The field depends on {len(hidden)} tensor(s) that want a gradient (shapes {shapes}) and that it was "
                "not given: this gradient would lose them. Make the field an nn.Module that holds them, pass them in "
                "args=(..) as f(t, x, *args), or take gradient=Autograd()."
            )


def transforming() -> bool:
    """Whether torch.compile or torch.func are at work: then tensors hold no numbers to look at."""
    return torch.compiler.is_compiling() or torch._C._functorch.maybe_current_level() is not None


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


def _called(dynamics: Dynamics) -> list[Called]:
    if isinstance(dynamics, Called):
        return [dynamics]
    if isinstance(dynamics, WithLogDeterminant):
        return _called(dynamics.inner)
    return [part for inner in dynamics.parts for part in _called(inner)] if isinstance(dynamics, Sum) else []
