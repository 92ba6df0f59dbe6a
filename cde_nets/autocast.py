"""Under torch.autocast solves are in full precision, as torch's linear algebra is.

An iteration in which some products are rounded to eight bits does not come to rest, steps are no longer those of their
method, and the way back, which runs outside of autocast, would be that of other steps than were taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Given = ParamSpec("Given")
Result = TypeVar("Result")

_HALF = (torch.float16, torch.bfloat16)


def autocast_on(kind: str) -> bool:
    """Whether autocast is on for a kind of device; not every kind has it: meta has not."""
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


@contextmanager
def no_autocast(*kinds: str) -> Iterator[None]:
    """No autocast within."""
    on = [kind for kind in kinds if autocast_on(kind)]
    if not on:
        yield
        return
    with ExitStack() as stack:
        for kind in on:
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def without_autocast(call: Callable[Given, Result]) -> Callable[Given, Result]:
    """The function without autocast: kernels read numbers of the dtype that they were promised."""

    @wraps(call)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        if not (autocast_on("cpu") or autocast_on("cuda")):
            return call(*args, **kwargs)
        with no_autocast("cpu", "cuda"):
            return call(*args, **kwargs)

    return run


@contextmanager
def full_precision(*trees: Any) -> Iterator[tuple[Any, ...]]:
    """Where autocast is on, the trees with half-precision tensors as float32, and none within; else as they are."""
    kinds = {leaf.device.type for leaf in pytree.tree_leaves(trees) if isinstance(leaf, Tensor)}
    if not any(map(autocast_on, kinds)):
        yield trees
        return
    with no_autocast(*sorted(kinds)):
        yield pytree.tree_map(lambda t: t.float() if isinstance(t, Tensor) and t.dtype in _HALF else t, trees)
