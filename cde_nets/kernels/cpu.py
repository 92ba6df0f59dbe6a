"""Calls of the compiled library on tensors of the CPU."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from cde_nets.kernels import products
from cde_nets.kernels.codes import FEATURES, IMAGES, RIDGE
from cde_nets.kernels.native import native

_SIZES = (
    *("size", "family", "is_double", "threads", "rows", "dim", "steps", "stages", "every", "held", "fields", "terms"),
)
_POINTERS = ("widths", "a", "b", "first", "second", "third", "x", "u", "end", "accepted", "kept", "cotangent", "start")


class _Flow(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in _SIZES),
        *((name, ctypes.c_void_p) for name in (*_POINTERS, "moments")),
    ]


# Ridge fields whose matrices have more numbers than this are left to the library's matrix products, which block for
# the outer caches: measured by `python -m benchmarks.crossover`.
MOST_NUMBERS = 7 * 384 * 384


def by_products(family: int, coefficients: Sequence[Tensor]) -> bool:
    """Whether the fields are too large for a tile of rows."""
    return family == RIDGE and coefficients[0].numel() > MOST_NUMBERS


# Pre-activations of ridge fields are held from the way there where they take no more bytes than the outer caches, and
# an allocator that keeps its pages, have: as above.
MOST_HELD = 2**25


def holds(x: Tensor, coefficients: Sequence[Tensor], family: int, widths: Tensor, tableau: Tensor, every: int) -> bool:
    """Whether the way back is given all pre-activations instead of states."""
    if family != RIDGE or every > 1:
        return False
    numbers = x.numel() * len(coefficients[0]) * len(widths) * tableau.shape[1]
    return numbers * x.element_size() <= MOST_HELD


def kept_numbers(
    x: Tensor, coefficients: Sequence[Tensor], family: int, widths: Tensor, tableau: Tensor, every: int
) -> int:
    """How many numbers a way back needs: rows are kept in whole tiles."""
    rows, dim = x.shape
    steps = widths.shape[0]
    if by_products(family, coefficients):
        return products.kept_numbers(rows, coefficients[1].shape[0], dim, tableau.shape[1], steps, every)
    tile = native().tiles[x.dtype == torch.float64]
    tiled = -(-rows // tile) * tile
    if holds(x, coefficients, family, widths, tableau, every):
        # Matrices have an even number of rows there.
        return tiled * steps * tableau.shape[1] * len(coefficients[0]) * (dim + dim % 2)
    if family == IMAGES and bool(coefficients[1][-1]):
        # Spheres: the end too, and a number for each step and row.
        return tiled * ((steps + 1) * dim + steps)
    return tiled * -(-steps // every) * dim


def forward(
    x: Tensor,
    u: Tensor,
    coefficients: Sequence[Tensor],
    family: int,
    widths: Tensor,
    tableau: Tensor,
    every: int,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """As the operator `cde_nets::flow`."""
    if by_products(family, coefficients):
        return products.forward(x, u, coefficients, widths, tableau, every, keep=keep)
    flow, given = _flow(x, u, coefficients, family, widths, tableau, every)
    x, end = x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format)
    accepted = x.new_empty(x.shape[0], dtype=torch.int32)
    kept = x.new_empty(kept_numbers(x, coefficients, family, widths, tableau, every) if keep else 0)
    flow.x, flow.end, flow.accepted = x.data_ptr(), end.data_ptr(), accepted.data_ptr()
    flow.kept = kept.data_ptr() if keep else None
    checked(library().cde_flow_forward(ctypes.byref(flow)))
    del given
    return end, accepted, kept


def backward(
    cotangent: Tensor,
    u: Tensor,
    coefficients: Sequence[Tensor],
    family: int,
    widths: Tensor,
    tableau: Tensor,
    every: int,
    kept: Tensor,
    accepted: Tensor,
    start_wanted: bool,
) -> tuple[Tensor, Tensor]:
    """As the operator `cde_nets::flow_backward`."""
    if by_products(family, coefficients):
        return products.backward(cotangent, u, coefficients, widths, tableau, every, kept, accepted, start_wanted)
    flow, given = _flow(cotangent, u, coefficients, family, widths, tableau, every)
    cotangent = cotangent.contiguous()
    it = ctypes.byref(flow)
    slab = library().cde_flow_slab(it)
    moments = cotangent.new_empty(library().cde_flow_threads(it) * slab)
    start = torch.empty_like(cotangent) if start_wanted else cotangent.new_empty(0)
    flow.kept, flow.accepted, flow.cotangent = kept.data_ptr(), accepted.data_ptr(), cotangent.data_ptr()
    flow.start, flow.moments = start.data_ptr() if start_wanted else None, moments.data_ptr()
    checked(library().cde_flow_backward(it))
    del given
    # The answer stands in front; of shared features the last axis is padded to whole vectors.
    if family == FEATURES:
        return start, moments[:slab].view(*u.shape[:-1], -1)[..., : u.shape[-1]]
    return start, moments[: u.numel()].view(u.shape)


def library() -> ctypes.CDLL:
    """The compiled library.

    Raises:
        RuntimeError: there is none.
    """
    found = native().library
    if found is None:
        raise RuntimeError(f"The CPU kernels are {native().description}")
    return found


def _flow(
    x: Tensor,
    u: Tensor,
    coefficients: Sequence[Tensor],
    family: int,
    widths: Tensor,
    tableau: Tensor,
    every: int,
) -> tuple[_Flow, list[Tensor]]:
    """The call without its states, and what must live as long as it."""
    u, given = u.contiguous(), [c.contiguous() for c in coefficients]
    stages, pointers = tableau.shape[1], [c.data_ptr() for c in given] + [None] * (3 - len(given))
    a = tableau.data_ptr()
    flow = _Flow(
        ctypes.sizeof(_Flow),
        family,
        u.dtype == torch.float64,
        torch.get_num_threads(),
        *x.shape,
        len(widths),
        stages,
        every,
        holds(x, coefficients, family, widths, tableau, every),
        len(coefficients[0]) if family == RIDGE else 0,
        coefficients[2].shape[1] if family == RIDGE else u.shape[-1],
        widths.data_ptr(),
        a,
        a + tableau.element_size() * stages * stages,
        *pointers,
        None,
        u.data_ptr(),
    )
    return flow, [u, *given]


def checked(code: int) -> None:
    """Raise what a call's answer says."""
    if code == 1:
        raise MemoryError("The CPU kernel found no memory for its tiles; fewer rows at once need less.")
    if code == 3:
        raise ValueError("The CPU kernels take methods of at most 16 stages; RungeKutta has none of more.")
    if code:
        raise RuntimeError("The CPU kernels were built from another version of cde-nets: install it again.")
