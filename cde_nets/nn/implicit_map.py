"""f(x, z) as a function of z and tensors: what a fixed-point problem wants of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree


def stated(
    f: Callable[[Any, Any], Any], x: Any, dtype: torch.dtype | None
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The function and the args of a `FixedPointProblem` for z = f(x, z).

    Args:
        f: a function or a module.
        x: a tensor, or tuples and dicts of anything.
        dtype: to which all floating tensors are cast that f is given or has; as they are where None.
    """
    parts, spec = pytree.tree_flatten(cast(x, dtype))
    if dtype is None or not isinstance(f, nn.Module):
        return Map(f, spec), tuple(parts)
    own = _own(f)
    # Cast once, not at every evaluation; tied parameters stay tied, as each has its own graph to the same one.
    buffers = {name: k for k, (name, tensor) in enumerate(own.items()) if not isinstance(tensor, nn.Parameter)}
    return CastMap(f, spec, tuple(own), buffers), (*cast(list(own.values()), dtype), *parts)


def _own(f: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, one name for every place: a module with two names is left spoilt by two."""
    found: dict[str, Tensor] = {}
    for prefix, module in f.named_modules():
        for name, tensor in (
            *module.named_parameters(recurse=False, remove_duplicate=False),
            *module.named_buffers(recurse=False, remove_duplicate=False),
        ):
            found[f"{prefix}.{name}" if prefix else name] = tensor
    return found


def cast(tree: Any, dtype: torch.dtype | None) -> Any:
    """All floating tensors in dtype, with a graph back to what they were; everything else as it is."""
    if dtype is None:
        return tree
    return pytree.tree_map(lambda t: t.to(dtype) if isinstance(t, Tensor) and t.is_floating_point() else t, tree)


class Map(nn.Module):
    """(z, *parts of x) -> f(x, z). A module, so that the solver sees what trains in f where f is one."""

    def __init__(self, f: Callable[[Any, Any], Any], spec: pytree.TreeSpec) -> None:
        super().__init__()
        self.f, self.spec = f, spec

    def forward(self, z: Any, *parts: Any) -> Any:
        """f(x, z)."""
        return self.f(pytree.tree_unflatten(parts, self.spec), z)


class CastMap:
    """(z, *tensors of f, *parts of x) -> f(x, z) with these tensors in the place of f's own.

    Attributes:
        given_buffers: which of these tensors, by name and number, f may change.
        replaced_buffers: the names of those that it has put others in the place of, when it was called last.
    """

    def __init__(self, f: nn.Module, spec: pytree.TreeSpec, names: tuple[str, ...], buffers: Mapping[str, int]) -> None:
        self.f, self.spec, self.names, self.given_buffers = f, spec, names, buffers
        self.replaced_buffers: list[str] = []

    def __call__(self, z: Any, *given: Any) -> Any:
        """f(x, z)."""
        own = dict(zip(self.names, given, strict=False))
        x = pytree.tree_unflatten(given[len(self.names) :], self.spec)
        value = torch.func.functional_call(self.f, own, (x, z), tie_weights=False)
        # Torch writes back what f has put in the place of what it was given.
        self.replaced_buffers = [name for name, k in self.given_buffers.items() if own[name] is not given[k]]
        return value
