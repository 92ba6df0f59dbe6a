"""States of any shape, or tuples and dicts of tensors, as one matrix with a row for each independent state."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from cde_nets.door import numbers
from cde_nets.solver.opaque import surely_all, surely_finite


class Packing:
    """How a state stands in the solver: as (rows, numbers).

    The first axis counts the rows, which are solved independently of each other. A state whose tensors all have one
    axis or none is a single row, and so is any state that is coupled: its rows see each other and stop together.

    Args:
        example: a tensor, or tuples, lists and dicts of tensors of one dtype and device.
        coupled: the whole state is one row.

    Raises:
        ValueError: no tensor, a dtype that is neither floating nor complex, mixed dtypes or devices, or first axes
            that differ.
    """

    def __init__(self, example: Any, *, coupled: bool = False) -> None:
        leaves, self._spec = pytree.tree_flatten(example)
        if not leaves or not all(isinstance(leaf, Tensor) for leaf in leaves):
            found = ", ".join(sorted({type(leaf).__name__ for leaf in leaves})) or "nothing"
            raise ValueError(f"A state is a tensor, or a tuple or dict of tensors; got {found}.")
        first = leaves[0]
        if not (first.is_floating_point() or first.is_complex()):
            raise ValueError(f"A state must be floating point or complex; got {first.dtype}. Cast it: x.float().")
        numbers("The state", first)
        for leaf in leaves[1:]:
            if leaf.dtype != first.dtype or leaf.device != first.device:
                raise ValueError(
                    f"The tensors of a state must share dtype and device; got {first.dtype} on {first.device} and "
                    f"{leaf.dtype} on {leaf.device}."
                )
        self.shapes = [tuple(leaf.shape) for leaf in leaves]
        self.dtype, self.device = first.dtype, first.device
        self.single = coupled or all(len(shape) <= 1 for shape in self.shapes)
        if not self.single and len({shape[:1] for shape in self.shapes}) != 1:
            raise ValueError(
                f"The tensors of a batched state must have the same first axis; got shapes "
                f"{', '.join(map(str, self.shapes))}. If they form one state together, say coupled=True."
            )
        self.rows = 1 if self.single else self.shapes[0][0]
        self._sizes = [math.prod(shape if self.single else shape[1:]) for shape in self.shapes]
        self._plain = self._spec.is_leaf() and not self.single and len(self.shapes[0]) == 2
        axes = {len(shape) for shape in self.shapes}
        self._axes = axes.pop() if len(axes) == 1 else None

    def pack(self, state: Any, what: str = "The state") -> Tensor:
        """The state as (rows, numbers).

        Raises:
            ValueError: another structure, shape, dtype or device than the example's.
        """
        # What nearly every evaluation comes to: nothing is to be taken apart, nor said.
        if self._plain and isinstance(state, Tensor) and state.shape == self.shapes[0]:  # noqa: SIM102
            if state.dtype == self.dtype and state.device == self.device:
                return state
        leaves, spec = pytree.tree_flatten(state)
        if spec != self._spec:
            raise ValueError(f"{what} must be built as the initial state, {self._spec}; got {spec}.")
        for leaf, shape in zip(leaves, self.shapes, strict=True):
            if not isinstance(leaf, Tensor) or tuple(leaf.shape) != shape:
                got = f"shape {tuple(leaf.shape)}" if isinstance(leaf, Tensor) else f"a {type(leaf).__name__}"
                raise ValueError(f"{what} must have the state's shape {shape}; got {got}.")
            if leaf.dtype != self.dtype or leaf.device != self.device:
                raise ValueError(
                    f"{what} must be {self.dtype} on {self.device}, as the state is; got {leaf.dtype} on "
                    f"{leaf.device}. Cast the one or the other."
                )
        if self._plain:
            return leaves[0]  # type: ignore[no-any-return]
        flat = [leaf.reshape(self.rows, size) for leaf, size in zip(leaves, self._sizes, strict=True)]
        return flat[0] if len(flat) == 1 else torch.cat(flat, 1)

    def unpack(self, packed: Tensor) -> Any:
        """The state of (rows, numbers); axes before those two are kept in front of every tensor."""
        if self._plain:
            return packed
        front = packed.shape[:-2]
        parts = packed.split(self._sizes, dim=-1)
        leaves = [part.reshape((*front, *shape)) for part, shape in zip(parts, self.shapes, strict=True)]
        return pytree.tree_unflatten(leaves, self._spec)

    def time(self, t: Tensor) -> Tensor:
        """A time a row, (rows, 1), as the user's function sees it: shaped so that it broadcasts against the state."""
        if t.ndim == 0:
            return t
        if self.single:
            return t.reshape(())
        if t.shape[0] == 1:
            return t.reshape(())
        if self._axes is None:
            raise ValueError(
                "A time for each row does not broadcast against tensors with different numbers of axes "
                f"({', '.join(map(str, self.shapes))}). Take one step size for all rows, per_row=False; events happen "
                "to each row at a time of its own and need tensors with as many axes each: unsqueeze the smaller ones."
            )
        return t.reshape(-1, *[1] * (self._axes - 1))

    def lift(self, function: Callable[..., Any], what: str) -> Callable[..., Tensor]:
        """A function of states as one of packed states."""

        def lifted(x: Tensor, *rest: Any) -> Tensor:
            return self.pack(function(self.unpack(x), *rest), what)

        return lifted


# A table, as torch.compile does not see through dtype.to_real().
_PARTS = {torch.complex32: torch.float16, torch.complex64: torch.float32, torch.complex128: torch.float64}


def real(dtype: torch.dtype) -> torch.dtype:
    """The dtype of a complex number's parts; a real dtype is its own."""
    return _PARTS.get(dtype, dtype)


def as_real(z: Tensor) -> Tensor:
    """Packed states as real numbers: a complex number is two, for f need not be holomorphic."""
    return torch.view_as_real(z.resolve_conj()).flatten(1) if z.is_complex() else z


def as_state(x: Tensor, like: Tensor) -> Tensor:
    """What `as_real` made of a state, put back; axes in front are kept."""
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) if like.is_complex() else x


def finite_rows(x: Tensor) -> Tensor:
    """Whether all numbers of a row are finite, shape (rows,)."""
    if surely_finite(x):
        return torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
    # A finite number less itself is 0, all others NaN. Torch's maxima and infinity norm are several times slower.
    zero: Tensor = torch.linalg.vector_norm(x - x, dim=1)
    return zero == 0


def chosen(rows: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """The new states where rows say so, the old ones elsewhere."""
    # On the CPU torch.where takes as long as several sums.
    return new if surely_all(rows) else torch.where(rows[:, None], new, old)
