"""Calls of the compiled library for rows that choose their steps."""

from __future__ import annotations

import ctypes
import weakref
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cde_nets.autocast import without_autocast
from cde_nets.fields import Fields
from cde_nets.kernels.codes import RIDGE
from cde_nets.kernels.coverage import enabled
from cde_nets.kernels.cpu import by_products, checked, library
from cde_nets.kernels.families import Packed, packed
from cde_nets.kernels.native import available
from cde_nets.remembered import remembered
from cde_nets.solver.flow.controller import PIController
from cde_nets.solver.flow.tableau import Tableau

_SIZES = (
    *("size", "family", "is_double", "threads", "rows", "dim", "pieces", "stages", "fields", "terms", "most", "same"),
    *("keep", "evaluations"),
)
_NUMBERS = ("begin", "order", "proportional", "integral", "safety", "shrink", "grow", "first", "rtol", "atol")
_POINTERS = (
    *("ends", "a", "b", "error", "one", "two", "three", "u", "end", "accepted", "rejected", "status", "reached"),
    *("journey", "cotangent", "start", "moments"),
)


class _Adaptive(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in _SIZES),
        *((name, ctypes.c_double) for name in _NUMBERS),
        *((name, ctypes.c_void_p) for name in _POINTERS),
    ]


@dataclass(frozen=True)
class Rules:
    """How rows step; the plain version is `cde_nets.solver.flow.adaptive`.

    Attributes:
        tableau: with an embedded error estimate.
        controller: of the widths.
        times: the start, the breakpoints and the end.
        first_step: the first width; chosen for every row where None.
        rtol: of the scaled error.
        atol: likewise.
        max_steps: tries of a row.
    """

    tableau: Tableau
    controller: PIController
    times: tuple[float, ...]
    first_step: float | None
    rtol: float
    atol: float
    max_steps: int


class Arrived(NamedTuple):
    """Where rows are.

    Attributes:
        end: their states, shape (rows, dim).
        accepted: steps of each, int32, shape (rows,).
        rejected: likewise.
        status: a code of `Status` for each, int32, shape (rows,).
        time: how far each came, float64, shape (rows,).
        evaluations: of the row that took the most.
        journey: the steps, where they were to be kept.
    """

    end: Tensor
    accepted: Tensor
    rejected: Tensor
    status: Tensor
    time: Tensor
    evaluations: int
    journey: Journey | None


class Journey:
    """The steps that rows took, in the library's memory, which is given back with this object.

    Attributes:
        address: of the steps.
        threads: that share the rows.
    """

    def __init__(self, address: int, threads: int, *, double: bool) -> None:
        self.address, self.threads = address, threads
        weakref.finalize(self, library().cde_adaptive_free, int(double), ctypes.c_void_p(address))


def adaptive_family(fields: Fields, x: Tensor, controls: torch.dtype) -> Packed | None:
    """The family, where there is a kernel for it and these states and controls; else None."""
    if not enabled() or not available() or x.dtype not in (torch.float32, torch.float64):
        return None
    if not x.dtype == controls == fields.dtype or fields.device.type != "cpu":
        return None
    found = packed(fields)
    return None if found is None or by_products(found.family, found.coefficients) else found


@without_autocast
def forward(x: Tensor, values: Tensor, fields: Packed, rules: Rules, *, keep: bool) -> Arrived:
    """All steps of all rows.

    Args:
        x: initial states, shape (rows, dim), on the CPU.
        values: the control on each piece between breakpoints, shape (pieces, 1, count).
        fields: the family.
        rules: of the steps.
        keep: whether the steps are needed for a way back.
    """
    u = fields.drive(values).contiguous()
    call, given = _call(x.shape, u, fields, rules, torch.get_num_threads())
    call.threads = threads = library().cde_adaptive_threads(ctypes.byref(call))
    # Of its own: the kernel takes the states from where it puts them.
    end = x.clone(memory_format=torch.contiguous_format)
    accepted, rejected, status = x.new_zeros(3, len(x), dtype=torch.int32).unbind()
    reached = x.new_empty(len(x), dtype=torch.float64)
    call.keep, call.end, call.reached = keep, end.data_ptr(), reached.data_ptr()
    call.accepted, call.rejected, call.status = accepted.data_ptr(), rejected.data_ptr(), status.data_ptr()
    code = library().cde_adaptive_forward(ctypes.byref(call))
    del given
    journey = Journey(call.journey, threads, double=x.dtype == torch.float64) if call.journey else None
    checked(code)
    return Arrived(end, accepted, rejected, status, reached, call.evaluations, journey)


@without_autocast
def backward(
    cotangent: Tensor, values: Tensor, fields: Packed, rules: Rules, journey: Journey
) -> tuple[Tensor, Tensor]:
    """The cotangents of x and of the control's values."""
    u = fields.drive(values).contiguous()
    call, given = _call(cotangent.shape, u, fields, rules, journey.threads)
    cotangent = cotangent.contiguous()
    slab = library().cde_adaptive_slab(ctypes.byref(call))
    moments, start = cotangent.new_empty(journey.threads * slab), torch.empty_like(cotangent)
    call.journey, call.cotangent = journey.address, cotangent.data_ptr()
    call.start, call.moments = start.data_ptr(), moments.data_ptr()
    checked(library().cde_adaptive_backward(ctypes.byref(call)))
    del given
    # The answer stands in front; the features' axis is padded to whole vectors.
    last = u.shape[-1] if fields.family == RIDGE else slab // u[..., 0].numel()
    found = moments[: u[..., 0].numel() * last].view(*u.shape[:-1], last)[..., : u.shape[-1]]
    return start, fields.moments(found)


def steps(journey: Journey, accepted: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The steps in order, shape (steps, rows): their widths, 0 after the last, and the pieces they lie in, int64.

    Rows that failed have none.
    """
    most = int(accepted.max())
    widths, pieces = (accepted.new_zeros(most, len(accepted), dtype=kind) for kind in (dtype, torch.int64))
    library().cde_adaptive_steps(
        int(dtype == torch.float64),
        ctypes.c_void_p(journey.address),
        ctypes.c_void_p(accepted.data_ptr()),
        ctypes.c_void_p(widths.data_ptr()),
        ctypes.c_void_p(pieces.data_ptr()),
    )
    return widths, pieces


def _call(
    shape: tuple[int, ...], u: Tensor, fields: Packed, rules: Rules, threads: int
) -> tuple[_Adaptive, list[Tensor]]:
    """The call without its states, and what must live as long as it."""
    tableau, controller, numbers = rules.tableau, rules.controller, _numbers(rules.tableau, rules.times)
    stages, at = tableau.stages, numbers.data_ptr()
    ends, a, b = at, at + 8 * (len(rules.times) - 1), at + 8 * (len(rules.times) - 1 + stages * stages)
    given = [c.contiguous() for c in fields.coefficients]
    pointers = [c.data_ptr() for c in given]
    ridge = fields.family == RIDGE
    assert tableau.error is not None
    assert tableau.error_order is not None
    call = _Adaptive(
        ctypes.sizeof(_Adaptive),
        fields.family,
        u.dtype == torch.float64,
        threads,
        *shape,
        len(rules.times) - 1,
        stages,
        len(fields.coefficients[0]) if ridge else 0,
        fields.coefficients[2].shape[1] if ridge else u.shape[-1],
        rules.max_steps,
        # Only where an error is never finite that has a slope in it which is not.
        tableau.fsal and tableau.error[-1] != 0,
        0,
        0,
        rules.times[0],
        min(tableau.error_order, tableau.order) + 1,
        controller.proportional,
        controller.integral,
        controller.safety,
        controller.shrink,
        controller.grow,
        0.0 if rules.first_step is None else rules.first_step,
        rules.rtol,
        rules.atol,
        ends,
        a,
        b,
        b + 8 * stages,
        *pointers,
        *[None] * (3 - len(pointers)),
        u.data_ptr(),
    )
    return call, [numbers, *given]


@remembered
def _numbers(tableau: Tableau, times: tuple[float, ...]) -> Tensor:
    """The ends of the pieces, and the tableau: a, b, error."""
    s = tableau.stages
    assert tableau.error is not None
    rows = [[*row, *[0.0] * (s - len(row))] for row in (*tableau.a, tableau.b, tableau.error)]
    return torch.tensor([*times[1:], *(w for row in rows for w in row)], dtype=torch.float64, device="cpu")
