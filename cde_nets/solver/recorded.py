"""Products with the derivative of a value that autograd has recorded."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]


def pushing(record: Callable[[], tuple[Tensor, Tensor]], instead: Product) -> Product:
    """The map v -> D v, D the derivative of a recorded value at a point; nothing is done before the first product.

    w -> D^T w is linear, and its graph stands once it has been recorded: to pull v back through it is D v. That takes a
    third of torch.func.jvp's time or less, which evaluates the function anew for every v and carries zero tangents
    of everything else that it depends on.

    Args:
        record: gives the value, its graph kept, and the point, a leaf.
        instead: makes the same products, for a graph that cannot be trusted with them: one that holds a Python or C++
            function with a backward of its own, which may have no derivative and then gives zeros without a word, or
            an operator whose backward torch cannot differentiate.
    """
    push: Product | None = None

    def product(v: Tensor) -> Tensor:
        nonlocal push
        if push is None:
            push = _twice(*record()) or instead
        return push(v)

    return product


def _twice(value: Tensor, point: Tensor) -> Product | None:
    if value.grad_fn is None or not _all_torchs(value.grad_fn):
        return None
    with torch.enable_grad():
        w = torch.zeros_like(value, requires_grad=True)
    try:
        pulled = torch.autograd.grad(
            value, point, w, create_graph=True, retain_graph=True, allow_unused=True, materialize_grads=True
        )[0]
        if not pulled.requires_grad:
            # The value does not depend on the point.
            return torch.zeros_like

        def push(v: Tensor) -> Tensor:
            return torch.autograd.grad(pulled, w, v, retain_graph=True, allow_unused=True, materialize_grads=True)[0]

        # A backward without a derivative says so when that is asked for.
        push(torch.zeros_like(point))
    except RuntimeError:
        return None
    return push


def _all_torchs(last: torch.autograd.graph.Node) -> bool:
    """Whether every step of a graph is one of torch's own."""
    todo, seen = [last], {last}
    while todo:
        node = todo.pop()
        if isinstance(node, torch.autograd.function.BackwardCFunction) or "CppNode" in node.name():
            return False
        following = [step for step, _ in node.next_functions if step is not None and step not in seen]
        seen.update(following)
        todo += following
    return True
